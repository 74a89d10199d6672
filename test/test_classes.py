from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from twodpass_core.classes import SHIPPED, UNLABELLED, ClassMap, check_classes
from twodpass_core.errors import ClassMapError, ConfigError

CAR = {"id": 1, "name": "car", "colour": [1, 2, 3], "raw_ids": [10, 252]}
IGNORED = {"id": 0, "name": "ignored", "colour": [0, 0, 0], "raw_ids": [0]}
# From the data set's published learning map.
SEMANTICKITTI_LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12,
    50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8,
    256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
SEMANTICKITTI_INVERSE = [0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
NUSCENES_LEARNING_MAP = {
    9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 30: 16,
}  # fmt: skip


def write(path: Path, *classes: dict[str, object], **extra: object) -> Path:
    path.write_text(yaml.safe_dump({"name": "mine", "classes": list(classes), **extra}))
    return path


def test_semantickitti_follows_the_published_learning_map() -> None:
    class_map = ClassMap.load("semantickitti")
    raw = np.array(list(SEMANTICKITTI_LEARNING_MAP), np.uint32)
    assert class_map.num_classes == 20
    assert class_map.training_ids(raw).tolist() == list(SEMANTICKITTI_LEARNING_MAP.values())
    assert class_map.raw_labels(np.arange(20, dtype=np.uint8)).tolist() == SEMANTICKITTI_INVERSE


def test_nuscenes_follows_the_published_learning_map() -> None:
    class_map = ClassMap.load("nuscenes")
    raw = np.arange(32)
    assert class_map.num_classes == 17
    assert class_map.training_ids(raw).tolist() == [NUSCENES_LEARNING_MAP.get(int(raw_id), 0) for raw_id in raw]


@pytest.mark.parametrize("name", SHIPPED)
def test_written_labels_read_back_as_the_same_classes(name: str) -> None:
    class_map = ClassMap.load(name)
    class_id = np.arange(class_map.num_classes, dtype=np.uint8)
    raw = class_map.raw_labels(class_id)
    assert raw.dtype == np.uint32
    assert np.array_equal(class_map.training_ids(raw), class_id)


def test_unlabelled_points_are_written_as_the_ignored_class() -> None:
    class_map = ClassMap.load("semantickitti")
    raw = class_map.raw_labels(np.array([UNLABELLED, 1], np.uint8))
    assert raw.tolist() == [0, 10]
    assert class_map.training_ids(raw).tolist() == [0, 1]


def test_users_may_write_the_ignored_class_as_any_number(tmp_path: Path) -> None:
    class_map = ClassMap.load(write(tmp_path / "mine.yaml", {**IGNORED, "raw_ids": [65535, 0]}, CAR))
    assert class_map.raw_labels(np.array([UNLABELLED, 0, 1], np.uint8)).tolist() == [65535, 65535, 10]
    assert class_map.training_ids(np.array([65535, 0, 252])).tolist() == [0, 0, 1]
    with pytest.raises(ClassMapError, match="does not know raw ids -1:"):
        class_map.training_ids(np.array([-1], np.int16))


@pytest.mark.parametrize("name", SHIPPED)
def test_survives_the_json_of_a_weights_card(name: str) -> None:
    class_map = ClassMap.load(name)
    assert ClassMap.model_validate_json(class_map.model_dump_json()) == class_map
    assert ClassMap.model_validate(class_map.model_dump(mode="json")) == class_map


def test_colour_table_is_grey_where_there_is_no_class() -> None:
    table = ClassMap.load("semantickitti").colour_table
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert table[1].tolist() == [100, 150, 245]
    assert (table[20:] == 128).all()
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1


def test_users_map_chooses_which_raw_id_is_written(tmp_path: Path) -> None:
    class_map = ClassMap.load(write(tmp_path / "mine.yaml", IGNORED, {**CAR, "raw_id": 252}))
    assert class_map.names == ("ignored", "car")
    assert class_map.raw_labels(np.array([1], np.uint8)).tolist() == [252]


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (
            [IGNORED, CAR, {**CAR, "name": "van", "raw_ids": [3]}],
            r"class 1 \(van\): duplicate id 1, already in class 1 \(car\)",
        ),
        (
            [IGNORED, CAR, {**CAR, "id": 2, "name": "van"}],
            r"class 2 \(van\): duplicate raw id 10, already in class 1 \(car\)",
        ),
        ([IGNORED, CAR, {**CAR, "id": 2, "raw_ids": [3]}], "duplicate name car"),
        ([IGNORED, {**CAR, "raw_ids": [10, 10]}], "duplicate raw id 10"),
        ([IGNORED, {**CAR, "id": 2}], r"class 2 \(car\) stands where id 1 is due"),
        ([CAR, IGNORED], "where id 0 is due"),
        ([IGNORED, {**CAR, "colour": [0, 0, 256]}], r"entry 2 \(car\): colour.2: .*255 \(given: 256\)"),
        ([IGNORED, {**CAR, "colour": [0, 0]}], r"\(car\): colour.2 is missing"),
        ([IGNORED, {**CAR, "color": [0, 0, 0]}], r"\(car\): unknown key 'color'"),
        ([IGNORED, {**CAR, "raw_ids": []}], r"\(car\): raw_ids: .*at least 1"),
        ([IGNORED, {**CAR, "raw_ids": [65536]}], r"\(car\): raw_ids.0: .*65536"),
        ([IGNORED, {**CAR, "raw_ids": 10}], r"\(car\): raw_ids"),
        ([IGNORED, {**CAR, "raw_id": 11}], r"\(car\): raw_id 11 is not one of raw_ids \[10, 252\]"),
        ([IGNORED, {**CAR, "id": True}], r"\(car\): id: .*True"),
        ([IGNORED, "car"], r"\(car\): "),
        ([IGNORED], "classes: .*at least 2"),
    ],
)
def test_inconsistent_maps_are_refused(tmp_path: Path, classes: list[dict[str, object]], problem: str) -> None:
    path = write(tmp_path / "mine.yaml", *classes)
    with pytest.raises(ClassMapError, match=problem) as caught:
        ClassMap.load(path)
    assert str(path) in str(caught.value)


def test_more_classes_than_a_byte_can_tell_apart_are_refused(tmp_path: Path) -> None:
    classes = [{"id": i, "name": f"c{i}", "colour": [0, 0, 0], "raw_ids": [i]} for i in range(256)]
    assert ClassMap.load(write(tmp_path / "most.yaml", *classes[:255])).num_classes == 255
    with pytest.raises(ClassMapError, match="255"):
        ClassMap.load(write(tmp_path / "many.yaml", *classes))


def test_unknown_keys_and_other_ignore_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClassMapError, match="unknown key 'ignored'"):
        ClassMap.load(write(tmp_path / "a.yaml", IGNORED, CAR, ignored=1))
    with pytest.raises(ClassMapError, match="ignore_id"):
        ClassMap.load(write(tmp_path / "b.yaml", IGNORED, CAR, ignore_id=1))


@pytest.mark.parametrize("content", ["a: [1", "just text", "", "- 1", b"\xff\xfe\x00"])
def test_files_that_are_no_class_map_are_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ClassMapError, match=r"odd\.yaml"):
        ClassMap.load(path)


def test_a_missing_file_is_answered_with_the_shipped_names(tmp_path: Path) -> None:
    with pytest.raises(ClassMapError, match="nuscenes, semantickitti"):
        ClassMap.load("semantic-kitti")
    with pytest.raises(ClassMapError, match=r"semantic-kitti\.yaml: no such class map"):
        ClassMap.load(tmp_path / "semantic-kitti.yaml")
    with pytest.raises(ClassMapError, match=r"cannot read the class map: Is a directory\. Give a YAML file"):
        ClassMap.load(tmp_path)


def test_a_tilde_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "own.yaml", IGNORED, CAR)
    assert ClassMap.load("~/own.yaml") == ClassMap.load(tmp_path / "own.yaml")
    with pytest.raises(ConfigError, match="there is no such user"):
        ClassMap.load("~nobody-of-that-name/own.yaml")


@pytest.mark.parametrize("raw", [np.array([10, 77, 77]), np.array([-1]), np.array([70000], np.uint32), np.array([1.0])])
def test_unknown_raw_ids_are_named(raw: np.ndarray) -> None:
    with pytest.raises(ClassMapError, match=r"77: add|-1: add|70000: add.*0xFFFF|float64"):
        ClassMap.load("semantickitti").training_ids(raw)


def test_weights_and_data_must_name_the_same_classes_in_the_same_order(tmp_path: Path) -> None:
    tree = {**CAR, "name": "tree", "raw_ids": [7]}
    one = ClassMap.load(write(tmp_path / "one.yaml", IGNORED, CAR, {**tree, "id": 2}))
    other = ClassMap.load(write(tmp_path / "other.yaml", IGNORED, tree, {**CAR, "id": 2}))
    check_classes(one, one)
    with pytest.raises(ConfigError, match=r"\(ignored, car, tree\), the data those of mine \(ignored, tree, car\)"):
        check_classes(one, other)


def test_unknown_class_ids_are_named() -> None:
    class_map = ClassMap.load("semantickitti")
    with pytest.raises(ClassMapError, match="not 20, 254"):
        class_map.raw_labels(np.array([1, 254, 20], np.uint8))
    with pytest.raises(ClassMapError, match="uint8, not int64"):
        class_map.raw_labels(np.array([1]))


def test_empty_arrays_stay_empty() -> None:
    class_map = ClassMap.load("nuscenes")
    assert class_map.training_ids(np.zeros(0, np.int32)).shape == (0,)
    assert class_map.raw_labels(np.zeros(0, np.uint8)).shape == (0,)


def test_what_is_no_list_of_classes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    for classes, reason in (
        ("!!set {car, road}", "classes"),
        ("[{id: 0, name: a, colour: [1, 2, 3], raw_ids: 5}]", "list"),
    ):
        path.write_text(f"name: own\nclasses: {classes}\n")
        with pytest.raises(ClassMapError, match=reason):
            ClassMap.load(path)
