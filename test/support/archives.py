"""Checkpoints as torch.save writes them, changed as somebody hostile or a broken disk would."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from twodpass_core.official.torch_archive import read_checkpoint


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
