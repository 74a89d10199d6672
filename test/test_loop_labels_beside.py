"""Which labels beside a bag are its own: of its topic, and of its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_data import BagData
from cloud_bag import cloud_message, storage_file, write_bag
from label_data import STAMPS, frames_of, raw_labels
from rosbags.rosbag2 import StoragePlugin

from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.prepare import prepare
from twodpass_core.errors import ConfigError, LabelError
from twodpass_core.labels.exchange import export_labels, import_labels
from twodpass_core.labels.raw import write_raw_labels
from twodpass_core.labels.status import label_status
from twodpass_core.labels.store import LabelStore


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(k) for k in range(4)]})


def test_labels_of_a_single_file_are_told_of_once_the_bag_is_a_folder(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bag / "metadata.yaml").rename(tmp_path / "metadata.yaml")
    LabelStore.beside(storage_file(bag), topic="/points").write(STAMPS[0], raw_labels(0))
    assert frames_of(storage_file(bag)).labelled.tolist() == [True, False, False, False]
    assert not caplog.records
    (tmp_path / "metadata.yaml").rename(bag / "metadata.yaml")  # as `recover` and `ros2 bag reindex` make one
    for path in (bag, storage_file(bag)):
        assert not frames_of(path).labelled.any()
        (told,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert told.startswith(f"{bag / 'drive_labels'}: its labels are of a single file and not read: move them to ")
        caplog.clear()


def test_labels_of_a_bag_that_was_renamed_are_told_of(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LabelStore.beside(bag, topic="/points").write(STAMPS[0], raw_labels(0))
    LabelStore(tmp_path / "other_labels").write(7, raw_labels(0))  # of another bag, which is elsewhere
    assert frames_of(bag).labelled.any()
    assert not caplog.records
    renamed = bag.rename(tmp_path / "rainy")
    assert not frames_of(renamed).labelled.any()
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"{tmp_path / 'drive_labels'}: has labels of scans of {renamed} and is not read")
    assert told.endswith("rename it to rainy_labels")
    (tmp_path / "drive_labels").rename(tmp_path / "rainy_labels")
    assert frames_of(renamed).labelled.any()


def test_a_prepared_sequence_is_of_one_topic_though_another_has_the_same_stamps(tmp_path: Path) -> None:
    data = BagData()
    for topic in ("/points", "/rear/points"):
        data.cloud(STAMPS[0], np.ones((5, 4), np.float32), topic=topic)
    bag = data.write(tmp_path / "two")
    front, rear = (BagFrames([bag], BagConfig(topic=topic), cameras=[]) for topic in ("/points", "/rear/points"))
    (sequence,) = prepare(front, tmp_path / "out")
    write_raw_labels(sequence.folder / "labels" / "000000.label", np.full(5, 40, np.uint32))
    other = r"out/sequences/00: is of the clouds of /points, not of /rear/points: choose them by --topic"
    with pytest.raises(LabelError, match=other):
        import_labels(rear, tmp_path / "out")
    assert not rear.labelled.any()
    assert import_labels(front, tmp_path / "out").new == 1
    with pytest.raises(LabelError, match=other):
        export_labels(rear, sequence.folder)
    (sequence.folder / "topic.txt").unlink()  # as sequences of elsewhere have none
    with pytest.raises(LabelError, match="has labels of /points"):
        import_labels(rear, tmp_path / "out")


def test_labels_are_of_one_topic_though_another_has_the_same_stamps(tmp_path: Path) -> None:
    data = BagData()
    for topic in ("/points", "/rear/points"):
        for stamp_ns in STAMPS[:2]:
            data.cloud(stamp_ns, np.ones((5, 4), np.float32), topic=topic)
    bag = data.write(tmp_path / "two")
    front, rear = (BagFrames([bag], BagConfig(topic=topic), cameras=[]) for topic in ("/points", "/rear/points"))
    for stamp_ns in STAMPS[:2]:
        LabelStore(tmp_path / "files").write(stamp_ns, np.full(5, 40))
    import_labels(front, tmp_path / "files")
    assert front.labelled.all()
    assert not rear.labelled.any()
    assert rear[0].labels is None
    assert [label_status(frames)[0].labelled for frames in (front, rear)] == [2, 0]
    with pytest.raises(ConfigError, match="no labels to write"):
        export_labels(rear, tmp_path / "exported")
    with pytest.raises(LabelError, match=r"two_labels: has labels of /points, and those of /rear/points may have"):
        import_labels(rear, tmp_path / "files")
