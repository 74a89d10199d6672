"""Bags with labels, evaluated and trained on; bags that `collect` records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_data import TYPES, BagData
from drive_bag import START_NS, assert_same, drive, expected_transform, picture, points, scan_ns, without
from tiny_weights import write_tiny_weights
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.cli.work.evaluation_data import evaluation_sources
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.opening import open_training
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError, LabelError, ScanError
from twodpass_core.labels.store import LabelStore
from twodpass_core.recording.bag_writer import BagWriter
from twodpass_core.recording.split_recorder import WriterSettings
from twodpass_core.recording.topics import RecordedTopic
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.run import train


def test_labels_in_the_cloud(tmp_path: Path) -> None:
    raw = (np.arange(60) % 2 * 30 + 10).astype(np.uint32)  # car 10, road 40
    ids = np.where(np.arange(60) % 3 == 0, 255, np.arange(60) % 20).astype(np.uint8)
    fields: dict[str, tuple[str, np.ndarray]] = {
        "raw": ("label", raw | 7 << 16),
        "ids": ("class_id", ids),
        "floats": ("label", raw * 1.0),
        "both": ("label", raw),
    }
    for name, (field, values) in fields.items():
        data = BagData()
        columns = {field: values, **({"class_id": ids} if name == "both" else {})}  # what a network has added
        data.cloud(START_NS, points(0), columns=columns)
        source = BagFrames([data.write(tmp_path / name)])
        frame = source[0]
        assert source.labelled.tolist() == [True]
        assert frame.labels is not None
        if name == "ids":
            np.testing.assert_array_equal(frame.labels, np.where(ids == 255, 0, ids))
        else:
            np.testing.assert_array_equal(frame.labels, source.class_map.training_ids(raw))
        if name == "raw":
            assert frame.instances is not None
            assert (frame.instances == 7).all()


def test_class_ids_in_the_cloud_are_those_of_a_map_of_ones_own(tmp_path: Path) -> None:
    class_map = tmp_path / "orchard.yaml"
    class_map.write_text(
        "{name: orchard, classes: ["
        "{id: 0, name: ignored, colour: [0, 0, 0], raw_ids: [7, 255]},"
        "{id: 1, name: ground, colour: [160, 120, 80], raw_ids: [2, 65535], raw_id: 65535},"
        "{id: 2, name: tree, colour: [0, 175, 0], raw_ids: [1, 0]}]}"
    )
    data, ids = BagData(), (np.arange(60) % 4).astype(np.uint8)
    ids[ids == 3] = 255
    data.cloud(START_NS, points(0), columns={"class_id": ids})
    source = BagFrames([data.write(tmp_path / "drive")], BagConfig(class_map=str(class_map)))
    frame, raw = source.with_raw_labels(0)
    np.testing.assert_array_equal(frame.labels, np.where(ids == 255, 0, ids))
    np.testing.assert_array_equal(raw, np.choose(ids % 255, [7, 65535, 1]))
    assert frame.instances is None


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"label": np.full(60, 12345, np.uint32)}, "class map semantickitti .*12345"),
        ({"class_id": np.full(60, 99, np.uint8)}, "class map semantickitti .*99"),
        ({"class_id": np.full(60, -255, np.int16)}, r"class map semantickitti has ids 0\.\.19, not \[-255\]"),
        ({"label": np.full(60, 10.5, np.float32)}, "field 'label': holds numbers that are not ids"),
    ],
)
def test_unknown_labels_in_the_cloud(tmp_path: Path, columns: dict[str, np.ndarray], reason: str) -> None:
    data = BagData()
    data.cloud(START_NS, points(0), columns=columns)
    source = BagFrames([data.write(tmp_path / "drive")])
    with pytest.raises(ScanError, match=rf"drive: cloud of /points at \d+ ns: {reason}"):
        source[0]


def test_labels_beside_the_bag(tmp_path: Path) -> None:
    bag = drive(4).write(tmp_path / "drive")
    store = LabelStore.beside(bag)
    store.write(scan_ns(1), np.full(60, 40, np.uint32))
    store.write(scan_ns(2), np.full(59, 40, np.uint32))
    store.proposed.write(scan_ns(3), np.full(60, 10, np.uint32))
    source = BagFrames([bag], cameras=[])
    assert source.labelled.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(source[1].labels, source.class_map.training_ids(np.full(60, 40)))
    assert source[0].labels is None
    with pytest.raises(LabelError):
        source[2]
    with pytest.raises(LabelError):
        source.raw_labels(2)
    assert BagFrames([bag], BagConfig(proposals=True), cameras=[]).labelled.tolist() == [False, True, True, True]


def test_a_label_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag, read = drive(1).write(tmp_path / "drive"), LabelStore.read
    LabelStore.beside(bag).write(scan_ns(0), np.full(60, 40 | 3 << 16, np.uint32))
    source, stamps = BagFrames([bag], cameras=[]), []

    def noting(self: LabelStore, stamp_ns: int, num_points: int) -> np.ndarray | None:
        stamps.append(stamp_ns)
        return read(self, stamp_ns, num_points)

    monkeypatch.setattr(LabelStore, "read", noting)
    frame, raw = source.with_raw_labels(0)
    assert stamps == [scan_ns(0)]
    np.testing.assert_array_equal(raw, np.full(60, 40 | 3 << 16))
    np.testing.assert_array_equal(frame.instances, np.full(60, 3))


def test_bags_that_collect_records(tmp_path: Path) -> None:
    """Sets in chunks, several files, static transforms and CameraInfo at the start of each."""
    data, bag = drive(6), tmp_path / "drive"
    with BagWriter(bag, WriterSettings(split_seconds=0.25, chunk_bytes=12_000)) as writer:
        for topic, kind, log_ns, message in sorted(data.messages, key=lambda entry: entry[2]):
            writer.write(RecordedTopic.of_type(topic, kind), log_ns, bytes(TYPES.serialize_cdr(message, kind)))
    assert len(list(bag.glob("*.mcap"))) > 1
    source = BagFrames([bag])
    assert len(source) == 6
    for index in (5, 0, 3):
        np.testing.assert_array_equal(source[index].points, points(index))
        np.testing.assert_array_equal(source[index].views[0].load_image(), picture(index))
        assert_same(source[index].views[0].camera_from_lidar, expected_transform(index))


def test_evaluation_takes_the_labelled_scans_of_a_bag(tmp_path: Path) -> None:
    bag = drive(4).write(tmp_path / "drive")
    LabelStore.beside(bag).write(scan_ns(2), np.full(60, 40, np.uint32))
    config = BagConfig(topic="/points", intensity_scale=2)
    (source,) = evaluation_sources([bag], None, None, config)
    assert list(source.ids) == [f"drive/{scan_ns(2)}"]
    assert source[0].views == ()
    np.testing.assert_array_equal(source[0].points[:, 3], 2 * points(2)[:, 3])
    with pytest.raises(ConfigError, match="kitti: no bag, to which --intensity-scale, --topic could apply"):
        evaluation_sources([tmp_path / "kitti"], None, None, config)


def test_the_command_evaluates_one_of_a_bags_topics_seen_by_a_sensor_of_its_own(tmp_path: Path) -> None:
    data = drive(1)
    data.cloud(START_NS, points(7, 9), topic="/rear")
    bag, weights = data.write(tmp_path / "drive"), write_tiny_weights(tmp_path / "tiny.safetensors")
    LabelStore.beside(bag).write(scan_ns(0), np.full(9, 40, np.uint32))
    arguments = ["evaluate", str(weights), str(bag), "--device", "cpu"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "name one of them by --topic, in settings bag.topic: /points, /rear" in refused.output
    arguments += ["--topic", "/rear", "--sensor-transform", "0,0,1.7,0,0,0", "--intensity-scale"]
    done = CliRunner().invoke(app, [*arguments, "2", "--out", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report").exists()
    wrong = CliRunner().invoke(app, [*arguments, "0"])
    assert wrong.exit_code == 1
    assert "intensity_scale: Input should be greater than 0" in wrong.output


def test_the_command_evaluates_the_end_of_a_bag_that_training_left_out(tmp_path: Path) -> None:
    bag, weights = drive(4).write(tmp_path / "drive"), write_tiny_weights(tmp_path / "tiny.safetensors")
    for index in (0, 1, 3):
        LabelStore.beside(bag).write(scan_ns(index), np.full(60, 40, np.uint32))
    arguments = ["evaluate", str(weights), str(bag), "--device", "cpu"]
    assert "1 of 4 frames left out" in CliRunner().invoke(app, arguments).output
    held_out = CliRunner().invoke(app, [*arguments, "--held-out", "0.5", "--before", "default"])
    assert "1 of 2 frames left out" in held_out.output
    refused = CliRunner().invoke(app, ["evaluate", str(weights), str(tmp_path / "kitti"), "--held-out", "0.5"])
    assert "no bag, to which --held-out could apply" in refused.output


@pytest.mark.parametrize("what", ["a bag", "its file", "a folder of bags"])
def test_a_bag_in_the_place_of_settings_is_told(tmp_path: Path, what: str) -> None:
    bag = drive(1).write(tmp_path / "drive")
    given = {"a bag": bag, "its file": bag / "drive.mcap", "a folder of bags": tmp_path}[what]
    result = CliRunner().invoke(app, ["train", str(given)])
    assert result.exit_code == 1
    assert f"{given}: holds data, not settings" in result.output
    assert f"give finetune --set data.train.0.root={given} --set data.validation.root={given}" in result.output


def test_bags_without_a_camera_teach_2dpass_only_when_that_is_said(tmp_path: Path) -> None:
    bag = without(drive(3), "camera").write(tmp_path / "drive")
    LabelStore.beside(bag).write(scan_ns(1), np.full(60, 40, np.uint32))
    settings = {"kind": "bag", "root": str(bag), "unlabelled": "keep"}
    config = {"run": tmp_path / "run", "data": {"train": settings}, "machine": {"accelerator": "cpu"}}
    with pytest.raises(
        ConfigError, match=r"drive: has no camera, .* it has /points \(sensor_msgs.* `cameras` .* to \[\]"
    ):
        train(TrainingConfig.model_validate(config))
    assert not (tmp_path / "run").exists()
    said = SourceConfig.model_validate({**settings, "cameras": []})
    assert len(open_training(said)) == 3
    assert len(open_training(SourceConfig.model_validate(settings), images=False)) == 3


@pytest.mark.slow
def test_training_on_a_bag_with_workers(tmp_path: Path) -> None:
    """Processes that load frames read the bag each for itself, images among them."""
    bag = drive(8).write(tmp_path / "drive")
    for index in range(8):
        LabelStore.beside(bag).write(scan_ns(index), (np.arange(60) % 2 * 30 + 10).astype(np.uint32))
    config = TrainingConfig.model_validate(
        {
            "run": tmp_path / "run",
            "max_steps": 3,
            "data": {"train": {"kind": "bag", "root": bag}, "batch_size": 2, "workers": 2},
            "student": {"scales": (2, 4), "width": 8, "hidden": 8},
            "augmentation": {"crop": None},
            "machine": {"accelerator": "cpu", "devices": 1},
        }
    )
    assert train(config).exists()
