"""Frames, and SemanticKITTI, made up and real."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from twodpass_core.cameras.model import CameraModel
from twodpass_core.data.frame import CameraView, Frame
from twodpass_core.data.semantickitti import SPLITS, SemanticKitti
from twodpass_core.data.source import SourceConfig, open_source
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.geometry.rigid_transform import RigidTransform

CALIB = """\
P0: 100 0 60 0 0 100 20 0 0 0 1 0
P2: 100 0 60 5 0 100 20 0 0 0 1 0
P3: 100 0 60 -5 0 100 20 0 0 0 1 0
Tr: 0 -1 0 0 0 0 -1 0 1 0 0 0.5
"""
RAW_LABELS = [0, 10, 252, 40, 99]  # unlabelled, car, moving car, road, other object
TRAINING_IDS = [0, 1, 1, 9, 0]


def write_sequence(folder: Path, scans: int, labelled: bool = True) -> None:
    for name in ("velodyne", "labels", "image_2"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(scans):
        points = rng.uniform(-20, 20, (50, 4)).astype("<f4")
        points.tofile(folder / f"velodyne/{index:06d}.bin")
        if labelled:
            raw = np.resize(np.array(RAW_LABELS, "<u4"), 50) | np.arange(50, dtype="<u4") << 16
            raw.astype("<u4").tofile(folder / f"labels/{index:06d}.label")
        Image.fromarray(np.full((40, 120, 3), index, np.uint8)).save(folder / f"image_2/{index:06d}.png")
    (folder / "calib.txt").write_text(CALIB)
    # Camera 0 drives 2 m a scan along its z axis, the LiDAR's x.
    (folder / "poses.txt").write_text("\n".join(f"1 0 0 0 0 1 0 0 0 0 1 {2 * index}" for index in range(scans)))
    (folder / "times.txt").write_text("\n".join(f"{0.1 * index:e}" for index in range(scans)))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Sequences 00 (3 scans), 08 (2 scans) and 11 (1 scan, no labels)."""
    for name, scans in (("00", 3), ("08", 2), ("11", 1)):
        write_sequence(tmp_path / "sequences" / name, scans, labelled=name != "11")
    return tmp_path


def test_semantickitti_frame(dataset: Path) -> None:
    source = SemanticKitti(dataset, sequences=["00"])
    assert source.ids == ["00/000000", "00/000001", "00/000002"]
    frame = source[2]
    assert frame.id == "00/000002"
    np.testing.assert_array_equal(
        frame.points, np.fromfile(dataset / "sequences/00/velodyne/000002.bin", "<f4").reshape(-1, 4)
    )
    assert frame.labels is not None
    assert frame.instances is not None
    assert frame.labels[:5].tolist() == TRAINING_IDS
    assert frame.instances.tolist() == list(range(50))
    assert frame.stamp_ns == 200_000_000
    assert frame.world_from_lidar is not None
    np.testing.assert_allclose(
        frame.world_from_lidar.matrix(), RigidTransform.from_xyz_rpy([4, 0, 0, 0, 0, 0]).matrix()
    )
    (view,) = frame.views
    assert view.stamp_ns == frame.stamp_ns
    assert (view.camera.width, view.camera.height) == (120, 40)
    assert (view.load_image() == 2).all()
    # By hand: 10 m ahead of the LiDAR is 10.5 m ahead of camera 0; P2's fourth column adds 5 pixels metres to u z.
    uv, visible = view.camera.project(view.camera_from_lidar.apply(np.array([[10.0, 1, 0]])))
    assert visible.all()
    np.testing.assert_allclose(uv, [[60 + (-100 + 5) / 10.5, 20]])


def test_splits(dataset: Path) -> None:
    assert SemanticKitti(dataset, "val").ids == ["08/000000", "08/000001"]
    for split, chosen, words in (
        ("train", None, r"holds 00, 08, 11, not 01, .*, 10 of split train: choose split val, or name .* 00,08,11$"),
        ("val", ["08", "99"], r"sequences: holds 00, 08, 11, not 99: .* sequences: \[00, 08, 11\]"),
    ):
        with pytest.raises(ScanError, match=words):
            SemanticKitti(dataset, split, sequences=chosen)
    for number in range(12, 22):  # of split test, which has no labels: it is not advised
        shutil.copytree(dataset / "sequences/11", dataset / f"sequences/{number}")
    with pytest.raises(ScanError, match="of split train: choose split val, or name"):
        SemanticKitti(dataset, "train")
    with pytest.raises(ConfigError, match="choose train, val, trainval, test"):
        SemanticKitti(dataset, "dev")
    with pytest.raises(ConfigError, match="sequences 08, 08: name each once"):
        SemanticKitti(dataset, "val", sequences=["08", "08"])
    with pytest.raises(ConfigError, match="image_0"):
        SemanticKitti(dataset, "val", cameras=["image_0"])


def test_the_splits_are_the_official_ones() -> None:
    train, val, test = (SPLITS[split] for split in ("train", "val", "test"))
    assert (*train, *val) == SPLITS["trainval"]
    assert (sorted(SPLITS["trainval"]), val) == ([f"{number:02d}" for number in range(11)], ("08",))
    assert test == tuple(map(str, range(11, 22)))


def test_folders_without_sequences(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="nope: does not exist"):
        SemanticKitti(tmp_path / "nope")
    with pytest.raises(ScanError, match=f"{tmp_path}: has neither sequences/NN/velodyne nor"):
        SemanticKitti(tmp_path)


def test_scans_numbered_without_zeros_need_a_line_for_the_largest(dataset: Path) -> None:
    folder = dataset / "sequences/08"
    for file in list(folder.rglob("000001.*")):
        file.rename(file.with_stem("9"))
    for file in list(folder.rglob("000000.*")):
        file.rename(file.with_stem("10"))
    with pytest.raises(ScanError, match=r"poses\.txt: has 2 lines, none for scan 10"):
        SemanticKitti(dataset, "val")


def test_the_test_split_may_have_labels(dataset: Path) -> None:
    source = SemanticKitti(dataset, "test", sequences=["08", "11"])
    assert source.labelled.tolist() == [True, True, False]
    assert source[0].labels is not None
    frame = source[2]
    assert frame.labels is None
    assert frame.instances is None


def test_one_sequence_alone(dataset: Path) -> None:
    assert SemanticKitti(dataset / "sequences/08").ids == ["08/000000", "08/000001"]
    with pytest.raises(ConfigError, match="is a single sequence"):
        SemanticKitti(dataset / "sequences/08", sequences=["08"])


def test_a_sequence_that_is_a_link_has_the_number_of_the_link(dataset: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk/recordings"
    disk.parent.mkdir()
    (dataset / "sequences/00").rename(disk)
    (dataset / "sequences/00").symlink_to(disk)
    assert SemanticKitti(dataset, sequences=["00"]).ids[0] == "00/000000"


def test_without_its_image_a_frame_is_lidar_only(dataset: Path) -> None:
    (dataset / "sequences/08/image_2/000001.png").unlink()
    source = SemanticKitti(dataset, "val", cameras=["image_2", "image_3"])
    assert [[view.name for view in source[index].views] for index in range(2)] == [["image_2"], []]
    assert SemanticKitti(dataset, "val", cameras=[])[0].views == ()


def test_without_images_calibration_and_poses_are_not_needed(dataset: Path) -> None:
    folder = dataset / "sequences/08"
    shutil.rmtree(folder / "image_2")
    for name in ("calib.txt", "poses.txt", "times.txt"):
        (folder / name).unlink()
    frame = SemanticKitti(dataset, "val")[0]
    assert (frame.views, frame.world_from_lidar, frame.stamp_ns) == ((), None, None)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "labels/000001.label").unlink(),
            "labels: 1 of 2 scans have no labels, 000001 among them",
        ),
        (lambda folder: (folder / "calib.txt").unlink(), r"calib\.txt: cannot be read"),
        (lambda folder: (folder / "calib.txt").write_text("P0: 1 2 3"), r"calib\.txt: has no line 'Tr:'"),
        (lambda folder: (folder / "calib.txt").write_text(CALIB.replace(" 0.5", "")), "Tr has 11 numbers, not 12"),
        (lambda folder: (folder / "calib.txt").write_text(CALIB.replace("Tr: 0 -1", "Tr: 0 -2")), "no rotation"),
        (lambda folder: (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0"), r"poses\.txt: has 1 line,"),
        (lambda folder: (folder / "poses.txt").write_text("1 0 0"), r"poses\.txt: line 1 has 3 numbers, not 12"),
        (lambda folder: (folder / "times.txt").write_text("soon\nlater"), r"times\.txt: holds more than numbers"),
        (lambda folder: (folder / "times.txt").write_text("0\n1e400"), r"times\.txt: line 2 is not of finite numbers"),
        (
            lambda folder: (folder / "poses.txt").write_text(("nan " * 12 + "\n") * 2),
            r"poses\.txt: line 1 is not of finite numbers",
        ),
        (
            lambda folder: (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1\n0 1 0 0 0 0 1 0 0 0 0 1 0"),
            r"poses\.txt: line 1 has 11 numbers, not 12",
        ),
        (
            lambda folder: [shutil.copy(file, file.with_stem("000001 (copy)")) for file in folder.rglob("000001.*")],
            r"poses\.txt: has a line for each number of a scan, and 000001 \(copy\) is none",
        ),
        (lambda folder: shutil.rmtree(folder / "velodyne"), "no scans"),
    ],
)
def test_semantickitti_names_the_file_at_fault(dataset: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    damage(dataset / "sequences/08")
    with pytest.raises(ScanError, match=message):
        SemanticKitti(dataset, "val")


@pytest.mark.parametrize(
    ("damaged", "content", "message"),
    [
        ("velodyne/000001.bin", b"\0" * 17, r"velodyne/000001\.bin: 17 bytes"),
        ("velodyne/000001.bin", b"", r"velodyne/000001\.bin: is empty"),
        (
            "labels/000001.label",
            b"\0" * 48,
            r"labels/000001\.label: 48 bytes are not 4 for each of the .* 50 points",
        ),
        ("labels/000001.label", b"\7\0\0\0" * 50, r"labels/000001\.label: .* raw ids 7"),
        ("image_2/000001.png", b"no image", r"image_2/000001\.png: cannot be read as an image"),
    ],
)
def test_damage_is_named_when_the_frame_is_read(dataset: Path, damaged: str, content: bytes, message: str) -> None:
    source = SemanticKitti(dataset, "val")
    (dataset / "sequences/08" / damaged).write_bytes(content)
    source[0]
    with pytest.raises(ScanError, match=message):
        source[1]


def test_a_pose_that_is_none_is_named(dataset: Path) -> None:
    (dataset / "sequences/08/poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" + "0 " * 12)
    source = SemanticKitti(dataset, "val")
    source[0]
    with pytest.raises(ScanError, match=r"poses\.txt: line 2: .*no rotation"):
        source[1]


def test_an_image_cut_off_is_named(dataset: Path) -> None:
    view = SemanticKitti(dataset, "val")[1].views[0]
    assert isinstance(view.image, Path)
    view.image.write_bytes(view.image.read_bytes()[:60])
    with pytest.raises(ScanError, match=r"000001\.png: cannot be read as an image"):
        view.load_image()


def test_an_image_of_another_size_than_its_camera() -> None:
    view = CameraView(
        "front", CameraModel(np.eye(3), 20, 10), RigidTransform.identity(), np.zeros((20, 10, 3), np.uint8)
    )
    with pytest.raises(ScanError, match=r"image of front: .* calibrated for 20 x 10"):
        view.load_image()


@pytest.mark.parametrize(
    ("points", "labels", "instances"),
    [
        (np.zeros((5, 3), np.float32), None, None),
        (np.zeros((5, 4)), None, None),
        (np.zeros((5, 4), np.float32), np.zeros(4, np.uint8), None),
        (np.zeros((5, 4), np.float32), np.zeros(5, np.int64), None),
        (np.zeros((5, 4), np.float32), np.zeros(5, np.uint8), np.zeros(6, np.uint16)),
    ],
)
def test_frames_are_checked(points: np.ndarray, labels: np.ndarray | None, instances: np.ndarray | None) -> None:
    with pytest.raises(ScanError, match=r"frame 7: .* must be"):
        Frame("frame 7", points, labels, instances)


def test_open_source(dataset: Path) -> None:
    source = open_source(SourceConfig(root=dataset, split="val", cameras=()))
    assert source.ids == ["08/000000", "08/000001"]
    assert source[0].views == ()
    assert source.class_map.name == "semantickitti"
    assert open_source(SourceConfig(root=dataset, sequences=("00",))).ids[0] == "00/000000"
    with pytest.raises(ValidationError):
        SourceConfig.model_validate({"kind": "waymo"})


def test_data_of_another_kind_are_told(dataset: Path, tmp_path: Path) -> None:
    bag = tmp_path / "drives/drive"
    bag.mkdir(parents=True)
    (bag / "drive.mcap").touch()
    for kind, root, found in (
        ("nuscenes", dataset, "semantickitti"),
        ("bag", dataset, "semantickitti"),
        ("semantickitti", bag, "bag"),
        ("semantickitti", bag.parent, "bag"),
    ):
        told = rf"of kind {found}, not {kind}: say so by --kind {found}; .* kind: {found} beside this root"
        with pytest.raises(ScanError, match=told):
            open_source(SourceConfig.model_validate({"kind": kind, "root": root}))
    with pytest.raises(ScanError, match=r"absent: does not exist: .* the root of data\.train or data\.validation"):
        open_source(SourceConfig(kind="bag", root=tmp_path / "absent"))


def test_sources_travel_to_other_processes(dataset: Path) -> None:
    source = SemanticKitti(dataset, "val")
    frame, copied = source[1], pickle.loads(pickle.dumps(source))[1]
    np.testing.assert_array_equal(copied.points, frame.points)
    np.testing.assert_array_equal(copied.views[0].load_image(), frame.views[0].load_image())
