"""Summaries of MCAP files that leave things out: all messages are found, or it is refused and recovered."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from cloud_bag import CLOUD_TYPE, TYPES, cloud_message
from mcap.writer import IndexType, Writer

from twodpass_core.data.bags import open_clouds
from twodpass_core.errors import BagError
from twodpass_core.recording.recovery import recover

INDEXES = (IndexType.NONE, IndexType.CHUNK, IndexType.MESSAGE, IndexType.CHUNK | IndexType.MESSAGE, IndexType.ALL)
REFUSED = "the summary leaves out topics: `twodpass recover` writes the file anew"


def write(path: Path, *, chunks: bool, schemas: bool, channels: bool, statistics: bool, index: IndexType) -> None:
    with path.open("wb") as file:
        writer = Writer(
            file,
            use_chunking=chunks,
            repeat_schemas=schemas,
            repeat_channels=channels,
            use_statistics=statistics,
            index_types=index,
        )
        writer.start(profile="ros2", library="test")
        channel = writer.register_channel("/points", "cdr", writer.register_schema(CLOUD_TYPE, "ros2msg", b""))
        for number in range(3):
            data = bytes(TYPES.serialize_cdr(cloud_message(number), CLOUD_TYPE))
            writer.add_message(channel, log_time=1 + number, data=data, publish_time=1 + number)
        writer.finish()


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("chunks", [True, False])
def test_no_message_is_left_out_in_silence(tmp_path: Path, chunks: bool, index: IndexType) -> None:
    refused = 0
    for number, (schemas, channels, statistics) in enumerate(product([True, False], repeat=3)):
        path = tmp_path / f"{number}.mcap"
        write(path, chunks=chunks, schemas=schemas, channels=channels, statistics=statistics, index=index)
        told = ""
        try:
            found = len(list(open_clouds(path)))
        except BagError as error:
            told = str(error)
            recover(path)
            found = len(list(open_clouds(path)))
        assert found == 3
        assert not told or REFUSED in told
        refused += bool(told)
    assert 0 < refused < 8 or (chunks and index == IndexType.CHUNK)


def test_a_whole_summary_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    write(path, chunks=True, schemas=True, channels=True, statistics=True, index=IndexType.ALL)
    before = path.read_bytes()
    assert len(list(open_clouds(path))) == 3
    assert recover(path).mended == ()
    assert path.read_bytes() == before
