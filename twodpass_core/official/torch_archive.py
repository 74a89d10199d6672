"""PyTorch checkpoint files (the zip format of torch.save since 1.6), read without `torch.load` and without trust.

The archive holds a pickle (`<name>/data.pkl`) and one raw file for each tensor storage (`<name>/data/<key>`).
The pickle goes through `restricted_unpickler`; tensors stay references until they are asked for by name.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twodpass_core.errors import WeightsError
from twodpass_core.official.restricted_unpickler import MAX_PICKLE_BYTES, Constructor, Global, read_pickle

MAX_DIMENSIONS = 16

STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class StorageReference:
    """A run of `length` elements in the archive. The device it was saved from does not matter: all goes to the CPU."""

    key: str
    dtype: torch.dtype
    length: int


@dataclass(frozen=True)
class TensorReference:
    """A view of a storage: offset, shape and stride in elements, known to lie inside the storage."""

    storage: StorageReference
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What `torch.save` wrote. In `content` tensors are TensorReference, unknown objects InertObject."""

    path: Path
    content: Any
    not_constructed: tuple[str, ...]
    """Names of the classes and functions in the file that were left inert."""

    def tensors(self, references: Mapping[str, TensorReference]) -> dict[str, torch.Tensor]:
        """Contiguous CPU tensors of their own memory, of the dtypes in the file. Raises WeightsError."""
        with _open_archive(self.path) as archive:
            return {name: archive.tensor(reference) for name, reference in references.items()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the structure of a checkpoint, running no code from it. Raises WeightsError saying what is wrong."""
    with _open_archive(path) as archive:
        content, inert = read_pickle(archive.read("data.pkl", MAX_PICKLE_BYTES), _CONSTRUCTORS, archive.storage)
    return Checkpoint(path, content, tuple(sorted(map(str, inert))))


@contextmanager
def _open_archive(path: Path) -> Iterator[_Archive]:
    """Every failure inside becomes a WeightsError that begins with the path."""
    try:
        if not zipfile.is_zipfile(path):
            raise WeightsError(_why_not_zip(path))
        with zipfile.ZipFile(path) as file:
            yield _Archive(file, path.stat().st_size)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path}: damaged: {error}. Download or copy it again") from error


def _why_not_zip(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":
        return "a truncated zip archive: download or copy it again"
    if head[:1] == b"\x80":
        return (
            "a checkpoint in the format from before PyTorch 1.6, which is not read here. Where you trust the file, "
            "write it again: torch.save(torch.load(path, weights_only=False), new_path)"
        )
    return "not a PyTorch checkpoint (a zip archive)"


class _Archive:
    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self.entries = {info.filename: info for info in file.infolist()}
        roots = [name.removesuffix("data.pkl") for name in self.entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise WeightsError("a zip archive, but not a PyTorch checkpoint: it has no data.pkl of its own")
        self.file = file
        self.size = size
        self.root = roots[0]
        if f"{self.root}constants.pkl" in self.entries:
            raise WeightsError("a TorchScript program, not a checkpoint: give the file the trainer wrote")
        self.byte_order = ">" if self._byte_order() == b"big" else "<"

    def _byte_order(self) -> bytes:
        return self.read("byteorder", 16) if f"{self.root}byteorder" in self.entries else b"little"

    def read(self, name: str, limit: int) -> bytes:
        """One file of the archive, at most `limit` bytes."""
        entry = self._entry(name)
        if entry.file_size > limit:
            raise WeightsError(f"its {name} has {entry.file_size} bytes, more than the {limit} it may have")
        return self.file.read(entry)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if f"{self.root}{name}" not in self.entries:
            raise WeightsError(f"it has no {name}: not a checkpoint, or not a complete one")
        entry = self.entries[f"{self.root}{name}"]
        # What is compressed could grow to any size.
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise WeightsError(f"its {name} is compressed or encrypted, which torch.save never does")
        if entry.file_size > self.size:
            raise WeightsError(f"its {name} claims {entry.file_size} bytes, the whole file has {self.size}")
        return entry

    def storage(self, persistent_id: Any) -> StorageReference:
        """The storage a pickle's persistent id speaks of: ("storage", type, key, device, length, ...)."""
        match persistent_id:
            case ("storage", Global(module="torch", name=kind), str(key), str(), int(length), *_) if key.isalnum():
                if kind not in STORAGE_DTYPES:
                    raise WeightsError(f"it has tensors of type torch.{kind}, which are not read here")
                storage = StorageReference(key, STORAGE_DTYPES[kind], length)
                present = self._entry(f"data/{key}").file_size
                if not 0 <= length * storage.dtype.itemsize <= present:
                    raise WeightsError(f"storage {key} claims {length} elements, but its file has {present} bytes")
                return storage
        raise WeightsError("it refers to something outside of its pickle that is not a tensor storage")

    def tensor(self, reference: TensorReference) -> torch.Tensor:
        storage = reference.storage
        size = storage.dtype.itemsize
        data = self.read(f"data/{storage.key}", self._entry(f"data/{storage.key}").file_size)
        words = np.frombuffer(data, np.dtype(f"{self.byte_order}u{size}"), count=storage.length)
        native = torch.from_numpy(words.astype(np.dtype(f"=u{size}")).view(np.uint8)).view(storage.dtype)
        return torch.as_strided(native, reference.shape, reference.stride, reference.offset).clone(
            memory_format=torch.contiguous_format
        )


def _view(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorReference:
    """Stands for torch._utils._rebuild_tensor_v2; refuses views that leave their storage or repeat its elements."""
    if not (isinstance(storage, StorageReference) and isinstance(shape, tuple) and isinstance(stride, tuple)):
        raise WeightsError("it has a tensor without a storage or a shape")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise WeightsError(f"it has a tensor of {len(shape)} dimensions with {len(stride)} strides")
    if not all(isinstance(number, int) and 0 <= number < 1 << 62 for number in numbers):
        raise WeightsError("it has a tensor whose offset, shape or stride is negative or not a number of this world")
    elements = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if elements else 0
    if elements > storage.length or last >= max(storage.length, 1):
        raise WeightsError(
            f"it has a tensor of shape {shape}, stride {stride} at offset {offset}, "
            f"which does not fit its storage of {storage.length} elements"
        )
    return TensorReference(storage, offset, shape, stride)


def _parameter(data: Any, *_: Any) -> Any:
    """Stands for torch._utils._rebuild_parameter."""
    return data


def _empty_dict() -> dict[Any, Any]:
    """Stands for OrderedDict(); the items follow one by one."""
    return {}


_CONSTRUCTORS: Mapping[Global, Constructor] = {
    Global("torch._utils", "_rebuild_tensor_v2"): _view,
    Global("torch._utils", "_rebuild_parameter"): _parameter,
    Global("torch", "Size"): tuple,
    Global("collections", "OrderedDict"): _empty_dict,
}
