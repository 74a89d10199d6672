"""Sparse convolution by torchsparse 2.1, CUDA only. It computes in float32 and float16; bf16 is widened.

Its ways differ from ours in these points, all converted here. Kernels of odd size have offsets with x running fastest
(those of even size z, as ours). Coordinates may not be negative. Maps are found by convolutions alone, and kept in a
cache that their results share. A strided convolution drops the last cells of an odd range; the voxels it makes are
sorted as ours are. It rounds float32 to TF32 by a switch of its own, for the whole process, which follows torch's here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twodpass_core.device import allows_tf32
from twodpass_core.sparse.backend import StridedMaps, check_operands
from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import Halving, VoxelLevel
from twodpass_core.sparse.strided import NUM_STRIDED_OFFSETS

MAX_CELLS = 1 << 31  # of the coarse level: torchsparse counts them in 32 bits
PROBE_WIDTH = 16  # channels that any of its kernels takes


@dataclass(frozen=True)
class TorchsparseMap:
    """A convolution as torchsparse is asked for it."""

    num_sources: int
    num_offsets: int
    sources: Any  # a SparseTensor without features; its cache has the maps, or gets them at the first convolution
    options: Mapping[str, Any]  # of torchsparse's conv3d


class TorchsparseBackend:
    """The user's torchsparse, with our weights."""

    name = "torchsparse"

    def __init__(self) -> None:
        from torchsparse import SparseTensor, backends  # asks for the CUDA device at import
        from torchsparse.nn.functional import conv3d

        self._sparse_tensor, self._conv3d, self._settings = SparseTensor, conv3d, backends

    def build_map(self, level: VoxelLevel) -> TorchsparseMap:
        """torchsparse itself finds the neighbours, at the first convolution."""
        coordinates = torchsparse_coordinates(level)
        sources = self._sparse_tensor(coordinates[:, :0], coordinates)
        options = {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "training": torch.is_grad_enabled()}
        return TorchsparseMap(level.num_voxels, NUM_OFFSETS, sources, options)

    def build_strided_maps(self, halving: Halving) -> StridedMaps:
        """Two convolutions of zeros: of size 1, which notes the voxels to come back to, and of stride 2.

        Raises:
            ValueError: the coarse voxels are spread over more cells than torchsparse can count.
        """
        down = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "training": torch.is_grad_enabled()}
        up = {**down, "transposed": True}
        sizes = halving.fine.num_voxels, halving.coarse.num_voxels
        if halving.fine.num_voxels == 0:
            return StridedMaps(*(TorchsparseMap(0, NUM_STRIDED_OFFSETS, None, options) for options in (down, up)))
        coordinates = torchsparse_coordinates(halving.fine, multiple=2)
        zeros = torch.zeros(sizes[0], PROBE_WIDTH, device=coordinates.device)
        fine = self._sparse_tensor(zeros, coordinates, spatial_range=_even_range(coordinates))
        with torch.autocast(zeros.device.type, enabled=False):  # it would make the first one's result bf16
            fine = self._conv3d(fine, zeros.new_zeros(PROBE_WIDTH, PROBE_WIDTH), kernel_size=1)
            coarse = self._conv3d(fine, zeros.new_zeros(NUM_STRIDED_OFFSETS, PROBE_WIDTH, PROBE_WIDTH), **down)
        if coarse.coords.shape[0] != sizes[1]:
            raise ValueError(f"torchsparse finds {coarse.coords.shape[0]} coarse voxels where there are {sizes[1]}")
        fine.feats, coarse.feats = fine.feats[:, :0], coarse.feats[:, :0]
        return StridedMaps(
            down=TorchsparseMap(sizes[0], NUM_STRIDED_OFFSETS, fine, down),
            up=TorchsparseMap(sizes[1], NUM_STRIDED_OFFSETS, coarse, up),
        )

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: TorchsparseMap, addend: Tensor) -> Tensor:
        check_operands(features, weight, kernel_map.num_sources, kernel_map.num_offsets)
        if features.shape[0] == 0:
            return features @ weight[0] + addend
        dtype = torch.float16 if features.dtype == torch.float16 else torch.float32
        here = copy(kernel_map.sources)  # shares coordinates and cache
        here.feats = features.to(dtype)
        self._settings.allow_tf32 = allows_tf32()
        out = self._conv3d(here, torchsparse_weight(weight).to(dtype), **kernel_map.options)
        summed: Tensor = out.feats.to(features.dtype) + addend
        return summed


def torchsparse_coordinates(level: VoxelLevel, multiple: int = 1) -> Tensor:
    """(M, 4) int32 sample, x, y, z, moved by multiples of `multiple` so that the least x, y, z are in 0..multiple-1."""
    coordinates = level.coordinates
    if level.num_voxels:
        lowest = coordinates[:, 1:].amin(dim=0)
        coordinates[:, 1:] -= lowest - lowest % multiple
    return coordinates.to(torch.int32)


def torchsparse_weight(weight: Tensor) -> Tensor:
    """(27, C_in, C_out) with offset (dx, dy, dz) at (dz + 1) * 9 + (dy + 1) * 3 + (dx + 1); of size 8 as it is."""
    if weight.shape[0] != NUM_OFFSETS:
        return weight
    return weight.reshape(3, 3, 3, *weight.shape[1:]).transpose(0, 2).reshape(NUM_OFFSETS, *weight.shape[1:])


def _even_range(coordinates: Tensor) -> tuple[int, ...]:
    """Samples, and the even numbers of cells that hold all coordinates (M, 4), so that none of them is dropped."""
    sample, *last = coordinates.amax(dim=0).tolist()
    cells = tuple(2 * (cell // 2 + 1) for cell in last)
    if (sample + 1) * math.prod(cells) // 8 >= MAX_CELLS:
        raise ValueError(f"torchsparse cannot count the cells of {sample + 1} samples of {cells} cells")
    return sample + 1, *cells
