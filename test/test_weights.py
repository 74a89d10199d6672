"""Weights files: what is saved is loaded, and what does not fit is refused with a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_weights import tiny_card, tiny_student

from twodpass_core.errors import WeightsError
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.weights import (
    CARD_KEY,
    Card,
    check_state_dict,
    expected_shapes,
    load_weights,
    read_card,
    save_weights,
)

StateDict = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def card() -> Card:
    return tiny_card()


@pytest.fixture
def state_dict(card: Card) -> StateDict:
    return dict(tiny_student(card).state_dict())


@pytest.fixture
def weights(card: Card, state_dict: StateDict, tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_weights(path, state_dict, card)
    return path


def write(path: Path, tensors: StateDict, metadata: dict[str, str] | None) -> Path:
    safetensors.torch.save_file(tensors, path, metadata)
    return path


def test_others_may_read_what_the_umask_lets_them_read(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert weights.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_saved_is_loaded(weights: Path, card: Card, state_dict: StateDict) -> None:
    loaded_card, loaded = load_weights(weights)
    assert loaded_card == card
    assert read_card(weights) == card
    assert loaded.keys() == state_dict.keys()
    assert all(torch.equal(loaded[name], state_dict[name]) for name in loaded)
    PointVoxelStudent(loaded_card.architecture, loaded_card.grid).load_state_dict(loaded)


def test_saving_replaces_whole_files_only(weights: Path, card: Card, state_dict: StateDict) -> None:
    before = weights.read_bytes()
    with pytest.raises(WeightsError, match="not written"):
        save_weights(weights, {}, card)
    assert weights.read_bytes() == before
    save_weights(weights, {name: torch.zeros_like(tensor) for name, tensor in state_dict.items()}, card)
    assert weights.read_bytes() != before
    assert list(weights.parent.iterdir()) == [weights]


def test_failure_while_writing_leaves_the_old_file(
    weights: Path, card: Card, state_dict: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:9])
        raise OSError(28, "No space left on device")

    before = weights.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(weights, state_dict, card)
    assert weights.read_bytes() == before
    assert list(weights.parent.iterdir()) == [weights]


def test_a_folder_that_is_not_there(card: Card, state_dict: StateDict, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(tmp_path / "absent" / "w.safetensors", state_dict, card)


def test_tied_and_non_contiguous_tensors_are_saved(card: Card, state_dict: StateDict, tmp_path: Path) -> None:
    square = state_dict["blocks.0.point_branch.direct.weight"].t()
    changed = {
        **state_dict,
        "blocks.0.point_branch.direct.weight": square,
        "blocks.1.point_branch.direct.weight": square,
    }
    save_weights(tmp_path / "w.safetensors", changed, card)
    assert torch.equal(load_weights(tmp_path / "w.safetensors")[1]["blocks.1.point_branch.direct.weight"], square)


def test_differences_are_listed(weights: Path, card: Card, state_dict: StateDict) -> None:
    state_dict["classifier.2.weight"] = state_dict["classifier.2.weight"][:17]
    state_dict["extra.weight"] = torch.zeros(3)
    del state_dict["classifier.0.bias"]
    write(weights, state_dict, {CARD_KEY: card.model_dump_json()})
    with pytest.raises(WeightsError) as caught:
        load_weights(weights)
    message = str(caught.value)
    assert str(weights) in message
    assert "missing: classifier.0.bias (16,)" in message
    assert "unexpected: extra.weight (3,)" in message
    assert "wrong shape: classifier.2.weight is (17, 16), must be (20, 16)" in message


def test_long_lists_of_differences_are_cut(card: Card) -> None:
    expected = expected_shapes(card)
    with pytest.raises(WeightsError, match=f"and {len(expected) - 20} more$"):
        check_state_dict(expected, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensor: tensor * float("nan"), "not finite"),
        (lambda tensor: tensor + float("inf"), "not finite"),
        (lambda tensor: tensor.double(), r"is torch\.float64, must be torch\.float32"),
        (lambda tensor: tensor.long(), r"is torch\.int64, must be torch\.float32"),
    ],
)
def test_values_that_cannot_be_right(
    change: Callable[[torch.Tensor], torch.Tensor], reason: str, weights: Path, card: Card, state_dict: StateDict
) -> None:
    state_dict["classifier.2.bias"] = change(state_dict["classifier.2.bias"])
    with pytest.raises(WeightsError, match=f"classifier.2.bias .*{reason}"):
        save_weights(weights, state_dict, card)
    write(weights, state_dict, {CARD_KEY: card.model_dump_json()})
    with pytest.raises(WeightsError, match=f"classifier.2.bias .*{reason}"):
        load_weights(weights)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"origin": None}, "origin: "),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"intensity_max": 0}, "intensity_max: "),
        ({"format_version": 2}, r"format 2.*newer twodpass"),
        ({"architecture": {"scales": [2, 4], "width": "wide"}}, r"architecture\.width: "),
        ({"architecture": {"scales": [2, 4], "width": 10**9}}, r"architecture\.width: "),
        ({"architecture": {"scales": [2] * 100_000}}, r"architecture\.scales: "),
        ({"architecture": {"scales": [2, 4], "width": 8, "num_classes": 17}}, "17 classes, .*semantickitti has 20"),
        ({"grid": {"minimum": [0, 0, 0], "maximum": [0, 1, 1], "cells": [1, 1, 1]}}, "grid: .*below its maximum"),
        ({"created": "2024-01-01T00:00:00"}, "created: .*timezone"),
    ],
)
def test_card_problems_are_named(
    changes: dict[str, Any], reason: str, weights: Path, card: Card, state_dict: StateDict
) -> None:
    content = {**json.loads(card.model_dump_json()), **changes}
    write(weights, state_dict, {CARD_KEY: json.dumps(content)})
    with pytest.raises(WeightsError, match=f"its card is not valid: .*{reason}"):
        load_weights(weights)


def test_files_without_a_card(weights: Path, state_dict: StateDict) -> None:
    with pytest.raises(WeightsError, match="no twodpass card"):
        load_weights(write(weights, state_dict, None))
    write(weights, state_dict, {CARD_KEY: "{"})
    with pytest.raises(WeightsError, match="Invalid JSON"):
        load_weights(weights)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_checkpoint_given_by_mistake_names_the_command(new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(WeightsError, match=r"twodpass import-weights .*best\.ckpt best\.safetensors"):
        load_weights(path)


@pytest.mark.parametrize("begin", [b"\x80\x02", b"\x80\x13", b"\x80\x00"])
def test_weights_that_are_cut_off_are_no_checkpoint(begin: bytes, tmp_path: Path) -> None:
    """Though the length of their header, which comes first, may begin as a pickle does."""
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(begin.ljust(8, b"\0") + b'{"a": {"dtype": "F32"')
    with pytest.raises(WeightsError, match="not a safetensors file, or a damaged one"):
        load_weights(path)


def test_a_checkpoint_of_a_run_names_the_runs_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").touch()
    torch.save({}, tmp_path / "checkpoints/last.ckpt")
    with pytest.raises(WeightsError, match=f"{tmp_path}/weights.safetensors, once it has been validated or has ended$"):
        load_weights(tmp_path / "checkpoints/last.ckpt")
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(WeightsError, match=f"{tmp_path}: is a folder: .* are in {tmp_path}/weights.safetensors$"):
        load_weights(tmp_path)
    monkeypatch.chdir(tmp_path / "checkpoints")
    with pytest.raises(WeightsError, match=f"^last.ckpt: .* {tmp_path}/weights.safetensors$"):
        load_weights(Path("last.ckpt"))


@pytest.mark.parametrize("start", [b"\x80", b"P"])
def test_weights_that_begin_like_a_pickle_are_no_pickle(
    start: bytes, card: Card, state_dict: StateDict, tmp_path: Path
) -> None:
    """A safetensors file begins with the length of its header, which can be any multiple of 8."""
    path = tmp_path / "w.safetensors"
    for length in range(0, 256, 4):
        padded = card.model_copy(update={"origin": "x" * length})
        save_weights(path, state_dict, padded)
        if path.read_bytes().startswith(start):
            break
    assert path.read_bytes().startswith(start)
    assert load_weights(path)[0] == padded


@pytest.mark.parametrize("content", [b"", b"\x00" * 3, b"not weights at all", b"\xff" * 100])
def test_files_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("kept", [4, 100, -1000])
def test_truncated_files(kept: int, weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"w\.safetensors: not a safetensors file, or a damaged one"):
        load_weights(weights)


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        load_weights(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match=r"is a folder$"):
        load_weights(tmp_path)
