"""Submanifold convolution by torchsparse 2.1, CUDA only. It computes in float32 and float16; bf16 is widened.

Its ways differ from ours in three points, all converted here: it has offsets with x running fastest, wants coordinates
that are not negative, and keeps neighbour maps in a cache that the tensors of one level share.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twodpass_core.sparse.neighbours import NUM_OFFSETS
from twodpass_core.sparse.pyramid import VoxelLevel


@dataclass(frozen=True)
class TorchsparseMap:
    """A level as torchsparse sees it: a SparseTensor without features, whose cache its convolutions fill and share."""

    sites: Any
    training: bool  # whether the maps of the backward pass are wanted too


class TorchsparseBackend:
    """The user's torchsparse, with our weights."""

    name = "torchsparse"

    def __init__(self) -> None:
        from torchsparse import SparseTensor  # asks for the CUDA device at import
        from torchsparse.nn.functional import conv3d

        self._sparse_tensor, self._conv3d = SparseTensor, conv3d

    def build_map(self, level: VoxelLevel) -> TorchsparseMap:
        """torchsparse itself finds the neighbours, at the first convolution."""
        coordinates = torchsparse_coordinates(level)
        return TorchsparseMap(self._sparse_tensor(coordinates[:, :0], coordinates), torch.is_grad_enabled())

    def convolve(self, features: Tensor, weight: Tensor, neighbour_map: TorchsparseMap, addend: Tensor) -> Tensor:
        if features.shape[0] == 0:
            return features @ weight[0] + addend
        dtype = torch.float16 if features.dtype == torch.float16 else torch.float32
        here = copy(neighbour_map.sites)  # shares coordinates and cache
        here.feats = features.to(dtype)
        kernel = torchsparse_weight(weight).to(dtype)
        out = self._conv3d(here, kernel, 3, stride=1, padding=1, dilation=1, training=neighbour_map.training)
        summed: Tensor = out.feats.to(features.dtype) + addend
        return summed


def torchsparse_coordinates(level: VoxelLevel) -> Tensor:
    """(M, 4) int32 sample, x, y, z, moved so that the least x, y and z are 0."""
    coordinates = level.coordinates
    if level.num_voxels:
        coordinates[:, 1:] -= coordinates[:, 1:].amin(dim=0)
    return coordinates.to(torch.int32)


def torchsparse_weight(weight: Tensor) -> Tensor:
    """(27, C_in, C_out) with offset (dx, dy, dz) at (dz + 1) * 9 + (dy + 1) * 3 + (dx + 1)."""
    return weight.reshape(3, 3, 3, *weight.shape[1:]).transpose(0, 2).reshape(NUM_OFFSETS, *weight.shape[1:])
