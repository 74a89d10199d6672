"""Either DDS has room for clouds, and keeps to this machine where it is to."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from twodpass_ros.dds_settings import keep_to_this_machine, large_cloud_settings

CONFIG = Path(__file__).resolve().parents[2] / "config"
NAMESPACE = "{http://www.eprosima.com}"


@pytest.mark.parametrize(
    ("distribution", "localhost_only", "variable", "file"),
    [
        ("humble", "0", "FASTRTPS_DEFAULT_PROFILES_FILE", "fastdds.xml"),
        ("humble", "1", "FASTRTPS_DEFAULT_PROFILES_FILE", "fastdds_localhost.xml"),
        ("jazzy", "1", "FASTRTPS_DEFAULT_PROFILES_FILE", "fastdds.xml"),
        ("kilted", "1", "FASTDDS_DEFAULT_PROFILES_FILE", "fastdds.xml"),
    ],
)
def test_what_makes_room_does_not_open_the_network_again(
    distribution: str, localhost_only: str, variable: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"ROS_DISTRO": distribution, "ROS_LOCALHOST_ONLY": localhost_only})
    assert large_cloud_settings(CONFIG) == {
        variable: str(CONFIG / file),
        "CYCLONEDDS_URI": f"file://{CONFIG / 'cyclonedds.xml'}",
    }


def transports(file: str) -> dict[str | None, dict[str, str | None]]:
    """By their types."""
    descriptors = ElementTree.parse(CONFIG / file).iter(f"{NAMESPACE}transport_descriptor")
    found = [{element.tag.removeprefix(NAMESPACE): element.text for element in each} for each in descriptors]
    return {transport["type"]: transport for transport in found}


def test_the_room_on_one_machine_is_that_of_the_network_without_the_network() -> None:
    assert transports("fastdds_localhost.xml") == {"SHM": transports("fastdds.xml")["SHM"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [(CONFIG / "fastdds.xml", CONFIG / "fastdds_localhost.xml"), (Path("/mine.xml"), Path("/mine.xml"))],
    ids=["ours", "the user's"],
)
def test_on_humble_a_program_that_keeps_to_this_machine_takes_our_file_for_that(
    before: Path, after: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"ROS_DISTRO": "humble", "FASTRTPS_DEFAULT_PROFILES_FILE": str(before)}
    monkeypatch.setattr(os, "environ", environment)
    keep_to_this_machine()
    assert environment["ROS_LOCALHOST_ONLY"] == "1"
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(after)
