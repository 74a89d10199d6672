"""Sets to record, the same for the same stamp; run as a program, it records them until it is killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader
from rosbags.typesys import Stores, get_typestore

from twodpass_core.cloud import make_cloud
from twodpass_core.recording import (
    BagWriter,
    RecordedMessage,
    RecordedSet,
    RecordedTopic,
    WriterSettings,
    offered_qos,
)

TYPES = get_typestore(Stores.LATEST)
POINTS = RecordedTopic.of_type("/points", "sensor_msgs/msg/PointCloud2", offered_qos(reliable=False, depth=5))
IMAGE = RecordedTopic.of_type("/front/image", "sensor_msgs/msg/Image", offered_qos(reliable=False, depth=5))
INFO = RecordedTopic.of_type("/front/camera_info", "sensor_msgs/msg/CameraInfo", offered_qos())
STATIC = RecordedTopic.of_type("/tf_static", "tf2_msgs/msg/TFMessage", offered_qos(latched=True))
MOVING = RecordedTopic.of_type("/tf", "tf2_msgs/msg/TFMessage", offered_qos(depth=100))
START_NS = 1_714_506_077_250_967_979
PERIOD_NS = 10**8
NO_LIMIT: dict[str, Any] = {"min_free_bytes": 0}


def header(stamp_ns: int, frame: str) -> Any:
    stamp = TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return TYPES.types["std_msgs/msg/Header"](stamp, frame)


def scan_points(stamp_ns: int, count: int = 500) -> np.ndarray:
    return np.random.default_rng(stamp_ns).normal(scale=20, size=(count, 4)).astype(np.float32)


def scan(stamp_ns: int, count: int = 500) -> bytes:
    """A serialised PointCloud2."""
    points, t = scan_points(stamp_ns, count), TYPES.types
    cloud = make_cloud({name: points[:, k] for k, name in enumerate(("x", "y", "z", "intensity"))})
    fields = [t["sensor_msgs/msg/PointField"](f.name, f.offset, int(f.datatype), f.count) for f in cloud.fields]
    message = t[POINTS.type](
        header(stamp_ns, "lidar"), 1, count, fields, False, cloud.point_step, cloud.row_step, cloud.data, True
    )
    return bytes(TYPES.serialize_cdr(message, POINTS.type))


def image(stamp_ns: int, width: int = 64, height: int = 32) -> bytes:
    """A serialised Image."""
    pixels = np.random.default_rng(stamp_ns).integers(0, 255, height * width * 3, np.uint8)
    message = TYPES.types[IMAGE.type](header(stamp_ns, "camera"), height, width, "rgb8", 0, width * 3, pixels)
    return bytes(TYPES.serialize_cdr(message, IMAGE.type))


def static_transform(child: str, stamp_ns: int = START_NS) -> bytes:
    """A serialised TFMessage: a frame one metre above base_link."""
    t = TYPES.types
    transform = t["geometry_msgs/msg/Transform"](
        t["geometry_msgs/msg/Vector3"](0.0, 0.0, 1.0), t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    stamped = t["geometry_msgs/msg/TransformStamped"](header(stamp_ns, "base_link"), child, transform)
    return bytes(TYPES.serialize_cdr(t[STATIC.type]([stamped]), STATIC.type))


def stamp(index: int) -> int:
    return START_NS + index * PERIOD_NS


def make_set(index: int, count: int = 500) -> RecordedSet:
    """A scan and its image, taken 3 ms later."""
    stamp_ns = stamp(index)
    messages = (
        RecordedMessage(POINTS, stamp_ns + 10**6, scan(stamp_ns, count)),
        RecordedMessage(IMAGE, stamp_ns + 4 * 10**6, image(stamp_ns + 3 * 10**6)),
    )
    return RecordedSet(stamp_ns, messages, {"front": 3 * 10**6}, 0.5)


def set_bytes() -> int:
    """How large each of these sets is."""
    return sum(len(message.data) for message in make_set(0).messages)


def read_mcap(path: Path) -> list[tuple[str, int, bytes]]:
    """Topic, log time and content of every message, by mcap's own reader, checksums checked."""
    with path.open("rb") as file:
        return [
            (channel.topic, message.log_time, message.data)
            for _, channel, message in make_reader(file, validate_crcs=True).iter_messages()
        ]


def settings(**changes: Any) -> WriterSettings:
    return WriterSettings(**{**NO_LIMIT, **changes})


def files_of(bag: Path) -> list[Path]:
    """The files of a recording, in their order."""
    return sorted(bag.glob("*.mcap"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def record_until_killed(bag: Path) -> None:
    """Record sets; print the number accepted and the number written, line by line."""
    with BagWriter(bag, WriterSettings(split_bytes=400_000, chunk_bytes=60_000, **NO_LIMIT)) as writer:
        writer.write(STATIC, START_NS, static_transform("lidar"))
        for index in range(100_000):
            writer.write_set(make_set(index))
            print(index + 1, writer.sets, flush=True)  # noqa: T201
            time.sleep(0.002)


if __name__ == "__main__":
    record_until_killed(Path(sys.argv[1]))
