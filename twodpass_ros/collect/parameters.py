"""The parameters of the node `collect`."""

from __future__ import annotations

import dataclasses

from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name

from twodpass_core.recording import GateSettings, WriterSettings
from twodpass_ros.parameter_table import one_of, parameter

GATE, WRITER = GateSettings(), WriterSettings()
HOUR = 3600.0
TEBIBYTE = 2**40


def _are_topics(*names: str) -> bool:
    """Whether ROS takes these names; empty ones stand for none."""
    try:
        return all(validate_full_topic_name(expand_topic_name(name, "collect", "/")) for name in names if name)
    except (NameValidationException, ValueError):
        return False


@dataclasses.dataclass(frozen=True)
class CollectParameters:
    """A snapshot of all parameters."""

    images: tuple[str, ...] = parameter(
        ("",),
        "Topics of the cameras' images, Image or CompressedImage. A set has one of each. None: scans alone.",
        constraint="different names of topics",
        accepts=lambda topics: len(set(topics)) == len(topics) and _are_topics(*topics),
        read_only=True,
    )
    camera_infos: tuple[str, ...] = parameter(
        ("",),
        "Topics of their CameraInfo, in the same order. None: camera_info beside each image, as drivers have it.",
        constraint="names of topics",
        accepts=lambda topics: _are_topics(*topics),
        read_only=True,
    )
    odometry: str = parameter(
        "odom",
        "Topic of nav_msgs/Odometry, recorded where there is one. By it min_distance is measured, else by /tf.",
        constraint="the name of a topic",
        accepts=lambda topic: _are_topics(topic),
        read_only=True,
    )
    fixed_frame: str = parameter(
        "odom",
        "Frame of /tf in which the world stands still: for the vehicle's motion between scan and image, and distances.",
    )
    slop: float = parameter(
        0.05,
        "Seconds between a scan and an image of its set at most.",
        minimum=0.0,
        maximum=1.0,
        read_only=True,
    )
    queue_size: int = parameter(
        30,
        "Largest number of messages of each stream that wait to be paired.",
        minimum=2,
        maximum=1000,
        read_only=True,
    )
    folder: str = parameter(
        ".",
        "Folder of the bags. Each recording makes a new one in it, named by the time.",
        fixed_at_work=True,
    )
    autostart: bool = parameter(
        True,
        "Record as soon as nothing stands against it; false: wait for the service ~/start.",
        read_only=True,
    )
    on_problem: str = parameter(
        "refuse",
        "What to do where a camera's calibration, transform, size or clock is missing or wrong: not record, or warn.",
        **one_of("refuse", "warn"),
    )
    max_clock_difference: float = parameter(
        0.5,
        "Seconds by which stamps of cameras, /tf, odometry may be older or newer on arrival than those of scans.",
        minimum=0.001,
        maximum=HOUR,
    )
    min_distance: float = parameter(
        GATE.min_distance,
        "Metres that the vehicle must have moved since the last recorded set.",
        minimum=0.0,
        maximum=1e6,
        fixed_at_work=True,
    )
    min_interval: float = parameter(
        GATE.min_interval,
        "Seconds since the last recorded set.",
        minimum=0.0,
        maximum=HOUR,
        fixed_at_work=True,
    )
    every_nth: int = parameter(
        GATE.every_nth,
        "Only every n-th set that arrives may be recorded.",
        minimum=1,
        maximum=1_000_000,
        fixed_at_work=True,
    )
    score_interval: float = parameter(
        1.0,
        "Seconds between two sets whose calibration is scored and drawn; 0: every set, as far as time allows.",
        minimum=0.0,
        maximum=HOUR,
    )
    split_bytes: int = parameter(
        WRITER.split_bytes,
        "Size of a file of the bag, in bytes, from which on another begins; 0: never.",
        minimum=0,
        maximum=TEBIBYTE,
        fixed_at_work=True,
    )
    split_seconds: float = parameter(
        WRITER.split_seconds,
        "Time that a file of the bag covers, in seconds, from which on another begins; 0: never.",
        minimum=0.0,
        maximum=1e6,
        fixed_at_work=True,
    )
    min_free_bytes: int = parameter(
        WRITER.min_free_bytes,
        "Disk space to leave free, in bytes: recording ends before it is used.",
        minimum=0,
        maximum=TEBIBYTE,
        fixed_at_work=True,
    )
    input_timeout: float = parameter(
        2.0,
        "Seconds without a scan or an image after which the diagnostics say ERROR; without what goes with them: WARN.",
        minimum=0.1,
        maximum=HOUR,
    )

    def gate(self) -> GateSettings:
        return GateSettings(self.min_distance, self.min_interval, self.every_nth)

    def writer(self) -> WriterSettings:
        return WriterSettings(
            split_bytes=self.split_bytes, split_seconds=self.split_seconds, min_free_bytes=self.min_free_bytes
        )
