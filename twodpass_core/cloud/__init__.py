"""PointCloud2 to numpy and back, for any object with that message's attributes: rclpy's, rosbags', `CloudData`.

layout.py says what a cloud is made of, validation.py finds everything a message can get wrong, codec.py reads points
and adds labels. The message's buffer is read in place and never written to.
"""

from twodpass_core.cloud.codec import INTENSITY_NAMES, NO_INTENSITY, label_cloud, make_cloud, read_points
from twodpass_core.cloud.layout import CloudData, CloudView, Datatype, PointFieldSpec
from twodpass_core.cloud.validation import view_cloud

__all__ = [
    "INTENSITY_NAMES",
    "NO_INTENSITY",
    "CloudData",
    "CloudView",
    "Datatype",
    "PointFieldSpec",
    "label_cloud",
    "make_cloud",
    "read_points",
    "view_cloud",
]
