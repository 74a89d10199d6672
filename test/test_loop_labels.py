"""Labels of bags: taken over, given out; and what is refused without anything being lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_data import BagData
from cloud_bag import cloud_message, cloud_points, write_bag
from label_data import POINTS, STAMPS, frames_of, labelled_cloud, raw_labels, run, write_sequence
from rosbags.rosbag2 import StoragePlugin

from twodpass_core.classes import ClassMap
from twodpass_core.data.prepare import prepare
from twodpass_core.errors import ClassMapError, ConfigError, LabelError, ScanError
from twodpass_core.labels.exchange import export_labels, import_labels
from twodpass_core.labels.label_files import find_label_files, label_places, read_stamps, write_stamps
from twodpass_core.labels.status import label_status
from twodpass_core.labels.store import LabelStore


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(k) for k in range(4)]})


# --- Label files --------------------------------------------------------------------------------------------------


def test_stamps_survive_being_written(tmp_path: Path) -> None:
    write_stamps(tmp_path, STAMPS)
    assert read_stamps(tmp_path) == STAMPS
    (tmp_path / "stamps.txt").write_text("1.5\n")
    with pytest.raises(LabelError, match=r"stamps\.txt: cannot be read as whole nanoseconds"):
        read_stamps(tmp_path)


def test_label_files_are_found_in_sequences_and_by_stamp(tmp_path: Path) -> None:
    one = write_sequence(tmp_path / "out/sequences/00", STAMPS[:2], {1: raw_labels(1)})
    other = write_sequence(tmp_path / "out/sequences/01", STAMPS[2:], {0: raw_labels(2)})
    found = {STAMPS[1]: one / "labels/000001.label", STAMPS[2]: other / "labels/000000.label"}
    assert find_label_files(tmp_path / "out") == found
    assert find_label_files(one) == {STAMPS[1]: found[STAMPS[1]]}
    assert label_places(tmp_path / "out", [STAMPS[3], 7]) == {STAMPS[3]: other / "labels/000001.label"}
    raw_labels(0).tofile(tmp_path / f"{STAMPS[0]}.label")
    assert find_label_files(tmp_path) == {STAMPS[0]: tmp_path / f"{STAMPS[0]}.label"}


def test_a_bag_that_was_prepared_twice_has_no_one_place_for_its_labels(bag: Path, tmp_path: Path) -> None:
    LabelStore.beside(bag).write(STAMPS[0], raw_labels(7))
    first = write_sequence(tmp_path / "out/sequences/00", STAMPS, {0: raw_labels(1)})
    write_sequence(tmp_path / "out/sequences/01", STAMPS, {0: raw_labels(2)})
    words = r"00/labels/000000\.label and .*01/labels/000000\.label are of the same scan: give the folder of one"
    with pytest.raises(LabelError, match=words):
        import_labels(frames_of(bag), tmp_path / "out", overwrite=True)
    with pytest.raises(LabelError, match=words):
        export_labels(frames_of(bag), tmp_path / "out", overwrite=True)
    assert import_labels(frames_of(bag), first, overwrite=True).replaced == 1


def test_label_files_of_no_scan_are_refused(tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "00", STAMPS, {0: raw_labels(0), 4: raw_labels(4)})
    with pytest.raises(LabelError, match=r"000004\.label: .*stamps\.txt has no line"):
        find_label_files(sequence)
    (named := tmp_path / "segmented/drive_000000.label").parent.mkdir()
    raw_labels(0).tofile(named)
    raw_labels(0).tofile(named.with_name(f"{STAMPS[0]}.label"))
    with pytest.raises(
        LabelError, match=r"drive_000000\.label: is not named by the time stamp of a scan.* segment.* labels propose"
    ):
        find_label_files(named.parent)
    with pytest.raises(LabelError, match=r"has neither labels of a sequence with stamps\.txt"):
        find_label_files(tmp_path)


# --- Import -------------------------------------------------------------------------------------------------------


def test_labels_of_a_prepared_sequence_reach_the_frames(bag: Path, tmp_path: Path) -> None:
    labels = {1: raw_labels(1), 2: raw_labels(2)}
    write_sequence(tmp_path / "out/sequences/00", STAMPS, labels | {3: np.zeros(POINTS, np.uint32)})
    before = {path: path.read_bytes() for path in bag.iterdir()}
    done = import_labels(frames_of(bag), tmp_path / "out")
    assert (done.new, done.replaced, done.unchanged, done.empty) == (2, 0, 0, 1)
    frames = frames_of(bag)
    assert frames.labelled.tolist() == [False, True, True, False]
    class_map = ClassMap.load("semantickitti")
    for number, raw in labels.items():
        assert np.array_equal(frames[number].labels, class_map.training_ids(raw & 0xFFFF))  # type: ignore[arg-type]
        assert np.array_equal(frames[number].instances, raw >> 16)  # type: ignore[arg-type]
    assert frames[0].labels is None
    assert {path: path.read_bytes() for path in bag.iterdir()} == before
    again = import_labels(frames, tmp_path / "out")
    assert (again.new, again.unchanged) == (0, 2)


def test_labels_that_are_there_are_replaced_only_when_asked(bag: Path, tmp_path: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[1], raw_labels(7))
    sequence = write_sequence(tmp_path / "00", STAMPS, {0: raw_labels(0), 1: raw_labels(1)})
    with pytest.raises(LabelError, match=r"000001\.label: differs .* --overwrite"):
        import_labels(frames_of(bag), sequence)
    assert store.stamps() == {STAMPS[1]}
    assert np.array_equal(store.read(STAMPS[1], POINTS), raw_labels(7))  # type: ignore[arg-type]
    assert import_labels(frames_of(bag), sequence, overwrite=True).replaced == 1
    assert np.array_equal(store.read(STAMPS[1], POINTS), raw_labels(1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stamp", "raw", "error", "message"),
    [
        (STAMPS[1], raw_labels(0, POINTS - 1), LabelError, r"196 bytes are not 4 for each of the scan's 50 points"),
        (STAMPS[1], np.full(POINTS, 77, np.uint32), ClassMapError, r"\.label: class map semantickitti .* raw ids 77"),
        (STAMPS[1] + 1, raw_labels(0), LabelError, "which is not in .*drive"),
    ],
    ids=["length", "id", "scan"],
)
def test_one_bad_file_keeps_all_from_being_taken(
    bag: Path, tmp_path: Path, stamp: int, raw: np.ndarray, error: type[Exception], message: str
) -> None:
    files = LabelStore(tmp_path / "files")
    files.write(STAMPS[0], raw_labels(0))
    files.write(stamp, raw)
    with pytest.raises(error, match=message):
        import_labels(frames_of(bag), files.folder)
    assert LabelStore.beside(bag).stamps() == frozenset()


def test_labels_of_the_wrong_length_beside_the_bag_can_be_replaced(bag: Path, tmp_path: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0, 3))
    files = LabelStore(tmp_path / "files")
    files.write(STAMPS[0], raw_labels(0))
    with pytest.raises(LabelError, match="12 bytes are not 4 for each"):
        frames_of(bag)[0]
    import_labels(frames_of(bag), files.folder, overwrite=True)
    assert frames_of(bag)[0].labels is not None


def test_two_bags_of_the_same_times_are_told_apart(bag: Path, tmp_path: Path) -> None:
    copy = write_bag(tmp_path / "copy", StoragePlugin.SQLITE3, {"/points": [cloud_message(k) for k in range(4)]})
    files = LabelStore(tmp_path / "files")
    files.write(STAMPS[0], raw_labels(0))
    with pytest.raises(LabelError, match="both have a scan at"):
        import_labels(frames_of(bag, copy), files.folder)


def test_a_prepared_bag_labelled_in_a_tool_comes_back(bag: Path, tmp_path: Path) -> None:
    LabelStore.beside(bag).write(STAMPS[0], raw_labels(0))
    (sequence,) = (entry.folder for entry in prepare(frames_of(bag), tmp_path / "out"))
    raw_labels(3).astype("<u4").tofile(sequence / "labels/000003.label")
    done = import_labels(frames_of(bag), tmp_path / "out")
    assert (done.new, done.unchanged) == (1, 1)
    assert LabelStore.beside(bag).stamps() == {STAMPS[0], STAMPS[3]}


# --- Export -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [True, False])
def test_what_is_exported_comes_back_whole(bag: Path, tmp_path: Path, prepared: bool) -> None:
    store = LabelStore.beside(bag)
    for number in (0, 2):
        store.write(STAMPS[number], raw_labels(number))
    out = write_sequence(tmp_path / "out", STAMPS, {}) if prepared else tmp_path / "out"
    done = export_labels(frames_of(bag), out)
    assert (done.labels, done.proposals) == (2, 0)
    store.folder.rename(tmp_path / "old")
    assert import_labels(frames_of(bag), out).new == 2
    for number in (0, 2):
        assert np.array_equal(store.read(STAMPS[number], POINTS), raw_labels(number))  # type: ignore[arg-type]


def test_work_in_the_labelling_tool_is_not_overwritten(bag: Path, tmp_path: Path) -> None:
    LabelStore.beside(bag).write(STAMPS[0], raw_labels(0))
    sequence = write_sequence(tmp_path / "00", STAMPS, {0: raw_labels(5)})
    with pytest.raises(LabelError, match=r"000000\.label: is there with other labels"):
        export_labels(frames_of(bag), sequence)
    assert np.array_equal(np.fromfile(sequence / "labels/000000.label", "<u4"), raw_labels(5))
    np.zeros(3, "<u4").tofile(sequence / "labels/000001.label")
    LabelStore.beside(bag).write(STAMPS[1], raw_labels(1))
    export_labels(frames_of(bag), sequence, overwrite=True)
    assert np.array_equal(np.fromfile(sequence / "labels/000001.label", "<u4"), raw_labels(1))  # of another length
    assert np.array_equal(np.fromfile(sequence / "labels/000000.label", "<u4"), raw_labels(0))


def test_labelled_scans_that_a_folder_has_no_place_for_are_told(bag: Path, tmp_path: Path) -> None:
    for number in range(2):
        LabelStore.beside(bag).write(STAMPS[number], raw_labels(number))
    done = run("export", bag, write_sequence(tmp_path / "00", STAMPS[1:], {}))
    assert "1 label and 0 proposals written" in done.output
    assert "1 labelled scan left out: in no sequence of" in done.output
    with pytest.raises(ConfigError, match="01: its sequences are of other scans than the 2 labelled ones"):
        export_labels(frames_of(bag), write_sequence(tmp_path / "01", STAMPS[2:], {}))


def test_a_prepared_sequence_without_labels_yet_is_told(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"00/labels: is empty: label scans of .*00/velodyne there first"):
        import_labels(frames_of(bag), write_sequence(tmp_path / "00", STAMPS, {}))


def test_labels_that_are_inside_the_clouds_come_back_unchanged(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "inside", StoragePlugin.MCAP, {"/points": [labelled_cloud(k) for k in range(2)]})
    done = import_labels(frames_of(bag), write_sequence(tmp_path / "00", STAMPS[:2], {0: raw_labels(0)}))
    assert (done.unchanged, done.new) == (1, 0)
    with pytest.raises(LabelError, match="differs from the labels inside the cloud"):
        import_labels(frames_of(bag), write_sequence(tmp_path / "01", STAMPS[:2], {0: raw_labels(7)}))


def test_nothing_to_export_is_said(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no labels to write .* --proposals"):
        export_labels(frames_of(bag), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- Labels inside the clouds -------------------------------------------------------------------------------------


def test_labels_inside_the_clouds_go_first_and_are_counted(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "inside", StoragePlugin.MCAP, {"/points": [labelled_cloud(k) for k in range(2)]})
    frames = frames_of(bag)
    assert frames.labelled.tolist() == [True, True]
    assert np.array_equal(frames[1].instances, raw_labels(1) >> 16)  # type: ignore[arg-type]
    (status,) = label_status(frames)
    assert (status.scans, status.labelled, status.problems) == (2, 2, ())
    files = LabelStore(tmp_path / "files")
    files.write(STAMPS[0], raw_labels(5))
    with pytest.raises(LabelError, match="differs from the labels inside the cloud"):
        import_labels(frames, files.folder)


@pytest.mark.parametrize("first", ["label", "class_id", "none"])
def test_each_cloud_has_its_own_labels_inside_whatever_the_first_one_has(tmp_path: Path, first: str) -> None:
    fields = {"label": {"label": raw_labels(0)}, "class_id": {"class_id": np.full(POINTS, 9, np.uint8)}, "none": {}}
    order = sorted(fields, key=lambda name: name != first)
    data = BagData()
    for stamp_ns, name in zip(STAMPS, order, strict=False):
        data.cloud(stamp_ns, cloud_points(0), columns=fields[name])
    bag = data.write(tmp_path / "mixed")
    store = LabelStore.beside(bag, topic="/points")
    without = STAMPS[order.index("none")]
    for _ in range(2):  # the second time by the index that is kept
        frames = frames_of(bag)
        assert frames.labels_inside.tolist() == [name != "none" for name in order]
        assert frames.labelled.tolist() == [name != "none" or store.has(without) for name in order]
        assert [label_status(frames)[0].labelled] == [2 + store.has(without)]
        store.write(without, np.full(POINTS, 40, np.uint32))
    for frame, name in zip(map(frames.__getitem__, range(3)), order, strict=True):
        assert frame.labels is not None
        assert (frame.labels == 9).all() == (name != "label")
        assert (frame.instances is None) == (name == "class_id")


@pytest.mark.parametrize("value", [np.nan, np.inf, 40.5, -1, 2.0**32 + 40])
@pytest.mark.parametrize("name", ["label", "class_id"])
def test_a_cloud_whose_labels_are_no_ids_is_told_when_it_is_read(tmp_path: Path, name: str, value: float) -> None:
    data = BagData()
    data.cloud(STAMPS[0], cloud_points(0), columns={name: np.full(POINTS, 9 if name == "class_id" else 40, np.uint8)})
    data.cloud(STAMPS[1], cloud_points(1), columns={name: np.full(POINTS, value, np.float64)})
    frames = frames_of(data.write(tmp_path / "drive"))
    assert np.array_equal(frames[0].labels, np.full(POINTS, 9))  # type: ignore[arg-type]
    with pytest.raises(ScanError, match=rf"points at {STAMPS[1]} ns: field '{name}': holds numbers that are not ids"):
        frames[1]
