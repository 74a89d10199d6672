"""Labels beside a bag: where they lie, what is given back, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twodpass_core.errors import LabelError
from twodpass_core.labels.store import LabelStore

RAW = np.array([0, 10, 40, (7 << 16) | 30], np.uint32)


def test_a_folder_and_its_files_share_a_store_beside_the_folder(tmp_path: Path) -> None:
    bag = tmp_path / "drive.v2"
    bag.mkdir()
    (bag / "metadata.yaml").touch()
    (bag / "drive_0.mcap").touch()
    store = LabelStore.beside(bag)
    assert store.folder == tmp_path / "drive.v2_labels"
    assert LabelStore.beside(bag / "drive_0.mcap") == store


def test_a_single_file_has_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alone.mcap").touch()
    assert LabelStore.beside(tmp_path / "alone.mcap").folder == tmp_path / "alone_labels"
    monkeypatch.chdir(tmp_path)
    assert LabelStore.beside(Path("alone.mcap")).folder == tmp_path / "alone_labels"
    assert LabelStore.beside(Path(".")).folder == tmp_path.with_name(f"{tmp_path.name}_labels")


def test_the_bag_is_not_written_to(tmp_path: Path) -> None:
    bag = tmp_path / "drive"
    bag.mkdir()
    store = LabelStore.beside(bag)
    store.write(1, RAW)
    store.proposed.write(2, RAW)
    assert list(bag.iterdir()) == []
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.label")) == [
        "drive_labels/1.label",
        "drive_labels/proposed/2.label",
    ]


@given(arrays(np.uint32, st.integers(0, 50)), st.integers(0, 2**63 - 1))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, raw: np.ndarray, stamp_ns: int) -> None:
    store = LabelStore(tmp_path_factory.mktemp("labels"))
    store.write(stamp_ns, raw)
    again = store.read(stamp_ns, len(raw))
    assert again is not None
    assert again.dtype == np.uint32
    assert np.array_equal(again, raw)
    assert store.stamps() == {stamp_ns}


def test_without_labels_there_is_none(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "none")
    assert store.read(1, 4) is None
    assert store.stamps() == frozenset()


def test_proposals_are_used_only_when_asked_and_never_before_labels(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.proposed.write(1, RAW)
    store.proposed.write(2, RAW)
    store.write(2, RAW[::-1])
    asked = LabelStore(tmp_path, proposals=True)
    assert store.read(1, 4) is None
    assert store.stamps() == {2}
    assert np.array_equal(asked.read(1, 4), RAW)  # type: ignore[arg-type]
    assert np.array_equal(asked.read(2, 4), RAW[::-1])  # type: ignore[arg-type]
    assert asked.stamps() == {1, 2}


def test_other_files_are_no_labels(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    for name in ("notes.label", "-1.label", "000001.label", "1.txt", ".1.label.77.partial"):
        (tmp_path / name).touch()
    assert store.stamps() == frozenset()


@pytest.mark.parametrize("size", [0, 15, 20])
def test_another_length_than_the_scans_is_refused_with_the_file(tmp_path: Path, size: int) -> None:
    store = LabelStore(tmp_path)
    (tmp_path / "5.label").write_bytes(bytes(size))
    with pytest.raises(LabelError, match=rf"5\.label: {size} bytes .* 4 points"):
        store.read(5, 4)


@pytest.mark.parametrize(
    "raw", [np.array([[1]]), np.array([1.0]), np.array([-1]), np.array([2**32], np.int64)], ids=str
)
def test_what_is_no_row_of_labels_is_not_written(tmp_path: Path, raw: np.ndarray) -> None:
    store = LabelStore(tmp_path)
    store.write(1, RAW)
    with pytest.raises(LabelError, match="scan 1 must be"):
        store.write(1, raw)
    assert np.array_equal(store.read(1, 4), RAW)  # type: ignore[arg-type]


def test_stores_go_to_other_processes(tmp_path: Path) -> None:
    store = LabelStore(tmp_path, proposals=True)
    assert pickle.loads(pickle.dumps(store)) == store
