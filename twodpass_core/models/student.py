"""The student: the LiDAR network of 2DPASS (section 3.2), a point-voxel encoder on sparse voxels.

At every scale a voxel branch convolves the occupied voxels and a point branch mixes them with their coarser
surroundings; the point branches of all scales are read at the points and classified. This is the network in its
trainable form; for inference `models.folded` computes the same faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.checked import Checked
from twodpass_core.models.layers import PointwiseConvolution, SubmanifoldConvolution, VoxelNorm
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.sparse.pyramid import VoxelLevel, VoxelPyramid, build_pyramid
from twodpass_core.sparse.rows import Membership, Pooling, group_runs, mean_rows, spread_rows, spread_sum
from twodpass_core.sparse.torch_backend import TorchBackend

LEAK = 0.1  # slope of every Leaky ReLU
VOXEL_DESCRIPTION = 6  # per point: offset from the mean of its voxel's points, offset from the voxel's corner


class StudentShape(Checked):
    """What of the student's shape may be chosen. The defaults are the published SemanticKITTI network."""

    scales: tuple[PositiveInt, ...] = Field(
        (2, 4, 8, 16), min_length=1, max_length=16, description="output scale of each block"
    )
    width: int = Field(64, ge=2, le=4096, multiple_of=2, description="feature channels, even (C)")
    hidden: int = Field(128, ge=1, le=65536, description="hidden channels of the classifier")


class StudentConfig(StudentShape):
    """Shape of the student, with what the data decides."""

    num_classes: int = Field(20, ge=2, le=255, description="training ids, class 0 included (K)")
    input_dims: int = Field(4, ge=4, le=4, description="x, y, z, intensity")

    @property
    def input_scales(self) -> tuple[int, ...]:
        """The scale whose voxels each block works on: the output scale of the block before."""
        return (1, *self.scales[:-1])


@dataclass(frozen=True, eq=False)
class ScaleFeatures:
    """What distillation reads at one scale: features F^3D of the voxels (M, C), and each point's voxel (N,) int32."""

    features: Tensor
    point_to_voxel: Tensor


@dataclass(frozen=True, eq=False)
class StudentOutput:
    """Logits of every point (N, K), and the features of each block's voxels, first block first."""

    logits: Tensor
    scale_features: tuple[ScaleFeatures, ...]


class PointVoxelStudent(nn.Module):
    """Points in, per-point logits and per-scale features out. Its backend, torch unless given, may be exchanged."""

    def __init__(self, config: StudentConfig, grid: VoxelGrid, backend: SparseBackend | None = None) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        self.backend: SparseBackend = backend or TorchBackend()
        width = config.width
        self.point_encoder = nn.Sequential(
            nn.Linear(config.input_dims + VOXEL_DESCRIPTION, width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(PointVoxelBlock(width) for _ in config.scales)
        self.classifier = nn.Sequential(
            nn.Linear(width * len(config.scales), config.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden, config.num_classes),
        )

    def forward(self, points: Tensor, sample: Tensor | None = None) -> StudentOutput:
        """Segment points (N, 4) float32 x, y, z, intensity; integers `sample` (N,) tell the scans of a batch apart."""
        pyramid = build_pyramid(points, sample, self.grid, self.config.scales)
        levels = [pyramid.levels[scale] for scale in dict.fromkeys(self.config.input_scales)]
        maps = build_maps(self.backend, levels, group_runs(*(level.runs_by_two() for level in levels)))
        features = self.encode(points, pyramid)
        point_features, scale_features = [], []
        for block, source, target in zip(self.blocks, self.config.input_scales, self.config.scales, strict=True):
            pooling = pyramid.pooling(source, target)
            of_voxels, of_points = block(features, maps[source], pooling, self.backend)
            scale_features.append(ScaleFeatures(of_voxels, pyramid.point_to_voxel(source)))
            point_features.append(of_points)
            features = of_points + pooling(of_voxels)
        logits = self.classify(point_features, pyramid)
        return StudentOutput(logits.index_select(0, pyramid.point_to_atom), tuple(scale_features))

    def encode(self, points: Tensor, pyramid: VoxelPyramid) -> Tensor:
        """Points (N, 4) -> features of their voxels at scale 1 (M_1, C)."""
        first, rectify, second = self.point_encoder
        # Coordinates span tens of metres and matter to the millimetre: float32 also in mixed precision.
        with torch.autocast(points.device.type, enabled=False):
            described = mean_rows(rectify(first(describe_points(points, pyramid, self.grid))), pyramid.points)
        # A linear layer and a mean may change places: the layer runs where rows are fewer, here and below.
        features: Tensor = second(described)
        return features

    def classify(self, point_features: Sequence[Tensor], pyramid: VoxelPyramid) -> Tensor:
        """Logits of the atoms (A, K): of all scales' features side by side, without ever putting them there."""
        first, rectify, second = self.classifier
        assert isinstance(first, nn.Linear)
        weights = first.weight.split(self.config.width, dim=1)
        biases = [*(None for _ in weights[1:]), first.bias]  # the sum's, added where rows are few
        hidden = [F.linear(*layer) for layer in zip(point_features, weights, biases, strict=True)]
        summed = spread_sum(hidden, [pyramid.levels[scale].atoms for scale in self.config.scales])
        logits: Tensor = second(rectify(summed))
        return logits


@dataclass(frozen=True, eq=False)
class LevelMaps:
    """Where the voxels of a level find their surroundings."""

    neighbours: Any  # the backend's map
    parents: Membership  # of the voxels in groups by floor(cell / 2)


def build_maps(
    backend: SparseBackend, levels: Sequence[VoxelLevel], parents: Sequence[Membership]
) -> dict[int, LevelMaps]:
    """The maps of each level, by its scale."""
    return {
        level.scale: LevelMaps(backend.build_map(level), groups) for level, groups in zip(levels, parents, strict=True)
    }


class PointVoxelBlock(nn.Module):
    """One scale: two residual blocks on the voxels, and the point branch that carries them to the next scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.voxel_branch = nn.ModuleList(ResidualBlock(width) for _ in range(2))
        self.point_branch = PointBranch(width)

    def forward(
        self, features: Tensor, maps: LevelMaps, pooling: Pooling, backend: SparseBackend
    ) -> tuple[Tensor, Tensor]:
        """(M_source, C) -> voxel features (M_source, C), point features (M_target, C)."""
        voxel_features = features
        for residual in self.voxel_branch:
            voxel_features = residual(voxel_features, backend, maps.neighbours)
        return voxel_features, self.point_branch(features, voxel_features, maps.parents, pooling)


class ResidualBlock(nn.Module):
    """Two 3x3x3 submanifold convolutions beside a 1x1x1 shortcut, each with batch normalisation over the voxels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shortcut = PointwiseConvolution(width)
        self.shortcut_norm = VoxelNorm(width)
        self.convolution1 = SubmanifoldConvolution(width, width)
        self.norm1 = VoxelNorm(width)
        self.convolution2 = SubmanifoldConvolution(width, width)
        self.norm2 = VoxelNorm(width)

    def forward(self, features: Tensor, backend: SparseBackend, neighbours: object) -> Tensor:
        """(M, C) -> (M, C); `neighbours` is the backend's map of these M voxels."""
        hidden = _leaky(self.norm1(self.convolution1(features, backend, neighbours)))
        main = self.norm2(self.convolution2(hidden, backend, neighbours))
        return _leaky(main + self.shortcut_branch(features))

    def shortcut_branch(self, features: Tensor) -> Tensor:
        """(M, C) -> (M, C), normalised."""
        normalised: Tensor = self.shortcut_norm(self.shortcut(features))
        return normalised


class PointBranch(nn.Module):
    """Voxel features merged with those of their 2x2x2 surroundings, then averaged over points."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.direct = nn.Linear(width, width)
        self.context = nn.Sequential(
            nn.Linear(width, half), nn.LeakyReLU(LEAK), VoxelNorm(half),
            nn.Linear(half, half), nn.LeakyReLU(LEAK), VoxelNorm(half),
            nn.Linear(half, width), nn.LeakyReLU(LEAK),
        )  # fmt: skip
        self.merge = nn.Sequential(nn.Linear(2 * width, width), nn.LeakyReLU(LEAK), nn.Linear(width, width))

    def forward(self, features: Tensor, voxel_features: Tensor, surroundings: Membership, pooling: Pooling) -> Tensor:
        """What goes into the voxel branch and what comes out of it (M_source, C) -> (M_target, C)."""
        features = features + voxel_features
        context = self.context(mean_rows(features, surroundings))
        direct = _leaky(self.direct(features))
        first, _, second = self.merge
        assert isinstance(first, nn.Linear)
        weight_direct, weight_context = first.weight.chunk(2, dim=1)
        merged = F.linear(direct, weight_direct, first.bias)
        merged = _leaky(merged + spread_rows(F.linear(context, weight_context), surroundings))
        # All points of a voxel have equal inputs here: merging per voxel, then averaging over points, is the same.
        out: Tensor = second(pooling(merged))
        return out


def _leaky(features: Tensor) -> Tensor:
    """Leaky ReLU in place: its gradient needs the result only, so that the input need not be kept."""
    return F.leaky_relu(features, LEAK, inplace=True)


def describe_points(points: Tensor, pyramid: VoxelPyramid, grid: VoxelGrid) -> Tensor:
    """(N, 10): x, y, z, intensity; offset from the mean of the scale-1 voxel's points; offset from its corner."""
    xyz = points[:, :3]
    mean = spread_rows(mean_rows(xyz, pyramid.points), pyramid.points)
    corner = grid.lower_corners(pyramid.levels[1].keys).index_select(0, pyramid.points.group)
    return torch.cat([points[:, :4], xyz - mean, xyz - corner], dim=1)
