"""ROS 2's names of the message types that are recorded and read."""

from typing import Final

POINT_CLOUD: Final = "sensor_msgs/msg/PointCloud2"
IMAGE: Final = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE: Final = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO: Final = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE: Final = "tf2_msgs/msg/TFMessage"
ODOMETRY: Final = "nav_msgs/msg/Odometry"
