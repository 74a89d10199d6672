"""Starts the node `segment`; with `bag` also plays a recording, with `rviz` also shows the labelled clouds.

ros2 launch twodpass_ros segment.launch.py points:=/velodyne_points rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import Condition, LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from twodpass_ros.dds_settings import large_cloud_settings
from twodpass_ros.launch_parameters import node_with_arguments


def generate_launch_description():
    config = Path(get_package_share_directory("twodpass_ros"), "config")

    arguments = [
        ("namespace", "", "Namespace of the nodes and their topics."),
        (
            "use_sim_time",
            "",
            "Take the time from /clock, as with a played bag: true or false. Empty: as in params_file.",
        ),
        ("params_file", str(config / "segment.yaml"), "Parameters of the node (YAML)."),
        ("autostart", "", "Configure and activate the node at start: true or false. Empty: as in params_file."),
        ("use_respawn", "false", "Start the node again when it ends unexpectedly."),
        ("log_level", "info", "debug, info, warn, error or fatal."),
        ("weights", "", "Weights file (.safetensors). Empty: as in params_file."),
        ("device", "", "auto, cpu, cuda or cuda:N. Empty: as in params_file."),
        ("precision", "", "fp32, bf16 or fp16. Empty: as in params_file."),
        ("points", "~/input/points", "Topic of the point clouds to label."),
        ("bag", "", "Bag to play, with its /clock, as soon as the node is active. Empty: none."),
        ("rviz", "false", "Show the labelled clouds in RViz."),
        ("rviz_frame", "velodyne", "RViz's fixed frame: the frame_id of the clouds, or a frame that tf knows."),
    ]
    value = {name: LaunchConfiguration(name) for name, _, _ in arguments}

    rviz = node_with_arguments(
        {"use_sim_time": bool},
        package="rviz2",
        executable="rviz2",
        namespace=value["namespace"],
        name="rviz",
        arguments=["-d", str(config / "segment.rviz"), "-f", value["rviz_frame"]],
        condition=IfCondition(value["rviz"]),
    )
    segment = node_with_arguments(
        {"use_sim_time": bool, "autostart": bool, "weights": str, "device": str, "precision": str},
        package="twodpass_ros",
        executable="segment",
        namespace=value["namespace"],
        name="segment",
        output="screen",
        respawn=value["use_respawn"],
        respawn_delay=2.0,
        remappings=[("~/input/points", value["points"])],
        ros_arguments=["--log-level", value["log_level"]],
    )
    play = ["ros2", "bag", "play", value["bag"], "--clock"]
    play_when_active = Node(
        executable="python3",
        arguments=["-m", "twodpass_ros.wait_until_active", "segment", *play],
        namespace=value["namespace"],
        exec_name="bag",
        output="screen",
        condition=Condition(predicate=lambda context: value["bag"].perform(context) != ""),
    )
    large_clouds = [  # your own settings go first
        SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=default))
        for name, default in large_cloud_settings(config).items()
    ]

    return LaunchDescription(
        [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in arguments]
        # RViz first: where it is not installed, launch gives up, and leaves behind what it had started.
        + [*large_clouds, rviz, segment, play_when_active]
    )
