"""MCAP files written by hand, so that they can lie: refused with file and offset, before they take memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import zstandard
from cloud_bag import CLOUD_TYPE, START_NS, STORAGES, TYPES, cloud_message, cloud_points, write_bag
from rosbags.rosbag2 import CompressionMode

from twodpass_core.cloud import read_points
from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.errors import BagError, CloudError
from twodpass_core.mcap_files.check import FREE_BYTES, check_mcap
from twodpass_core.mcap_files.unpacked_size import unpacked_bound
from twodpass_core.recording.recovery import recover


@dataclass(frozen=True)
class Chunk:
    compression: str
    packed: bytes
    size: int
    start: int = START_NS
    end: int = START_NS
    crc: int = 0


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(raw)) + raw


def mcap_message(index: int, log_ns: int = START_NS) -> bytes:
    raw = bytes(TYPES.serialize_cdr(cloud_message(index), CLOUD_TYPE))
    return record(5, struct.pack("<HIQQ", 1, index, log_ns, log_ns) + raw)


def mcap_file(
    chunks: list[Chunk],
    index: Callable[[int, Chunk], tuple[int, Chunk]] = lambda *entry: entry,
    loose: bytes = b"",
) -> bytes:
    """An MCAP file of these chunks, and records after them.

    `index` may change the offset and the chunk that the index tells of.
    """
    schema = record(3, struct.pack("<H", 1) + text(CLOUD_TYPE) + text("ros2msg") + text(""))
    channel = record(4, struct.pack("<HH", 1, 1) + text("/points") + text("cdr") + struct.pack("<I", 0))
    out = b"\x89MCAP0\r\n" + record(1, text("ros2") + text("test")) + schema + channel
    summary = schema + channel
    for chunk in chunks:
        offset = len(out)
        head = struct.pack("<QQQI", chunk.start, chunk.end, chunk.size, chunk.crc)
        out += record(6, head + text(chunk.compression) + struct.pack("<Q", len(chunk.packed)) + chunk.packed)
        length = len(out) - offset
        message_index = record(7, struct.pack("<HIQQ", 1, 16, chunk.start, 0))
        offset, told = index(offset, chunk)
        body = struct.pack("<QQQQ", told.start, told.end, offset, length) + text(struct.pack("<HQ", 1, len(out)))
        body += struct.pack("<Q", len(message_index)) + text(told.compression)
        summary += record(8, body + struct.pack("<QQ", len(told.packed), told.size))
        out += message_index
    out += loose
    statistics = struct.pack("<QHIIIIQQ", len(chunks), 1, 1, 0, 0, len(chunks), START_NS, START_NS)
    summary += record(11, statistics + text(struct.pack("<HQ", 1, len(chunks))))
    return out + summary + record(2, struct.pack("<QQI", len(out), 0, 0)) + b"\x89MCAP0\r\n"


def zstd_bomb(size: int) -> bytes:
    """A Zstandard frame of unknown size whose 4-byte blocks each repeat one byte 128 KiB times."""
    blocks = size // 2**17
    headers = [(2**17 << 3 | 1 << 1 | (k == blocks - 1)).to_bytes(3, "little") + b"\0" for k in range(blocks)]
    return bytes.fromhex("28b52ffd") + bytes([0x00, 0x58]) + b"".join(headers)


def test_hand_written_mcap_files_are_sound(tmp_path: Path) -> None:
    raw = mcap_message(0)
    checked = zstandard.ZstdCompressor(write_checksum=True)
    packed = [
        Chunk("zstd", checked.compress(raw[:500]) + checked.compress(raw[500:]), len(raw)),
        Chunk("", raw, len(raw), crc=zlib.crc32(raw)),
        Chunk("lz4", lz4.frame.compress(raw), len(raw)),
        Chunk("lz4", lz4.frame.compress(raw, store_size=False, block_linked=False, content_checksum=True), len(raw)),
        Chunk("lz4", lz4.frame.compress(raw, block_size=7, block_checksum=True), len(raw)),
    ]
    path = tmp_path / "drive.mcap"
    path.write_bytes(mcap_file(packed))
    clouds = list(open_clouds(path))
    assert len(clouds) == 5
    for raw in clouds:
        np.testing.assert_array_equal(read_points(read_cloud(raw).message), cloud_points(0))
    report = recover(path)
    assert (report.mended, report.messages) == ((), 5)


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_nothing_unpacks_to_more_than_its_bound(name: str) -> None:
    plain = bytes(range(256)) * 4000
    packed = zstandard.ZstdCompressor().compress(plain) if name == "zstd" else lz4.frame.compress(plain)
    assert 20 * len(packed) < len(plain)
    bound = unpacked_bound(name, BytesIO(packed), 0, len(packed))
    assert len(plain) <= bound <= len(plain) + 4 * 2**20


RAW = mcap_message(0)
SOUND = Chunk("", RAW, len(RAW))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "Zstandard bomb": (mcap_file([Chunk("zstd", zstd_bomb(2**31), 1000)]), "may unpack to 2147483648"),
    "Zstandard bomb after a sound frame": (
        mcap_file([Chunk("zstd", zstd_bomb(2**17) + b"\x50\x2a\x4d\x18" + text(b"skip") + zstd_bomb(2**30), 1000)]),
        "may unpack to",
    ),
    "LZ4 bomb": (mcap_file([Chunk("lz4", 8 * lz4.frame.compress(bytes(80 * 2**20)), 1000)]), "may unpack to"),
    "bomb within what a chunk may have": (
        mcap_file([Chunk("zstd", zstd_bomb(500 * 2**20), 500 * 2**20)]), "may unpack to 524288000: what",
    ),
    "chunk that claims gigabytes": (mcap_file([replace(SOUND, size=2**40)]), "may unpack to 1099511627776"),
    "many chunks of one time": (
        mcap_file([Chunk("zstd", zstd_bomb(60 * 2**20), 60 * 2**20)] * 30), "chunks of the same time",
    ),
    "unknown compression": (mcap_file([replace(SOUND, compression="xz")]), "'xz' is unknown"),
    "index of a chunk that is not there": (
        mcap_file([SOUND], lambda offset, chunk: (offset + 8, chunk)), "not there",
    ),
    "index of another size": (
        mcap_file([SOUND], lambda offset, chunk: (offset, replace(chunk, size=2**50))), "not there",
    ),
    "index at the end of time": (
        mcap_file([SOUND], lambda offset, chunk: (2**63, chunk)), "not there",
    ),
    "record that claims exabytes": (
        b"\x89MCAP0\r\n" + struct.pack("<BQ", 1, 2**62) + mcap_file([SOUND])[17:], "bytes ends beyond the file",
    ),
    "summary in the wrong place": (
        mcap_file([SOUND])[:-28] + bytes(range(20)) + b"\x89MCAP0\r\n", "the summary is not",
    ),
    "only magic": (b"\x89MCAP0\r\n" * 2, "cut off"),
    "text": (b"hello world, this is no bag at all, but it is long enough", "not an MCAP file"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_mcap_files_are_refused_with_file_and_offset(tmp_path: Path, case: str) -> None:
    content, reason = HOSTILE[case]
    path = tmp_path / "drive.mcap"
    path.write_bytes(content)
    with pytest.raises(BagError, match=rf"drive\.mcap: at byte \d+: .*{reason}"):
        open_clouds(path)


CHILD = """
import resource, sys
from pathlib import Path
from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.errors import BagError, CloudError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        for raw in open_clouds(Path(name)):
            read_cloud(raw)
    except (BagError, CloudError):
        continue
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_hostile_bags_take_little_memory(tmp_path: Path) -> None:
    for number, (content, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.mcap").write_bytes(content)
    write_bag(tmp_path / "message_bomb", STORAGES[0], {"/points": [zstd_bomb(2**31)]}, CompressionMode.NONE)
    metadata = tmp_path / "message_bomb/metadata.yaml"
    text = metadata.read_text().replace("compression_format: ''", "compression_format: zstd")
    metadata.write_text(text.replace("compression_mode: ''", "compression_mode: MESSAGE"))
    assert "MESSAGE" in metadata.read_text()
    (tmp_path / "just_within.mcap").write_bytes(mcap_file([Chunk("zstd", zstd_bomb(FREE_BYTES), FREE_BYTES)]))
    (bomb,) = open_clouds(tmp_path / "message_bomb")
    with pytest.raises(CloudError, match="unpacks to more than"):
        read_cloud(bomb)
    names = [str(path) for path in tmp_path.iterdir()]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", CHILD, *names], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 500 * 1024


def test_large_chunks_are_let_through_unless_they_were_made_to_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twodpass_core.mcap_files.check.FREE_BYTES", 2**20)
    noise = np.random.default_rng(0).integers(0, 256, 2**20, np.uint8).tobytes()
    path = tmp_path / "drive.mcap"
    for repeated, is_hostile in ((15, False), (25, True)):
        content = noise + bytes(repeated * 2**20)
        packed = zstandard.ZstdCompressor().compress(content)
        path.write_bytes(mcap_file([Chunk("zstd", packed, len(content))]))
        with pytest.raises(BagError, match="what unpacks to over 20 times") if is_hostile else nullcontext():
            check_mcap(path)


def test_what_is_too_large_is_told_with_the_limit_and_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    path.write_bytes(mcap_file([Chunk("zstd", zstd_bomb(513 * 2**20), 513 * 2**20)]))
    told = "537919488 bytes, more than the 512 MiB that are read here at a time: `mcap filter`"
    with pytest.raises(BagError, match=told):
        check_mcap(path)


@pytest.mark.parametrize("chunked", [False, True])
def test_messages_that_readers_would_not_find_are_told(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "drive.mcap"
    loose = mcap_message(0, START_NS + 5) + mcap_message(1, START_NS)
    path.write_bytes(mcap_file([SOUND] if chunked else [], loose=loose))
    where = "beside chunks" if chunked else "not in the order of time"
    with pytest.raises(BagError, match=rf"at byte \d+: messages lie outside of chunks and {where}: `twodpass recover`"):
        open_clouds(path)
    recover(path)
    assert len([read_cloud(raw) for raw in open_clouds(path)]) == 2 + chunked
