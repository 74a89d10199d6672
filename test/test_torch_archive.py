"""Checkpoints as torch.save writes them, and as somebody hostile or a broken disk would."""

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

from twodpass_core.errors import WeightsError
from twodpass_core.official.torch_archive import TensorReference, read_checkpoint


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **options: Any) -> Path:
    """Copy a zip archive, changing (or with None leaving out) the content of its files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            content = change(name.split("/", 1)[1], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def only(part: str, content: bytes | None) -> Callable[[str, bytes], bytes | None]:
    return lambda name, old: content if name == part else old


def assert_reads_back(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    checkpoint = read_checkpoint(path)
    for name, tensor in checkpoint.tensors(checkpoint.content).items():
        assert tensor.dtype == tensors[name].dtype
        assert tensor.is_contiguous()
        assert torch.equal(tensor, tensors[name])


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_read_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(24).reshape(2, 3, 4).to(dtype), "scalar": torch.tensor(1).to(dtype)}
    assert_reads_back(save(tmp_path / "x.ckpt", tensors), tensors)


def test_views_of_shared_storage_read_back(tmp_path: Path) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {"base": base, "transposed": base.permute(2, 0, 1), "part": base[1:, ::2, 3], "empty": base[:0]}
    assert_reads_back(save(tmp_path / "x.ckpt", tensors), tensors)


def test_parameters_and_modules_state(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    checkpoint = read_checkpoint(
        save(tmp_path / "x.ckpt", {"s": module.state_dict(), "p": torch.nn.Parameter(torch.arange(3.0))})
    )
    assert torch.equal(checkpoint.tensors({"p": checkpoint.content["p"]})["p"], torch.arange(3.0))
    assert checkpoint.content["s"].keys() == module.state_dict().keys()


def test_memory_is_of_its_own(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(3), "b": torch.zeros(3)})
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors({"a": checkpoint.content["a"], "again": checkpoint.content["a"]})
    tensors["a"] += 1
    assert tensors["again"].sum() == 0


def test_cuda_storages_come_to_the_cpu(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.arange(3.0)})
    cuda = b"X\x06\x00\x00\x00cuda:0"
    changed = rewrite(
        path,
        tmp_path / "y.ckpt",
        lambda name, old: old.replace(b"X\x03\x00\x00\x00cpu", cuda) if name == "data.pkl" else old,
    )
    assert cuda in zipfile.ZipFile(changed).read("x/data.pkl")
    assert_reads_back(changed, {"a": torch.arange(3.0)})


def test_big_endian_files(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.arange(3.0)})

    def swap(name: str, old: bytes) -> bytes:
        if name == "byteorder":
            return b"big"
        return np.frombuffer(old, "<f4").astype(">f4").tobytes() if name == "data/0" else old

    assert_reads_back(rewrite(path, tmp_path / "y.ckpt", swap), {"a": torch.arange(3.0)})


@pytest.mark.parametrize("name", ["official_student_semantickitti.ckpt", "tiny_lightning138.ckpt"])
def test_reads_what_lightning_1_3_8_wrote(name: str, golden: Path) -> None:
    checkpoint = read_checkpoint(golden / name)
    assert "easydict.EasyDict" in checkpoint.not_constructed
    state = checkpoint.content["state_dict"]
    assert len(state) == 241
    assert all(isinstance(reference, TensorReference) for reference in state.values())
    tensors = checkpoint.tensors(state)
    assert all(tensors[key].shape == state[key].shape for key in state)


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


def test_sizes_beyond_the_file_are_refused(tmp_path: Path) -> None:
    """The zip's directory claims 2 GB for a storage of a few bytes."""
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(4)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"x/data/0"))
    content[entry + 20 : entry + 28] = struct.pack("<II", 2_000_000_000, 2_000_000_000)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="claims 2000000000 bytes"):
        read_checkpoint(path)


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
