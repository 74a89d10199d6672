"""The same network the way the authors run it: spconv's convolutions, point by point, nothing folded. A peer to time.

spconv's CPU build is right with one thread only (its issue 679): results of more are for timing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.errors import MissingDependencyError
from twodpass_core.models.layers import PointwiseConvolution, SubmanifoldConvolution
from twodpass_core.models.student import (
    LEAK,
    PointBranch,
    PointVoxelBlock,
    PointVoxelStudent,
    ResidualBlock,
)
from twodpass_core.sparse.grid import VoxelGrid, coordinate_rows

INSTALL = "pip install spconv (CPU), or spconv-cu126 and the like for your CUDA"


class SpconvStudent:
    """Built from a PointVoxelStudent; called with points in the volume (N, 4) float32, gives logits (N, K)."""

    def __init__(self, student: PointVoxelStudent, device: torch.device) -> None:
        try:
            import spconv.pytorch as spconv
        except ImportError as error:
            raise MissingDependencyError("spconv", "the spconv peer", INSTALL) from error
        self._spconv = spconv
        self._student = student.to(device).eval()
        self._blocks = [block for block in self._student.blocks if isinstance(block, PointVoxelBlock)]
        self._convolutions = {
            id(module): self._convolution(module.weight.detach(), f"scale_{scale}")
            for block, scale in zip(self._blocks, student.config.input_scales, strict=True)
            for module in block.voxel_branch.modules()
            if isinstance(module, PointwiseConvolution | SubmanifoldConvolution)
        }

    @torch.no_grad()
    def __call__(self, points: Tensor) -> Tensor:
        """Voxelise by unique rows, encode every point, convolve, classify every point."""
        student, config = self._student, self._student.config
        voxels = {scale: _unique_voxels(points, student.grid, scale) for scale in {1, *config.scales}}
        corner = _lower_corners(voxels[1][0], student.grid)[voxels[1][1]]
        centred = points[:, :3] - _mean(points[:, :3], voxels[1][1])[voxels[1][1]]
        described = torch.cat([points, centred, points[:, :3] - corner], dim=1)
        features = _mean(student.point_encoder(described), voxels[1][1])
        at_points = []
        for block, source, target in zip(self._blocks, config.input_scales, config.scales, strict=True):
            coordinates, to_source = voxels[source]
            to_target = voxels[target][1]
            encoded = self._voxel_branch(block, features, coordinates, source)
            point_features = _point_branch(block.point_branch, features + encoded, coordinates, to_source, to_target)
            features = point_features + _mean(encoded[to_source], to_target)
            at_points.append(point_features[to_target])
        logits: Tensor = student.classifier(torch.cat(at_points, dim=1))
        return logits

    def _voxel_branch(self, block: PointVoxelBlock, features: Tensor, coordinates: Tensor, scale: int) -> Tensor:
        shape = [cells + 2 for cells in self._student.grid.cells_at(scale)]
        tensor = self._spconv.SparseConvTensor(features, coordinates.int(), shape, 1)
        for residual in block.voxel_branch:
            assert isinstance(residual, ResidualBlock)
            hidden = self._apply(residual.convolution1, tensor)
            hidden = hidden.replace_feature(F.leaky_relu(residual.norm1(hidden.features), LEAK))
            main = residual.norm2(self._apply(residual.convolution2, hidden).features)
            shortcut = residual.shortcut_norm(self._apply(residual.shortcut, tensor).features)
            tensor = tensor.replace_feature(F.leaky_relu(main + shortcut, LEAK))
        result: Tensor = tensor.features
        return result

    def _apply(self, module: nn.Module, tensor: Any) -> Any:
        return self._convolutions[id(module)](tensor)

    def _convolution(self, weight: Tensor, indice_key: str) -> Any:
        """spconv's layer for our weight: (27, C_in, C_out), or (C_in, C_out) for 1x1x1."""
        width_in, width_out = weight.shape[-2:]
        size = 3 if weight.ndim == 3 else 1
        layer = self._spconv.SubMConv3d(width_in, width_out, size, padding=size // 2, bias=False, indice_key=indice_key)
        if size == 3:
            layer.weight.data = weight.view(3, 3, 3, width_in, width_out).permute(4, 0, 1, 2, 3).contiguous()
        else:  # stored (C_out, 1, 1, 1, C_in), read without a transpose
            layer.weight.data = weight.reshape(width_out, 1, 1, 1, width_in).contiguous()
        return layer.to(weight.device).eval()


def _unique_voxels(points: Tensor, grid: VoxelGrid, scale: int) -> tuple[Tensor, Tensor]:
    cells = grid.cell_indices(coordinate_rows(points), scale).t()
    rows = torch.cat([torch.zeros_like(cells[:, :1]), cells], dim=1)
    coordinates, inverse = torch.unique(rows, dim=0, return_inverse=True)
    return coordinates, inverse


def _lower_corners(coordinates: Tensor, grid: VoxelGrid) -> Tensor:
    minimum = torch.tensor(grid.minimum, device=coordinates.device)
    size = (torch.tensor(grid.maximum, device=coordinates.device) - minimum) / coordinates.new_tensor(grid.cells)
    return coordinates[:, 1:] * size + minimum


def _mean(rows: Tensor, group: Tensor) -> Tensor:
    out = rows.new_zeros(int(group.max()) + 1, rows.shape[1])
    return out.scatter_reduce_(0, group[:, None].expand_as(rows), rows, "mean", include_self=False)


def _point_branch(
    branch: PointBranch, features: Tensor, coordinates: Tensor, to_source: Tensor, to_target: Tensor
) -> Tensor:
    halved = torch.cat([coordinates[:, :1], coordinates[:, 1:].div(2, rounding_mode="floor")], dim=1)
    group = torch.unique(halved, dim=0, return_inverse=True)[1]
    context = branch.context(_mean(features, group))[group]
    merged = torch.cat([F.leaky_relu(branch.direct(features), LEAK), context], dim=1)
    return _mean(branch.merge(merged[to_source]), to_target)
