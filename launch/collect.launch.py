"""Starts the node `collect`, which records sets of a scan and images to bags.

ros2 launch twodpass_ros collect.launch.py points:=/velodyne_points images:="[/front/image_raw]" folder:=$HOME/bags
"""

from pathlib import Path
from typing import List  # noqa: UP035 Humble's launch knows list[str] by this name only

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration

from twodpass_ros.dds_settings import large_cloud_settings
from twodpass_ros.launch_parameters import node_with_arguments


def generate_launch_description():
    config = Path(get_package_share_directory("twodpass_ros"), "config")

    arguments = [
        ("namespace", "", "Namespace of the node and its topics."),
        (
            "use_sim_time",
            "",
            "Take the time from /clock, as with a played bag: true or false. Empty: as in params_file.",
        ),
        ("params_file", str(config / "collect.yaml"), "Parameters of the node (YAML)."),
        (
            "autostart",
            "",
            "Record as soon as nothing stands against it, or wait for the service ~/start: true or false. "
            "Empty: as in params_file.",
        ),
        ("use_respawn", "false", "Start the node again when it ends unexpectedly."),
        ("log_level", "info", "debug, info, warn, error or fatal."),
        ("points", "~/input/points", "Topic of the point clouds to record."),
        ("images", "", "Topics of the images, as in [/front/image_raw, /left/image_raw]. Empty: as in params_file."),
        ("odometry", "", "Topic of the odometry. Empty: as in params_file."),
        ("folder", "", "Folder of the bags. Empty: as in params_file."),
    ]
    value = {name: LaunchConfiguration(name) for name, _, _ in arguments}

    collect = node_with_arguments(
        {"use_sim_time": bool, "autostart": bool, "images": List[str], "odometry": str, "folder": str},  # noqa: UP006
        package="twodpass_ros",
        executable="collect",
        namespace=value["namespace"],
        name="collect",
        output="screen",
        respawn=value["use_respawn"],
        respawn_delay=2.0,
        remappings=[("~/input/points", value["points"])],
        ros_arguments=["--log-level", value["log_level"]],
        sigterm_timeout="30",  # a slow disk may need so long to take the end of the recording
        sigkill_timeout="30",
    )
    large_clouds = [  # your own settings go first
        SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=default))
        for name, default in large_cloud_settings(config).items()
    ]

    return LaunchDescription(
        [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in arguments]
        + [*large_clouds, collect]
    )
