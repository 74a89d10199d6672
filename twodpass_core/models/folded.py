"""The student as it is deployed: the same function as PointVoxelStudent in evaluation mode, folded for speed.

* Batch normalisation is folded into the convolution before it or the linear layer after it.
* Whatever is equal for all points of a voxel is computed once per voxel; linear layers move behind the averages they
  commute with.
* The classifier's first layer runs per voxel of each scale, the rest once per *cell*: points that share their voxel at
  every output scale and so get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.clock import StageClock
from twodpass_core.models.layers import VoxelNorm
from twodpass_core.models.student import (
    LEAK,
    LevelMaps,
    PointBranch,
    PointVoxelBlock,
    PointVoxelStudent,
    ResidualBlock,
    build_maps,
    describe_points,
)
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.pyramid import VoxelPyramid, build_pyramid
from twodpass_core.sparse.rows import (
    Membership,
    Pooling,
    Runs,
    group_runs,
    mean_rows,
    rows_in_stack,
    run_begins,
    sum_rows,
)

ROWS_AT_ONCE = 4096
"""Rows that go through successive dense layers together on the CPU: few enough to stay in its cache."""


@dataclass(frozen=True, eq=False)
class CellLogits:
    """Logits (D, K) float32 of the D cells, and the cell of each point (N,) int32."""

    logits: Tensor
    point_to_cell: Tensor


class FoldedStudent:
    """A PointVoxelStudent's weights, folded once, in the number format the network is to run in."""

    def __init__(self, student: PointVoxelStudent, dtype: torch.dtype, device: torch.device) -> None:
        self.config, self.grid, self.backend = student.config, student.grid, student.backend
        encode, embed = student.point_encoder[0], student.point_encoder[2]
        # Coordinates span tens of metres and matter to the millimetre: they are encoded in float32.
        self._encode = _Linear.of(encode, torch.float32, device)
        self._embed = _Linear.of(embed, torch.float32, device)
        hidden = _Linear.of(student.classifier[0], torch.float32, device)
        blocks = [block for block in student.blocks if isinstance(block, PointVoxelBlock)]
        of_blocks = hidden.weight.split(self.config.width)
        self._blocks = [_Block(*block, dtype, device) for block in zip(blocks, of_blocks, strict=True)]
        self._hidden_bias = hidden.bias
        self._output = _Linear.of(student.classifier[2], torch.float32, device)

    @torch.inference_mode()
    def __call__(self, points: Tensor, clock: StageClock) -> CellLogits:
        """Segment the points (N, 4) float32, N > 0, of one scan; see PointVoxelStudent.forward."""
        with clock.stage("voxelise"):
            pyramid = build_pyramid(points, None, self.grid, self.config.scales)
            levels = [pyramid.levels[scale] for scale in dict.fromkeys(self.config.input_scales)]
            atoms_in_cells, *parents = group_runs(
                _cell_runs(pyramid, self.config.scales), *(level.runs_by_two() for level in levels)
            )
            cells = _Cells.of(pyramid, self.config.scales, atoms_in_cells)
        with clock.stage("neighbours"):
            maps = build_maps(self.backend, levels, parents)
        with clock.stage("point_encoder"):
            features = self._encode_voxels(describe_points(points, pyramid, self.grid), pyramid.points)
        sizes = [pyramid.levels[scale].num_voxels for scale in self.config.scales]
        hidden = points.new_empty(sum(sizes), self.config.hidden)
        for index, (block, of_block) in enumerate(zip(self._blocks, hidden.split(sizes), strict=True)):
            with clock.stage(f"block_{index}"):
                source, target = self.config.input_scales[index], self.config.scales[index]
                pooling = pyramid.pooling(source, target)
                features = block(features, maps[source], pooling, self.backend, of_block)
        with clock.stage("classifier"):
            summed = sum_rows(hidden, cells.hidden_rows, cells.hidden_offsets)
            logits = self._output(F.relu_(summed.add_(self._hidden_bias)))
        return CellLogits(logits, cells.point_to_cell)

    def _encode_voxels(self, described: Tensor, voxels: Membership) -> Tensor:
        """(N, 10) of points -> (M, C) of voxels: encode, average over each voxel's points, embed."""
        num_points, num_voxels = described.shape[0], voxels.offsets.shape[0]
        features = described.new_empty(num_voxels, self._embed.bias.shape[0])
        numbers = torch.arange(num_points, dtype=torch.int32, device=described.device)
        at_once = _rows_at_once(features)
        # On a GPU all is one piece, for which the host need not know where a voxel's points begin, and does not wait.
        bounds = [0, *(voxels.offsets[at_once::at_once].tolist() if num_voxels > at_once else ()), num_points]
        of_voxels = features, voxels.offsets, voxels.sizes()[:, None].to(features.dtype)
        for begin, end, (out, offsets, sizes) in zip(bounds[:-1], bounds[1:], _split(at_once, *of_voxels), strict=True):
            encoded = F.relu_(self._encode(described.index_select(0, voxels.order[begin:end])))
            sums = sum_rows(encoded, numbers[: end - begin], offsets - begin)
            self._embed(sums.div_(sizes), out)
        return features


@dataclass(frozen=True, eq=False)
class _Linear:
    weight: Tensor  # (C_in, C_out)
    bias: Tensor

    @classmethod
    def of(
        cls, layer: nn.Module, dtype: torch.dtype, device: torch.device, norm_before: nn.Module | None = None
    ) -> _Linear:
        """Take over a linear layer, with the batch normalisation that precedes it folded in."""
        assert isinstance(layer, nn.Linear)
        weight, bias = layer.weight.detach().double().t(), layer.bias.detach().double()
        if norm_before is not None:
            assert isinstance(norm_before, VoxelNorm)
            scale, shift = norm_before.scale_and_shift()
            bias = bias + shift @ weight
            weight = scale[:, None] * weight
        return cls(weight.to(device, dtype).contiguous(), bias.to(device, dtype))

    def __call__(self, features: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.addmm(self.bias, features, self.weight, out=out)


@dataclass(frozen=True, eq=False)
class _Cells:
    point_to_cell: Tensor  # (N,) int32
    hidden_rows: Tensor  # (D * S,) int32: for each cell its voxel of each block, numbered through all blocks
    hidden_offsets: Tensor  # (D,) int32

    @classmethod
    def of(cls, pyramid: VoxelPyramid, scales: tuple[int, ...], atoms: Membership) -> _Cells:
        """`atoms`: of the atoms in the cells."""
        any_atom = atoms.first_rows()
        groups = [pyramid.levels[scale].atoms.group.index_select(0, any_atom) for scale in scales]
        rows = rows_in_stack(groups, [pyramid.levels[scale].num_voxels for scale in scales])
        return cls(atoms.group.index_select(0, pyramid.point_to_atom), *rows)


def _cell_runs(pyramid: VoxelPyramid, scales: tuple[int, ...]) -> Runs:
    """The atoms, those of a cell one after the other."""
    order = pyramid.levels[min(scales)].atoms.order
    voxels = (pyramid.levels[scale].atoms.group.index_select(0, order) for scale in set(scales))
    return Runs(order.to(torch.int64), run_begins(*voxels))


class _Block:
    """A scale's block, and its share of the classifier's first layer."""

    def __init__(self, block: PointVoxelBlock, hidden: Tensor, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._hidden = dtype, hidden
        self._residuals = [_Residual(r, dtype, device) for r in block.voxel_branch if isinstance(r, ResidualBlock)]
        self._points = _Points(block.point_branch, device)

    def __call__(
        self, features: Tensor, maps: LevelMaps, pooling: Pooling, backend: SparseBackend, hidden: Tensor
    ) -> Tensor:
        """(M_source, C) float32, which it changes -> (M_target, C) float32; writes `hidden` (M_target, H)."""
        voxels = features.to(self._dtype)
        for residual in self._residuals:
            voxels = residual(voxels, backend, maps.neighbours)
        voxels = voxels.float()  # before their averages are rounded, too
        pooled_voxels = pooling(voxels)
        merged = self._points(features.add_(voxels), maps.parents)
        pooled_points = pooling(merged)
        out = torch.empty_like(pooled_points)
        _piecewise(self._finish, pooled_points, pooled_voxels, hidden, out)
        return out

    def _finish(self, points: Tensor, voxels: Tensor, hidden: Tensor, out: Tensor) -> None:
        self._points.finish(points, out)
        torch.mm(out, self._hidden, out=hidden)
        out.add_(voxels)


class _Residual:
    def __init__(self, block: ResidualBlock, dtype: torch.dtype, device: torch.device) -> None:
        scale1, shift1 = block.norm1.scale_and_shift()
        scale2, shift2 = block.norm2.scale_and_shift()
        scale_short, shift_short = block.shortcut_norm.scale_and_shift()
        self._weight1 = (block.convolution1.weight.detach().double() * scale1).to(device, dtype)
        self._bias1 = shift1.to(device, dtype)
        self._weight2 = (block.convolution2.weight.detach().double() * scale2).to(device, dtype)
        shortcut = block.shortcut.weight.detach().double() * scale_short
        self._shortcut = _Linear(shortcut.to(device, dtype), (shift_short + shift2).to(device, dtype))

    def __call__(self, features: Tensor, backend: SparseBackend, neighbours: object) -> Tensor:
        hidden = F.leaky_relu_(backend.convolve(features, self._weight1, neighbours, self._bias1), LEAK)
        return F.leaky_relu_(backend.convolve(hidden, self._weight2, neighbours, self._shortcut(features)), LEAK)


class _Points:
    """The point branch; its last linear layer runs after the average over points (`finish`), where rows are fewer.

    In float32, whatever the convolutions are in: in bf16, this branch and the classifier caused over a quarter of
    the differences in labels.
    """

    def __init__(self, branch: PointBranch, device: torch.device) -> None:
        self._direct = _Linear.of(branch.direct, torch.float32, device)
        context, merge = branch.context, branch.merge
        self._context = [
            _Linear.of(context[0], torch.float32, device),
            _Linear.of(context[3], torch.float32, device, norm_before=context[2]),
            _Linear.of(context[6], torch.float32, device, norm_before=context[5]),
        ]
        merged = _Linear.of(merge[0], torch.float32, device)
        self._merge_direct, of_context = merged.weight.chunk(2)
        self._merge_context = _Linear(of_context, merged.bias)
        self.finish = _Linear.of(merge[2], torch.float32, device)

    def __call__(self, features: Tensor, by_two: Membership) -> Tensor:
        means = mean_rows(features, by_two)
        surroundings = means.new_empty(means.shape[0], self._merge_context.bias.shape[0])
        _piecewise(self._look_around, means, surroundings)
        merged = torch.empty_like(features)
        _piecewise(partial(self._merge, surroundings), features, by_two.group, merged)
        return merged

    def _look_around(self, means: Tensor, out: Tensor) -> None:
        for layer in self._context:
            means = F.leaky_relu_(layer(means), LEAK)
        self._merge_context(means, out)

    def _merge(self, surroundings: Tensor, features: Tensor, group: Tensor, out: Tensor) -> None:
        torch.index_select(surroundings, 0, group, out=out)
        direct = F.leaky_relu_(self._direct(features), LEAK)
        F.leaky_relu_(out.addmm_(direct, self._merge_direct), LEAK)


def _piecewise(function: Callable[..., object], *tensors: Tensor) -> None:
    """Call it with some rows of each tensor at a time, which it reads or writes."""
    for parts in _split(_rows_at_once(tensors[0]), *tensors):
        function(*parts)


def _rows_at_once(tensor: Tensor) -> int:
    """All of them on a GPU, where calls cost more than memory does."""
    return ROWS_AT_ONCE if tensor.device.type == "cpu" else max(1, tensor.shape[0])


def _split(size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)
