"""Labels in bags written in SemanticKITTI's layout: they keep their meaning, and come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_data import BagData
from drive_bag import (
    START_NS,
    drive,
    points,
    scan_ns,
)

from twodpass_core.classes import ClassMap, SemanticClass
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.kitti_files import read_labels
from twodpass_core.data.prepare import prepare
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.errors import ConfigError
from twodpass_core.labels.exchange import import_labels
from twodpass_core.labels.status import label_status
from twodpass_core.labels.store import LabelStore


def test_labels_in_the_cloud_stay_as_they_are_whatever_lies_beside(tmp_path: Path) -> None:
    data, raw = BagData(), np.array([252, 253, 60, 52, 1, 0, 40 | 7 << 16, 99], np.uint32)
    data.cloud(START_NS, points(0, 8), columns={"label": raw})
    bag = data.write(tmp_path / "drive")
    store = LabelStore.beside(bag)
    store.write(START_NS, np.full(8, 10))
    store.proposed.write(START_NS, np.full(8, 10))
    frames = BagFrames([bag], BagConfig(proposals=True))
    (done,) = prepare(frames, tmp_path / "out")
    assert (done.labelled, done.proposed) == (1, 0)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out/sequences/00/labels/000000.label", "<u4"), raw)
    assert import_labels(frames, tmp_path / "out/sequences/00").unchanged == 1
    (status,) = label_status(frames)
    assert (status.labelled, int(status.points.sum())) == (1, 0)


def test_labels_go_to_the_layout_and_back(tmp_path: Path) -> None:
    """Raw ids are kept exactly, those that the class map puts together among them."""
    bag = drive(3).write(tmp_path / "drive")
    raw = np.tile(np.array([252, 10, 40, 60 | 5 << 16], np.uint32), 15)
    LabelStore.beside(bag).write(scan_ns(1), raw)
    frames = BagFrames([bag])
    (done,) = prepare(frames, tmp_path / "out")
    assert done.labelled == 1
    labels = done.folder / "labels"
    assert [path.name for path in labels.iterdir()] == ["000001.label"]
    np.testing.assert_array_equal(np.fromfile(labels / "000001.label", "<u4"), raw)
    np.full(60, 50, "<u4").tofile(labels / "000002.label")  # the labelling tool's work
    import_labels(frames, tmp_path / "out")
    kept = LabelStore.beside(bag).read(scan_ns(2), 60)
    assert kept is not None
    assert (kept == 50).all()
    assert frames.labelled.tolist() == [False, True, True]


def test_labels_of_an_own_class_map_mean_the_same_when_they_are_read_from_there(tmp_path: Path) -> None:
    orchard = ClassMap(
        name="orchard",
        classes=(
            SemanticClass(id=0, name="unlabelled", colour=(0, 0, 0), raw_ids=(0,), raw_id=0),
            SemanticClass(id=1, name="ground", colour=(90, 60, 20), raw_ids=(10, 11), raw_id=11),
            SemanticClass(id=2, name="tree", colour=(0, 200, 0), raw_ids=(30,), raw_id=30),
        ),
    )
    orchard.save(tmp_path / "orchard.yaml")
    bag = drive(1).write(tmp_path / "drive")
    raw = np.tile(np.array([10, 11, 30], np.uint32), 20)
    LabelStore.beside(bag).write(scan_ns(0), raw)
    prepare(BagFrames([bag], BagConfig(class_map=str(tmp_path / "orchard.yaml"))), tmp_path / "out")
    source = SemanticKitti(tmp_path / "out", sequences=["00"])
    assert source.class_map == orchard
    np.testing.assert_array_equal(source[0].labels, np.tile([1, 1, 2], 20))
    prepare(BagFrames([drive(1).write(tmp_path / "another")]), tmp_path / "out", first_sequence=1)
    assert not (tmp_path / "out/sequences/01/class_map.yaml").exists()
    with pytest.raises(ConfigError, match=r"01: its labels are those of class map semantickitti, those of .* orchard"):
        SemanticKitti(tmp_path / "out", sequences=["00", "01"], partly_labelled=True)


def test_labels_in_the_cloud_are_written(tmp_path: Path) -> None:
    data, raw = BagData(), np.tile(np.array([10 | 3 << 16, 40], np.uint32), 30)
    data.cloud(START_NS, points(0), columns={"label": raw})
    frames = BagFrames([data.write(tmp_path / "drive")])
    LabelStore.beside(tmp_path / "drive").proposed.write(START_NS, np.full(60, 10))
    (done,) = prepare(BagFrames(frames.bags, BagConfig(proposals=True)), tmp_path / "out")
    assert (done.labelled, done.proposed) == (1, 0)
    ids, instances = read_labels(done.folder / "labels/000000.label", 60, frames.class_map)
    np.testing.assert_array_equal(ids, frames[0].labels)
    np.testing.assert_array_equal(instances, raw >> 16)
