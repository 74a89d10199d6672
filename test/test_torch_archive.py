"""Checkpoints as torch.save writes them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import assert_reads_back, only, rewrite, save

from twodpass_core.official.torch_archive import TensorReference, read_checkpoint

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_read_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(24).reshape(2, 3, 4).to(dtype), "scalar": torch.tensor(1).to(dtype)}
    assert_reads_back(save(tmp_path / "x.ckpt", tensors), tensors)


def test_views_of_shared_storage_read_back(tmp_path: Path) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {"base": base, "transposed": base.permute(2, 0, 1), "part": base[1:, ::2, 3]}
    tensors |= {"empty": base[:0], "nothing": torch.zeros(0)}
    assert_reads_back(save(tmp_path / "x.ckpt", tensors), tensors)


def test_parameters_and_modules_state(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    parameter = torch.nn.Parameter(torch.arange(3.0))
    content = {"s": module.state_dict(), "p": parameter, "shape": parameter.shape}
    checkpoint = read_checkpoint(save(tmp_path / "x.ckpt", content))
    assert torch.equal(checkpoint.tensors({"p": checkpoint.content["p"]})["p"], torch.arange(3.0))
    assert checkpoint.content["shape"] == (3,)
    assert checkpoint.content["s"].keys() == module.state_dict().keys()


def test_memory_is_of_its_own(tmp_path: Path) -> None:
    large = torch.zeros(1000)
    path = save(tmp_path / "x.ckpt", {"a": large[:3], "large": large})
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors({"a": checkpoint.content["a"], "again": checkpoint.content["a"]})
    tensors["a"] += 1
    assert tensors["again"].sum() == 0
    assert tensors["a"].untyped_storage().nbytes() == 3 * 4


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


def test_files_from_before_they_told_their_byte_order(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.arange(3.0)})
    assert_reads_back(rewrite(path, tmp_path / "y.ckpt", only("byteorder", None)), {"a": torch.arange(3.0)})


def test_what_was_not_constructed_is_told_in_order(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"a": torch.zeros(1)})
    calls = b"(" + b"".join(b"cmodule\n%c\n)R" % letter for letter in b"dbeac") + b"l."
    checkpoint = read_checkpoint(rewrite(path, tmp_path / "y.ckpt", only("data.pkl", calls)))
    assert checkpoint.not_constructed == tuple(f"module.{letter}" for letter in "abcde")


@pytest.mark.parametrize("name", ["official_student_semantickitti.ckpt", "tiny_lightning138.ckpt"])
def test_reads_what_lightning_1_3_8_wrote(name: str, golden: Path) -> None:
    checkpoint = read_checkpoint(golden / name)
    assert "easydict.EasyDict" in checkpoint.not_constructed
    state = checkpoint.content["state_dict"]
    assert len(state) == 241
    assert all(isinstance(reference, TensorReference) for reference in state.values())
    tensors = checkpoint.tensors(state)
    assert all(tensors[key].shape == state[key].shape for key in state)
