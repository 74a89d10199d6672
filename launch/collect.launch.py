"""Starts the node `collect`, which records sets of a scan and images to bags.

ros2 launch twodpass_ros collect.launch.py points:=/velodyne_points images:="[/front/image_raw]" folder:=$HOME/bags
"""

import os
from typing import List  # noqa: UP035 Humble's launch knows list[str] by this name only

from ament_index_python.packages import get_package_share_directory
from launch import Condition, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace, SetParameter, SetParametersFromFile
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description():
    config = os.path.join(get_package_share_directory("twodpass_ros"), "config")

    arguments = [
        ("namespace", "", "Namespace of the node and its topics."),
        ("use_sim_time", "false", "Take the time from /clock, which a played bag publishes."),
        ("params_file", os.path.join(config, "collect.yaml"), "Parameters of the node (YAML)."),
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

    def is_given(name):
        return Condition(predicate=lambda context: value[name].perform(context) != "")

    def text(name):
        return SetParameter(name, ParameterValue(value[name], value_type=str), condition=is_given(name))

    collect = GroupAction(
        [
            PushRosNamespace(value["namespace"]),
            SetParametersFromFile(value["params_file"]),
            SetParameter("use_sim_time", value["use_sim_time"]),
            SetParameter("autostart", value["autostart"], condition=is_given("autostart")),
            SetParameter("images", ParameterValue(value["images"], value_type=List[str]), condition=is_given("images")),  # noqa: UP006
            text("odometry"),
            text("folder"),
            Node(
                package="twodpass_ros",
                executable="collect",
                name="collect",
                output="screen",
                respawn=value["use_respawn"],
                respawn_delay=2.0,
                remappings=[("~/input/points", value["points"])],
                ros_arguments=["--log-level", value["log_level"]],
                sigterm_timeout="30",  # a slow disk may need so long to take the end of the recording
                sigkill_timeout="30",
            ),
        ]
    )

    # Room for clouds in either DDS; your own settings go first. Later distributions warn of Fast DDS's older name.
    older = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
    profile = "FASTRTPS_DEFAULT_PROFILES_FILE" if older else "FASTDDS_DEFAULT_PROFILES_FILE"
    settings = {
        profile: os.path.join(config, "fastdds.xml"),
        "CYCLONEDDS_URI": "file://" + os.path.join(config, "cyclonedds.xml"),
    }
    large_clouds = [
        SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=default))
        for name, default in settings.items()
    ]

    return LaunchDescription(
        [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in arguments]
        + [*large_clouds, collect]
    )
