"""The launch files against the real launch and launch_ros."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix
from launch_process import LAUNCH, Launch
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_peer import MANY
from segment_peer import ACTIVE, Peer
from sensor_msgs.msg import PointCloud2
from vehicle import Vehicle, only_bag

from twodpass_core.recording import Manifest

pytest.importorskip("launch_ros", reason="needs launch_ros, which comes with a ROS 2 installation, not from PyPI")

from launch import LaunchContext
from launch.actions import SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource


@pytest.mark.parametrize(
    ("file", "own"),
    [("segment", {"weights", "device", "rviz", "bag", "points"}), ("collect", {"points", "images", "folder"})],
)
def test_every_launch_argument_is_described(file: str, own: set[str]) -> None:
    source = PythonLaunchDescriptionSource(str(LAUNCH / f"{file}.launch.py"))
    description = source.get_launch_description(LaunchContext())
    described = {argument.name: argument.description for argument in description.get_launch_arguments()}
    nav2 = {"namespace", "use_sim_time", "params_file", "autostart", "use_respawn", "log_level"}
    assert nav2 | own <= set(described)
    assert all(text.endswith(".") for text in described.values())


@pytest.mark.parametrize("own", ["", "file:///mine.xml"])
@pytest.mark.parametrize("file", ["segment", "collect"])
def test_room_is_made_for_clouds_in_either_dds_unless_that_is_set(
    file: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
    for name in (*profiles, "CYCLONEDDS_URI"):
        monkeypatch.setenv(name, own)  # so that it is put back afterwards
        if not own:
            monkeypatch.delenv(name)
    context = LaunchContext()
    source = PythonLaunchDescriptionSource(str(LAUNCH / f"{file}.launch.py"))
    for action in source.get_launch_description(context).entities:
        if isinstance(action, SetEnvironmentVariable):
            action.execute(context)
    uri = context.environment["CYCLONEDDS_URI"]
    if own:
        assert {context.environment[name] for name in profiles} == {uri} == {own}
    else:
        (profile,) = {name for name in profiles if name in context.environment}
        humble = os.environ.get("ROS_DISTRO") == "humble"  # where the tests have ROS_LOCALHOST_ONLY
        assert Path(context.environment[profile]).name == ("fastdds_localhost.xml" if humble else "fastdds.xml")
        assert Path(uri.removeprefix("file://")).name == "cyclonedds.xml"
        assert Path(context.environment[profile]).exists()
        assert Path(uri.removeprefix("file://")).exists()


ALL = "/**: {ros__parameters: {weights: nowhere, votes: 3, use_sim_time: true}}"
ONE = "/segment: {ros__parameters: {weights: nowhere either}}"


@pytest.mark.parametrize("entries", [(ALL, ONE), (ONE, ALL)], ids=["all first", "one first"])
def test_it_starts_the_node_with_what_is_given_and_else_with_what_the_file_says(
    entries: tuple[str, str], launch: Launch, weights: Path, peer: Peer, tmp_path: Path
) -> None:
    odd_name = tmp_path / 'it\'s "mine".safetensors'
    odd_name.symlink_to(weights)
    params_file = tmp_path / "mine.yaml"
    params_file.write_text("\n".join(entries))
    process = launch(f"weights:={odd_name}", "device:=cpu", "points:=/velodyne_points", f"params_file:={params_file}")
    process.wait_until(lambda: "Ready on cpu" in process.log())
    peer.wait_for_state(ACTIVE)
    peer.spin_until(lambda: peer.node.count_subscribers("/velodyne_points") == 1, "the subscription")
    assert peer.get_parameter("votes") == 3
    assert peer.get_parameter("use_sim_time") is True

    assert process.interrupt() == 0
    assert "process has finished cleanly" in process.log()


def stand_in(program: Path, told: Path) -> None:
    """A program that adds its arguments to a file, as one line, which is there as a whole."""
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {told}.part && cp {told}.part {told}.whole && mv {told}.whole {told}\n'
    )
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("argument", "in_file"), [("autostart:=false", "true"), ("autostart:=", "false")], ids=["argument", "file"]
)
def test_a_bag_is_played_once_the_node_is_active(
    launch: Launch,
    weights: Path,
    peer: Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argument: str,
    in_file: str,
) -> None:
    """Which starts by itself, or waits, as the argument says, or the file where there is none."""
    played = tmp_path / "played"
    stand_in(tmp_path / "ros2", played)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    params_file = tmp_path / "mine.yaml"
    params_file.write_text(f"/**: {{ros__parameters: {{autostart: {in_file}}}}}")
    process = launch(
        "namespace:=front", argument, "bag:=/no where's", f"weights:={weights}", f"params_file:={params_file}"
    )

    def change_state(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(peer.call(ChangeState, "/front/segment/change_state", request).success)

    assert change_state(Transition.TRANSITION_CONFIGURE), process.log()
    assert not played.exists()
    assert change_state(Transition.TRANSITION_ACTIVATE)
    peer.spin_until(played.exists, "the bag player")
    assert change_state(Transition.TRANSITION_DEACTIVATE)
    assert change_state(Transition.TRANSITION_ACTIVATE)
    peer.spin(0.5)
    assert played.read_text() == "bag play /no where's --clock\n"
    assert process.interrupt() == 0


def test_collect_records_the_topics_given_to_the_folder_given(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bags = tmp_path / "it's the bags"
    bags.mkdir()
    (tmp_path / "mine.yaml").write_text(
        "/**: {ros__parameters: {min_free_bytes: 0, every_nth: 2, images: [/other/image], use_sim_time: true}}\n"
        "/collect: {ros__parameters: {images: [/yet/another/image]}}"
    )
    with Vehicle() as vehicle:
        process = launch(
            "points:=/velodyne_points", "images:=[/front/image_raw]", f"folder:={bags}", "params_file:=~/mine.yaml",
            "use_sim_time:=false", file=LAUNCH / "collect.launch.py",
        )  # fmt: skip
        vehicle.points = vehicle.node.create_publisher(PointCloud2, "/velodyne_points", MANY)
        vehicle.wait_for_recording()
        assert vehicle.get_parameter("every_nth") == 2
        assert process.interrupt() == 0, process.log()
    assert "process has finished cleanly" in process.log()
    manifest = Manifest.read(only_bag(bags))
    assert manifest.complete
    assert {"/velodyne_points", "/front/image_raw"} <= {topic.name for topic in manifest.topics}


COMPOSED = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node, PushRosNamespace, SetParameter

def generate_launch_description():
    ours = IncludeLaunchDescription(
        PythonLaunchDescriptionSource("{file}"), launch_arguments={arguments}.items())
    return LaunchDescription([
        SetParameter("use_sim_time", False),
        GroupAction([PushRosNamespace("robot"), ours]),
        Node(executable="{tmp_path}/other_node"),
    ])
"""


def composed(file: str, tmp_path: Path, **arguments: str) -> Path:
    """A launch file that sets a parameter for all its nodes, includes one of ours, and starts another node."""
    outer = tmp_path / "outer.launch.py"
    outer.write_text(COMPOSED.format(file=LAUNCH / f"{file}.launch.py", arguments=arguments, tmp_path=tmp_path))
    return outer


@pytest.mark.parametrize("file", ["segment", "collect"])
def test_in_a_composed_launch_other_nodes_get_none_of_its_parameters(file: str, launch: Launch, tmp_path: Path) -> None:
    stand_in(tmp_path / "other_node", tmp_path / "told")
    process = launch(file=composed(file, tmp_path, autostart="false"))
    process.wait_until((tmp_path / "told").exists)
    assert (tmp_path / "told").read_text() == "--ros-args -p use_sim_time:=False\n"


def test_in_a_composed_launch_a_bag_is_played_once_the_node_is_active(
    launch: Launch, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "ros2", tmp_path / "played")
    stand_in(tmp_path / "other_node", tmp_path / "told")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = launch(file=composed("segment", tmp_path, namespace="front", bag="/drive", weights=str(weights)))
    process.wait_until((tmp_path / "played").exists)
    assert (tmp_path / "played").read_text() == "bag play /drive --clock\n"
    assert "[robot.front.segment]: Ready" in process.log()


@pytest.mark.parametrize("file", ["segment", "collect"])
def test_a_params_file_that_is_not_there_is_named_and_nothing_is_started(
    file: str, launch: Launch, tmp_path: Path
) -> None:
    process = launch(f"params_file:={tmp_path}/mien.yaml", file=LAUNCH / f"{file}.launch.py")
    assert process.wait() == 1
    assert f"params_file {tmp_path}/mien.yaml: there is no such file" in process.log()
    assert "process started" not in process.log()


def test_without_rviz_installed_nothing_is_started(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", get_package_prefix("twodpass_ros"))  # where RViz is not
    process = launch("rviz:=true")
    assert process.wait() == 1
    assert "package 'rviz2' not found" in process.log()
    assert "process started" not in process.log()
