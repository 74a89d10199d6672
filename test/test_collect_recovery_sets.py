"""Recovery: which sets are whole, and in which order the files of a bag belong."""

from __future__ import annotations

from pathlib import Path

import recording_data as data
import yaml
from recorded_bags import chunks_of, record

from twodpass_core.data.bags import open_clouds, read_cloud
from twodpass_core.recording import Manifest
from twodpass_core.recording.recovery import recover


def test_a_chunk_whose_note_is_lost_does_not_stand_in_for_the_one_before(tmp_path: Path) -> None:
    """Of each of the two sets one half is there, its note or its messages, and neither counts, then or later."""
    bag = record(tmp_path / "drive")
    path = bag / "drive_0.mcap"
    chunks, content = chunks_of(path), bytearray(path.read_bytes())
    first, second = chunks[4][0], chunks[5][0]  # of sets 3 and 4: chunk 0 is the static transform
    content[first:second] = bytes(second - first)
    path.write_bytes(content)
    for _ in range(2):
        report = recover(bag)
        assert (report.sets, report.lost_sets) == (8, 2)
        assert [s.stamp_ns for s in Manifest.read(bag).sets] == [data.stamp(k) for k in range(10) if k not in (3, 4)]


def test_more_than_ten_files_are_in_the_order_of_recording(tmp_path: Path) -> None:
    bag = record(tmp_path / "drive", sets=12, split_bytes=1)
    (bag / "metadata.yaml").unlink()
    recover(bag)
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    names = metadata["relative_file_paths"]
    assert names == [f"drive_{number}.mcap" for number in range(len(names))]
    assert len(names) > 10
    assert [read_cloud(raw).stamp_ns for raw in open_clouds(bag)] == [data.stamp(index) for index in range(12)]
