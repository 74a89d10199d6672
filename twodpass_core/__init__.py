"""twodpass: LiDAR semantic segmentation, trained with camera images, deployed without a camera.

No ROS is imported here or below.
"""

__version__ = "0.1.0"
