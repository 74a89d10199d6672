"""The command lines of the programs: what is refused, in one sentence, and what --help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from node_process import Main, NodeProcess
from rules import rules_of

from twodpass_ros.collect import main as collect
from twodpass_ros.collect.parameters import CollectParameters
from twodpass_ros.segment import main as segment
from twodpass_ros.segment.parameters import SegmentParameters

TRAIN = Path(__file__).resolve().parents[2] / "scripts/nodes/train"
REFUSED = [
    (("-p", "training_from_sensor:=[0,0,1.7,0,0,0]"), "with a decimal point: 0.0"),
    (("--params-file", "/nowhere.yaml"), "/nowhere.yaml"),
    (("--params-files", "/nowhere.yaml"), "--params-files"),
    (("--", "scan.bin"), "'scan.bin' is not an argument of this node"),
    (("--", "-p", "votes:=3"), "(-p NAME:=VALUE) and topics (-r FROM:=TO) follow --ros-args"),
]


@pytest.mark.parametrize("main", [segment, collect], ids=["segment", "collect"])
@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_a_node_says_what_it_cannot_read(main: Main, arguments: tuple[str, ...], words: str) -> None:
    with NodeProcess(main, *arguments) as node:
        assert node.wait() == 1
        (told,) = (line for line in node.log().splitlines() if "[FATAL]" in line)
        assert words in told
        assert ".c:" not in told
        assert "Traceback" not in node.log()


def test_a_text_where_a_list_is_needed_is_told_how_to_be_written() -> None:
    with NodeProcess(collect, "-p", "images:=/front/image_raw") as node:
        assert node.wait() == 1
        assert "a list is written in brackets, images:='[FIRST, SECOND]'" in node.log()
    with NodeProcess(segment, "-p", "training_from_sensor:=[0,0,0,0,0,0]") as node:
        assert node.wait() == 1
        assert "whole numbers are written with a decimal point, 1.0" in node.log()
        assert "brackets" not in node.log()


@pytest.mark.parametrize(
    ("main", "table", "option"),
    [(segment, SegmentParameters, "--help"), (collect, CollectParameters, "-h")],
    ids=["segment", "collect"],
)
def test_help_describes_every_parameter(main: Main, table: type[Any], option: str) -> None:
    with NodeProcess(main, "--", option) as node:
        assert node.wait() == 0
        told = " ".join(node.log().split())
    assert "--ros-args -p NAME:=VALUE -r FROM:=TO" in told
    for name, rule in rules_of(table).items():
        assert f" {name} {rule.description} [{rule.constraint}" in told


OF_THE_VIRTUAL_ENVIRONMENT = ("torch", "rich", "typer", "pydantic", "safetensors")


def start_without(modules: tuple[str, ...], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a shell where modules are missing."""
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name in {modules}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"from twodpass_ros.{program} import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("program", "arguments", "missing", "named"),
    [
        ("segment", (), ("twodpass_ros.msg",), "twodpass_ros.msg"),
        ("collect", (), ("twodpass_ros.msg",), "twodpass_ros.msg"),
        ("segment", (), OF_THE_VIRTUAL_ENVIRONMENT, "torch"),
        ("collect", (), OF_THE_VIRTUAL_ENVIRONMENT, "pydantic"),
        ("segment", ("--help",), OF_THE_VIRTUAL_ENVIRONMENT, "rich"),
        ("collect", ("--help",), OF_THE_VIRTUAL_ENVIRONMENT, "pydantic"),
        ("train", ("--help",), OF_THE_VIRTUAL_ENVIRONMENT, "typer"),
    ],
)
def test_a_shell_that_lacks_packages_is_told_what_to_source(
    program: str, arguments: tuple[str, ...], missing: tuple[str, ...], named: str
) -> None:
    done = start_without(missing, program, *arguments)
    assert done.returncode == 1
    assert f"{program} needs {named}, which is not installed: source venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["segment", "collect"])
def test_help_does_without_the_network(program: str) -> None:
    done = start_without(("torch", "twodpass_ros.msg"), program, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: ros2 run twodpass_ros {program}" in done.stdout


def test_train_says_what_it_cannot_read() -> None:
    command = [sys.executable, str(TRAIN), "--print-config", "--ros-args", "-p", "a:=[0,1.5]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ROS arguments cannot be read: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("main", [segment, collect], ids=["segment", "collect"])
def test_a_parameter_that_a_node_does_not_have_is_told_once_with_the_nearest(main: Main, tmp_path: Path) -> None:
    """It may be for another node that shares the file, so the node starts."""
    file = tmp_path / "shared.yaml"
    file.write_text("/**:\n  ros__parameters: {use_sim_time: false, frame_rate: 10, qos_overrides./tf.depth: 5}\n")
    arguments = ("--params-file", str(file), "-p", "autostrat:=false", "-p", "autostart:=false")
    with NodeProcess(main, *arguments) as node:
        node.wait_for_log("no parameter of that name")
        (told,) = (line for line in node.log().splitlines() if "[WARN]" in line)
    named = told.rpartition("name: ")[2]
    assert sorted(named.split(", ")) == ["autostrat (did you mean autostart?)", "frame_rate"]
