"""ROS 2 bags of any recorder: found, checked, indexed, and read as frames. No ROS installation is needed."""

from twodpass_core.data.bags.clouds import CloudTopic, open_clouds, read_cloud
from twodpass_core.data.bags.finding import bags_in, is_bag, open_each, refuse_ros1

__all__ = ["CloudTopic", "bags_in", "is_bag", "open_clouds", "open_each", "read_cloud", "refuse_ros1"]
