"""Checkpoints as somebody hostile or a broken disk would write them."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import assert_reads_back, only, rewrite, save

from twodpass_core.errors import WeightsError
from twodpass_core.official.restricted_unpickler import MAX_PICKLE_BYTES
from twodpass_core.official.torch_archive import read_checkpoint


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("nest", [lambda bomb: bomb, lambda bomb: {"hyper_parameters": {"config": [bomb]}}])
def test_side_effects_in_a_valid_checkpoint_are_refused(nest: Callable[[Any], Any], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = save(tmp_path / "x.ckpt", {"state_dict": OrderedDict(a=torch.zeros(3)), "extra": nest(Bomb(marker))})
    with pytest.raises(WeightsError, match=r"x\.ckpt: .*posix\.system.*Refused"):
        read_checkpoint(path)
    assert not marker.exists()


def test_the_whole_pickle_a_bomb(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "bare.pkl"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(WeightsError, match=r"before PyTorch 1\.6"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 1000, -1, -30, -200])
def test_truncated_files(kept: int, tmp_path: Path) -> None:
    whole = save(tmp_path / "x.ckpt", {"a": torch.arange(1000.0)}).read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(whole[:kept])
    with pytest.raises(WeightsError, match=r"cut\.ckpt: .*(truncated|damaged|not a PyTorch checkpoint)"):
        read_checkpoint(path)


def test_flipped_bytes_in_a_tensor_are_seen(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.full((1000,), 7.0)})
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(struct.pack("<f", 7.0) * 4)] ^= 1
    path.write_bytes(damaged)
    checkpoint = read_checkpoint(path)
    with pytest.raises(WeightsError, match=r"x\.ckpt: damaged: .*CRC"):
        checkpoint.tensors(checkpoint.content)


def test_files_that_are_something_else(tmp_path: Path, kitti_scan: Path) -> None:
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint"):
        read_checkpoint(kitti_scan)
    with pytest.raises(WeightsError, match="No such file"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(WeightsError, match="directory"):
        read_checkpoint(tmp_path)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(WeightsError, match=r"no data\.pkl"):
        read_checkpoint(tmp_path / "arrays.npz")
    legacy = tmp_path / "legacy.pth"
    torch.save({"a": torch.zeros(3)}, legacy, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"before PyTorch 1\.6"):
        read_checkpoint(legacy)


def test_an_archive_of_two_checkpoints(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(3)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("y/data.pkl", b"}.")
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint"):
        read_checkpoint(path)


def test_a_torchscript_program(tmp_path: Path) -> None:
    path = save(tmp_path / "program.pt", {})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("program/constants.pkl", b").")
    with pytest.raises(WeightsError, match="TorchScript"):
        read_checkpoint(path)


def test_a_missing_or_short_storage(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(1000)})
    with pytest.raises(WeightsError, match="no data/0"):
        read_checkpoint(rewrite(path, tmp_path / "y.ckpt", only("data/0", None)))
    with pytest.raises(WeightsError, match=r"claims 1000 elements, but its file has 3999 bytes"):
        read_checkpoint(rewrite(path, tmp_path / "y.ckpt", only("data/0", bytes(3999))))


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(1_000_000)})
    bomb = rewrite(path, tmp_path / "y.ckpt", lambda _, old: old, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed"):
        read_checkpoint(bomb)


def directory_entry(content: bytearray) -> int:
    """Where the zip's directory tells of x/data/0."""
    return content.rindex(b"PK\x01\x02", 0, content.rindex(b"x/data/0"))


def test_sizes_beyond_the_file_are_refused(tmp_path: Path) -> None:
    """The zip's directory claims 2 GB for a storage of a few bytes."""
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(4)})
    content = bytearray(path.read_bytes())
    entry = directory_entry(content)
    content[entry + 20 : entry + 28] = struct.pack("<II", 2_000_000_000, 2_000_000_000)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="claims 2000000000 bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 8), (20, 15)], ids=["encrypted", "deflated", "smaller"])
def test_what_the_directory_claims_to_be_packed_is_refused(offset: int, value: int, tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(4)})
    content = bytearray(path.read_bytes())
    content[directory_entry(content) + offset] = value
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="data/0 is compressed or encrypted"):
        read_checkpoint(path)


def test_a_pickle_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(4)})
    pickled = bytes(MAX_PICKLE_BYTES + 1)
    with pytest.raises(WeightsError, match=r"its data\.pkl has 8388609 bytes, more than the 8388608 it may have"):
        read_checkpoint(rewrite(path, tmp_path / "y.ckpt", only("data.pkl", pickled)))


def test_a_damaged_directory_gives_a_value_or_a_weights_error(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(4)})
    whole = path.read_bytes()
    refused = 0
    for position in range(whole.index(b"PK\x01\x02"), len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x80
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except WeightsError:
            refused += 1
    assert refused > 100


def view_pickle(offset: int, shape: tuple[int, ...], stride: tuple[int, ...], length: int, key: str = "0") -> bytes:
    """The pickle of {"a": a tensor of this view}, written by hand."""

    def number(value: int) -> bytes:
        data = pickle.encode_long(value)
        return b"\x8a" + bytes([len(data)]) + data

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(length) + b"tQ"
    arguments = b"(" + storage + number(offset) + numbers(shape) + numbers(stride) + b"\x89}t"
    return b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def test_hand_written_view(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.arange(12.0)})
    changed = rewrite(path, tmp_path / "y.ckpt", only("data.pkl", view_pickle(2, (2, 3), (5, 2), 12)))
    assert_reads_back(changed, {"a": torch.tensor([[2.0, 4, 6], [7, 9, 11]])})


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        ((0, (13,), (1,), 12), "does not fit"),
        ((1, (12,), (1,), 12), "does not fit"),
        ((0, (3, 4), (5, 1), 12), "does not fit"),
        ((12, (1,), (1,), 12), "does not fit"),
        ((0, (1 << 40,), (0,), 12), "does not fit"),  # one element repeated
        ((0, (2, 2), (1 << 61, 1), 12), "does not fit"),
        ((-1, (3,), (1,), 12), "negative"),
        ((0, (-3,), (1,), 12), "negative"),
        ((0, (3,), (-1,), 12), "negative"),
        ((0, (1 << 80,), (1,), 12), "not a number of this world"),
        ((0, (2, 2), (1,), 12), "dimensions"),
        ((0, (1,) * 100, (1,) * 100, 12), "dimensions"),
        ((0, (12,), (1,), 1 << 40), "claims"),
        ((0, (12,), (1,), -5), "claims"),
        ((0, (12,), (1,), 12, "../secret"), "outside of its pickle"),
        ((0, (12,), (1,), 12, "7"), "no data/7"),
    ],
)
def test_views_that_leave_their_storage_are_refused(view: tuple[Any, ...], reason: str, tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.arange(12.0)})
    with pytest.raises(WeightsError, match=reason):
        read_checkpoint(rewrite(path, tmp_path / "y.ckpt", only("data.pkl", view_pickle(*view))))


class Rebuilt:
    """Pickles as a tensor of any arguments."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


STORAGE = torch.arange(12.0)._typed_storage()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((None, 0, (1,), (1,)), "without a storage or a shape"),
        ((STORAGE, 0, [12], (1,)), "without a storage or a shape"),
        ((STORAGE, 0, (12,), [1]), "without a storage or a shape"),
        ((STORAGE, 0.0, (12,), (1,)), "not a number of this world"),
        ((STORAGE, 0, ("12",), (1,)), "not a number of this world"),
    ],
)
def test_views_of_other_types_are_refused(arguments: tuple[Any, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        read_checkpoint(save(tmp_path / "x.ckpt", {"a": Rebuilt(*arguments)}))


def test_tensors_cannot_be_written_to_by_the_pickle(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.arange(12.0)})
    view = view_pickle(0, (12,), (1,), 12)
    for attack, reason in ((b"K\x00K\x01s", "set items of"), (b"K\x01a", "append to"), (b"}b", "set the state of")):
        pickled = view.removesuffix(b"s.") + attack + b"s."
        with pytest.raises(WeightsError, match=reason):
            read_checkpoint(rewrite(path, tmp_path / "y.ckpt", only("data.pkl", pickled)))


def test_types_no_network_has_are_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(3, dtype=torch.complex64)})
    with pytest.raises(WeightsError, match=r"torch\.ComplexFloatStorage"):
        read_checkpoint(path)
