"""Labels of bags: taken over, given out, counted, proposed; and what is refused without anything being lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from test_bags import START_NS, cloud_message, cloud_points, write_bag
from tiny_weights import write_tiny_weights
from typer.testing import CliRunner

from twodpass_core.classes import ClassMap
from twodpass_core.cli import app
from twodpass_core.cloud import make_cloud
from twodpass_core.data.bag_config import BagConfig
from twodpass_core.data.bag_frames import BagFrames
from twodpass_core.data.mixture import open_evaluation, open_training
from twodpass_core.data.prepare import prepare
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ClassMapError, ConfigError, LabelError
from twodpass_core.labels.exchange import export_labels, import_labels
from twodpass_core.labels.label_files import find_label_files, label_places, read_stamps, write_stamps
from twodpass_core.labels.proposals import propose, unlabelled_scans
from twodpass_core.labels.status import label_status
from twodpass_core.labels.store import LabelStore
from twodpass_core.segmenter import Segmentation

POINTS = 50
STAMPS = [START_NS + index * 10**8 for index in range(4)]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_bag(tmp_path / "drive", StoragePlugin.MCAP, {"/points": [cloud_message(k) for k in range(4)]})


def frames_of(*bags: Path, **settings: Any) -> BagFrames:
    return BagFrames(bags, BagConfig(**settings), cameras=[])


def raw_labels(seed: int, count: int = POINTS) -> np.ndarray:
    """Road, cars with instances, and some unlabelled."""
    rng = np.random.default_rng(seed)
    classes = rng.choice([0, 10, 40], count).astype(np.uint32)
    classes[0] = 40
    return classes | np.where(classes == 10, rng.integers(1, 9, count), 0).astype(np.uint32) << 16


def write_sequence(folder: Path, stamps: list[int], labelled: dict[int, np.ndarray]) -> Path:
    """As much of a prepared sequence as labels need."""
    (folder / "labels").mkdir(parents=True)
    write_stamps(folder, stamps)
    for number, raw in labelled.items():
        raw.astype("<u4").tofile(folder / f"labels/{number:06d}.label")
    return folder


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


def test_proposals_go_out_only_when_asked_and_come_back_as_labels(bag: Path, tmp_path: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[0], raw_labels(9))
    store.proposed.write(STAMPS[1], raw_labels(1))
    frames = frames_of(bag)
    assert export_labels(frames, tmp_path / "own").labels == 1
    done = export_labels(frames, tmp_path / "both", proposals=True)
    assert (done.labels, done.proposals) == (1, 1)
    assert find_label_files(tmp_path / "both").keys() == {STAMPS[0], STAMPS[1]}
    raw_labels(2).astype("<u4").tofile(tmp_path / "both" / f"{STAMPS[1]}.label")  # corrected
    assert import_labels(frames, tmp_path / "both").new == 1
    assert np.array_equal(store.read(STAMPS[0], POINTS), raw_labels(0))  # type: ignore[arg-type]
    assert np.array_equal(store.read(STAMPS[1], POINTS), raw_labels(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["export", "prepare"])
def test_proposals_that_nobody_has_touched_become_labels_only_when_accepted(
    bag: Path, tmp_path: Path, way: str
) -> None:
    store = LabelStore.beside(bag)
    for number in range(3):
        store.proposed.write(STAMPS[number], raw_labels(number))
    store.write(STAMPS[2], raw_labels(9))  # somebody's own
    if way == "export":
        export_labels(frames_of(bag), tmp_path / "out", proposals=True)
    else:
        made = CliRunner().invoke(app, ["prepare", str(bag), str(tmp_path / "out"), "--proposals"])
        assert "4 scans, 1 labelled, 2 with proposals, no images" in made.output
    done = import_labels(frames_of(bag), tmp_path / "out")
    assert (done.new, done.unchanged, done.proposed) == (0, 1, 2)
    assert store.stamps() == {STAMPS[2]}
    said = run("import", bag, tmp_path / "out").output
    assert "2 left out: just as the network proposed them; --accept-proposals" in said
    assert store.stamps() == {STAMPS[2]}
    assert "2 new, 0 replaced, 1 unchanged" in run("import", bag, tmp_path / "out", "--accept-proposals").output
    assert store.stamps() == set(STAMPS[:3])
    assert np.array_equal(store.read(STAMPS[2], POINTS), raw_labels(9))  # type: ignore[arg-type]


def test_work_in_the_labelling_tool_is_not_overwritten(bag: Path, tmp_path: Path) -> None:
    LabelStore.beside(bag).write(STAMPS[0], raw_labels(0))
    sequence = write_sequence(tmp_path / "00", STAMPS, {0: raw_labels(5)})
    with pytest.raises(LabelError, match=r"000000\.label: is there with other labels"):
        export_labels(frames_of(bag), sequence)
    assert np.array_equal(np.fromfile(sequence / "labels/000000.label", "<u4"), raw_labels(5))
    export_labels(frames_of(bag), sequence, overwrite=True)
    assert np.array_equal(np.fromfile(sequence / "labels/000000.label", "<u4"), raw_labels(0))


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
    files.write(STAMPS[0], raw_labels(0))
    with pytest.raises(LabelError, match="has labels inside"):
        import_labels(frames, files.folder)


def labelled_cloud(index: int) -> Any:
    """As of `cloud_message`, with a field of SemanticKITTI's labels."""
    plain = cloud_message(index)
    points = dict(zip(("x", "y", "z", "intensity"), cloud_points(index).T, strict=True))
    cloud = make_cloud(points | {"label": raw_labels(index)})
    field = type(plain.fields[0])
    return replace(
        plain,
        fields=[field(entry.name, entry.offset, int(entry.datatype), entry.count) for entry in cloud.fields],
        point_step=cloud.point_step,
        row_step=cloud.row_step,
        data=cloud.data,
    )


# --- Status -------------------------------------------------------------------------------------------------------


def test_status_counts_and_finds_what_does_not_fit(bag: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.write(STAMPS[1], raw_labels(1, 3))
    store.write(5, raw_labels(1))
    store.proposed.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[3], np.full(POINTS, 77))
    (status,) = label_status(frames_of(bag))
    assert (status.bag, status.scans, status.labelled, status.proposed) == (bag, 4, 2, 1)
    ids = ClassMap.load("semantickitti").training_ids(raw_labels(0) & 0xFFFF)
    assert status.points.tolist() == np.bincount(ids, minlength=20).tolist()
    assert len(status.problems) == 3
    for part in ("5.label: the bag has no such scan", f"{STAMPS[1]}.label: 12 bytes", f"{STAMPS[3]}.label: class map"):
        assert any(part in problem for problem in status.problems), part


# --- Proposals ----------------------------------------------------------------------------------------------------


class Sure:
    """Stands in for a Segmenter: road everywhere, sure of every other point."""

    class_map = ClassMap.load("semantickitti")

    def __init__(self) -> None:
        self.votes: list[int] = []

    def segment(self, points: np.ndarray, votes: int = 1) -> Segmentation:
        self.votes.append(votes)
        probability = np.where(np.arange(len(points)) % 2, 0.95, 0.5).astype(np.float32)
        class_id = np.full(len(points), 9, np.uint8)
        class_id[-1], probability[-1] = 255, 0
        return Segmentation(class_id, probability, None, {})


def test_proposals_are_of_sure_points_of_unlabelled_scans(bag: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[1], raw_labels(1))
    frames, network = frames_of(bag), Sure()
    indices = unlabelled_scans(frames)
    assert indices == [2, 3]
    assert unlabelled_scans(frames, again=True) == [1, 2, 3]
    made = list(propose(frames, indices, network, votes=12, min_probability=0.9))  # type: ignore[arg-type]
    assert network.votes == [12, 12]
    assert [(proposal.points, proposal.labelled) for proposal in made] == [(POINTS, POINTS // 2 - 1)] * 2
    raw = store.proposed.read(STAMPS[2], POINTS)
    assert raw is not None
    expected = np.where(np.arange(POINTS) % 2, 40, 0)
    expected[-1] = 0
    assert raw.tolist() == expected.tolist()
    assert store.stamps() == {STAMPS[0]}


def test_training_uses_proposals_only_when_asked(bag: Path) -> None:
    store = LabelStore.beside(bag)
    store.write(STAMPS[0], raw_labels(0))
    store.proposed.write(STAMPS[1], raw_labels(1))
    found = {}
    for proposals in (False, True):
        settings = {"kind": "bag", "root": bag, "cameras": [], "unlabelled": "skip", "bag": {"proposals": proposals}}
        found[proposals] = open_training(SourceConfig.model_validate(settings)).ids
    assert [frame_id.split("/")[-1] for frame_id in found[False]] == [str(STAMPS[0])]
    assert [frame_id.split("/")[-1] for frame_id in found[True]] == [str(stamp) for stamp in STAMPS[:2]]


def test_partly_labelled_bags_train_and_evaluate(bag: Path) -> None:
    LabelStore.beside(bag).write(STAMPS[2], raw_labels(2))
    settings = SourceConfig.model_validate({"kind": "bag", "root": bag, "unlabelled": "keep"})
    training, evaluation = open_training(settings), open_evaluation(settings)
    assert (len(training), len(evaluation)) == (4, 1)
    assert [bool(np.any(training[index].labels)) for index in range(4)] == [False, False, True, False]
    with pytest.raises(ConfigError, match="3 of the 4 frames have no labels, drive/"):
        open_training(SourceConfig.model_validate({"kind": "bag", "root": bag}))


# --- The commands -------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["labels", *map(str, arguments)])


def test_the_commands(bag: Path, tmp_path: Path) -> None:
    weights = tmp_path / "untrained.safetensors"
    write_tiny_weights(weights)
    made = run("propose", bag, "--weights", weights, "--votes", 1, "--min-probability", 0, "--device", "cpu")
    assert made.exit_code == 0, made.output
    assert "labels proposed for 4 scans" in made.output
    log = (tmp_path / "drive_labels/proposed/proposals.jsonl").read_text().splitlines()
    assert json.loads(log[0])["weights"] == str(weights)
    out = write_sequence(tmp_path / "out", STAMPS, {})
    assert "0 labels and 4 proposals written" in run("export", bag, out, "--proposals").output
    assert "4 new" in run("import", bag, out, "--accept-proposals").output
    status = run("status", bag)
    assert status.exit_code == 0, status.output
    LabelStore.beside(bag).write(5, raw_labels(1))
    status = run("status", bag)
    assert status.exit_code == 1
    assert "5.label: the bag has no such scan" in " ".join(status.output.split())
    missing = run("import", bag, tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "nowhere: is no folder" in missing.output


def test_a_proposal_that_is_refused_leaves_nothing_behind(bag: Path, tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "untrained.safetensors")
    refused = run("propose", bag, "--weights", weights, "--class-map", "nuscenes", "--device", "cpu")
    assert refused.exit_code == 1
    assert "use weights trained for these classes" in refused.output
    assert not LabelStore.beside(bag).folder.exists()
