"""Strided and inverse convolution: halved levels, maps, and results against dense convolution, forward and backward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from convolutions import KINDS, STRIDED, Convolution
from sparse_points import GRID, random_points
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from waits import Waits

from twodpass_core.sparse.backend import make_backend
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.sparse.pyramid import Halving, VoxelLevel, build_pyramid
from twodpass_core.sparse.rows import Pooling, group_runs
from twodpass_core.sparse.strided import build_strided_tables

BACKEND = make_backend("torch")


def random_halving(count: int) -> Halving:
    """Two samples, some points beyond the grid, in negative cells."""
    points, sample = random_points(count, seed=count)
    return build_pyramid(points * 1.3, sample, GRID, ()).levels[1].halve()


def real_halving(scan: Path) -> Halving:
    points = torch.from_numpy(np.fromfile(scan, np.float32).reshape(-1, 4))
    ahead = points[((points[:, :2] - torch.tensor([8.0, 0.0])).abs() < 3).all(dim=1)]
    return build_pyramid(ahead, None, KITTI_GRID, ()).levels[1].halve()


def places(level: VoxelLevel, cell: int, halving: Halving) -> tuple[Tensor, ...]:
    """Sample and x, y, z in an array that begins at an even fine cell; a voxel of `level` is `cell` fine ones wide."""
    first = halving.fine.coordinates[:, 1:].amin(dim=0).div(2, rounding_mode="floor") * 2
    sample, *xyz = level.coordinates.unbind(dim=1)
    return (sample, *(values - start // cell for values, start in zip(xyz, first.tolist(), strict=True)))


def dense(rows: Tensor, place: tuple[Tensor, ...]) -> Tensor:
    """(samples, C, X, Y, Z) of rows (M, C), zero elsewhere; X, Y and Z are even."""
    sample, *xyz = place
    sizes = [(int(values.max()) // 2 + 1) * 2 for values in xyz]
    empty = rows.new_zeros(int(sample.max()) + 1, *sizes, rows.shape[1])
    return empty.index_put(place, rows).movedim(-1, 1)


def dense_result(kind: str, halving: Halving, features: Tensor, weight: Tensor, addend: Tensor) -> Tensor:
    kernel = weight.view(2, 2, 2, *weight.shape[1:])
    fine, coarse = places(halving.fine, 1, halving), places(halving.coarse, 2, halving)
    if kind == "down":
        out, read = F.conv3d(dense(features, fine), kernel.permute(4, 3, 0, 1, 2), stride=2), coarse
    else:
        out, read = F.conv_transpose3d(dense(features, coarse), kernel.permute(3, 4, 0, 1, 2), stride=2), fine
    return addend + out.movedim(1, -1)[read]


def assert_as_dense(kind: str, halving: Halving, *, addend_is_bias: bool) -> None:
    convolution = Convolution(kind, halving)
    *inputs, arriving = convolution.inputs(3, 5, addend_is_bias=addend_is_bias, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    expected = dense_result(kind, halving, *inputs)
    gradients = torch.autograd.grad(expected, inputs, arriving)
    torch.testing.assert_close(convolution.results(BACKEND, *inputs, arriving), [expected.detach(), *gradients])


@pytest.mark.parametrize("count", [1, 2, 40, 900])
def test_halved_voxels_are_those_of_halved_cells(count: int) -> None:
    halving = random_halving(count)
    fine = halving.fine.coordinates
    fine[:, 1:] = fine[:, 1:].div(2, rounding_mode="floor")
    expected, parents = torch.unique(fine, dim=0, return_inverse=True)
    assert halving.coarse.scale == 2
    assert torch.equal(halving.coarse.coordinates, expected)
    assert torch.equal(halving.parents.group, parents.int())
    assert torch.equal(halving.parents.group, group_runs(halving.fine.runs_by_two())[0].group)


def test_cells_halve_towards_minus_infinity_and_samples_stay_apart() -> None:
    points = torch.tensor([[-2.9, 0, 0, 0], [-2.5, 0, 0, 0], [-1.9, 0, 0, 0], [-1.6, 0, 0, 0]])
    halving = build_pyramid(points, torch.tensor([0, 1, 1, 1]), GRID, ()).levels[1].halve()
    assert halving.fine.coordinates[:, :2].tolist() == [[0, -2], [1, -1], [1, 0], [1, 1]]
    assert halving.coarse.coordinates[:, :2].tolist() == [[0, -1], [1, -1], [1, 0]]
    assert halving.parents.group.tolist() == [0, 1, 2, 2]


def test_halved_levels_hold_the_points_of_their_voxels() -> None:
    points, sample = random_points(600)
    pyramid = build_pyramid(points * 1.3, sample, GRID, ())
    first = pyramid.levels[1].halve()
    second = first.coarse.halve()
    coarsest = second.coarse.atoms
    through_voxels = second.parents.group[first.parents.group[pyramid.point_to_voxel(1).long()].long()]
    assert torch.equal(coarsest.group[pyramid.point_to_atom.long()], through_voxels)
    listed = coarsest.group[coarsest.order.long()]
    assert torch.equal(listed, listed.sort().values)
    assert torch.equal(coarsest.sizes(), torch.bincount(coarsest.group).int())
    values = torch.rand(first.fine.num_voxels, 1, dtype=torch.float64)
    pooled = Pooling.between(pyramid.levels[1].atoms, coarsest, pyramid.atom_sizes)(values)
    counts = torch.bincount(through_voxels)
    sums = torch.zeros_like(pooled).index_add(0, through_voxels.long(), values[pyramid.point_to_voxel(1).long()])
    torch.testing.assert_close(pooled, sums / counts[:, None])


@pytest.mark.parametrize("addend_is_bias", [True, False], ids=["bias", "addend"])
@pytest.mark.parametrize("kind", STRIDED)
@pytest.mark.parametrize("count", [1, 2, 40, 900])
def test_results_and_gradients_are_those_of_dense_convolution(count: int, kind: str, addend_is_bias: bool) -> None:
    assert_as_dense(kind, random_halving(count), addend_is_bias=addend_is_bias)


@pytest.mark.parametrize("kind", STRIDED)
def test_a_crop_of_a_real_scan_is_convolved_as_densely(kitti_scan: Path, kind: str) -> None:
    halving = real_halving(kitti_scan)
    assert halving.fine.num_voxels > 500
    assert_as_dense(kind, halving, addend_is_bias=True)


def test_levels_below_halved_ones_are_convolved_as_densely() -> None:
    for kind in STRIDED:
        assert_as_dense(kind, random_halving(300).coarse.halve(), addend_is_bias=True)


@pytest.mark.parametrize("kind", STRIDED)
def test_each_offset_reads_the_voxel_there(kind: str) -> None:
    """One coarse voxel, all eight below it, each named by its own power of ten."""
    corner = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    cell = torch.tensor([4 / 11, 4 / 12, 2 / 7])
    points = torch.cat([(corner + 4.5) * cell + torch.tensor(GRID.minimum), torch.zeros(8, 1)], dim=1)
    halving = build_pyramid(points, None, GRID, ()).levels[1].halve()
    assert (halving.fine.num_voxels, halving.coarse.num_voxels) == (8, 1)
    kernel_map, weight = Convolution(kind, halving).map_of(BACKEND), torch.arange(8, dtype=torch.float64)[:, None, None]
    powers, bias = 10 ** torch.arange(8, dtype=torch.float64)[:, None], torch.zeros(1, dtype=torch.float64)
    if kind == "down":
        out = BACKEND.convolve(powers, weight, kernel_map, bias)
        assert out.tolist() == [[76543210]]
    else:
        out = BACKEND.convolve(torch.ones_like(powers[:1]), weight, kernel_map, bias)
        assert out.flatten().tolist() == list(range(8))


@pytest.mark.parametrize("kind", STRIDED)
def test_gradients_are_right_numerically(kind: str) -> None:
    convolution = Convolution(kind, random_halving(30))
    kernel_map = convolution.map_of(BACKEND)
    features = torch.randn(convolution.source.num_voxels, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 2, 3, dtype=torch.float64, requires_grad=True)
    for addend_shape in ((3,), (convolution.target.num_voxels, 3)):
        addend = torch.randn(*addend_shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, w, a: BACKEND.convolve(x, w, kernel_map, a), (features, weight, addend)
        )


def test_the_inverse_is_the_transpose_of_the_strided_convolution() -> None:
    halving = random_halving(500)
    maps = BACKEND.build_strided_maps(halving)
    fine = torch.randn(halving.fine.num_voxels, 3, dtype=torch.float64)
    coarse = torch.randn(halving.coarse.num_voxels, 4, dtype=torch.float64)
    weight = torch.randn(8, 3, 4, dtype=torch.float64)
    down = BACKEND.convolve(fine, weight, maps.down, fine.new_zeros(4))
    up = BACKEND.convolve(coarse, weight.transpose(1, 2), maps.up, fine.new_zeros(3))
    torch.testing.assert_close((down * coarse).sum(), (up * fine).sum())


@pytest.mark.parametrize("kind", STRIDED)
def test_no_voxels_give_no_rows(kind: str) -> None:
    halving = build_pyramid(torch.empty(0, 4), None, GRID, ()).levels[1].halve()
    assert halving.coarse.num_voxels == 0
    inputs = [tensor.requires_grad_() for tensor in (torch.empty(0, 3), torch.ones(8, 3, 5), torch.zeros(5))]
    out = BACKEND.convolve(inputs[0], inputs[1], Convolution(kind, halving).map_of(BACKEND), inputs[2])
    assert out.shape == (0, 5)
    features, weight, bias = torch.autograd.grad(out.sum(), inputs)
    assert features.shape == (0, 3)
    assert not weight.any()
    assert not bias.any()


@pytest.mark.parametrize("kind", STRIDED)
def test_bf16_is_close_to_float32(kind: str) -> None:
    convolution = Convolution(kind, random_halving(900))
    kernel_map = convolution.map_of(BACKEND)
    features, weight, bias = torch.randn(convolution.source.num_voxels, 16), torch.randn(8, 16, 16) / 6, torch.randn(16)
    exact = BACKEND.convolve(features, weight, kernel_map, bias)
    rounded = BACKEND.convolve(features.bfloat16(), weight.bfloat16(), kernel_map, bias.bfloat16())
    assert float((rounded.float() - exact).abs().mean()) < 0.01 * float(exact.std())


@pytest.mark.parametrize("kind", KINDS)
def test_a_backend_that_has_inferred_learns(kind: str) -> None:
    backend, convolution = make_backend("torch"), Convolution(kind, random_halving(200))
    inputs = convolution.inputs(3, 4, addend_is_bias=True, dtype=torch.float64)
    with torch.inference_mode():
        backend.convolve(inputs[0], inputs[1], convolution.map_of(backend), inputs[2])
    torch.testing.assert_close(convolution.results(backend, *inputs), convolution.results(BACKEND, *inputs))


def test_a_map_refuses_features_and_weights_of_another() -> None:
    halving = random_halving(60)
    maps = BACKEND.build_strided_maps(halving)
    fine, weight, bias = torch.ones(halving.fine.num_voxels, 1), torch.ones(8, 1, 1), torch.zeros(1)
    with pytest.raises(ValueError, match="feature rows"):
        BACKEND.convolve(fine, weight, maps.up, bias)
    with pytest.raises(ValueError, match=r"27 offsets, not \d+ and 8"):
        BACKEND.convolve(fine, weight, BACKEND.build_map(halving.fine), bias)


@pytest.mark.parametrize("count", [0, 1, 60, 900])
def test_tables_name_the_voxel_at_each_offset(count: int) -> None:
    halving = random_halving(count)
    fine = {tuple(cell): row for row, cell in enumerate(halving.fine.coordinates.tolist())}
    coarse = {tuple(cell): row for row, cell in enumerate(halving.coarse.coordinates.tolist())}
    offsets = [(dx, dy, dz) for dx in (0, 1) for dy in (0, 1) for dz in (0, 1)]
    down, up = build_strided_tables(halving)
    assert down.dtype == up.dtype == torch.int32
    assert down.tolist() == [
        [fine.get((s, 2 * x + dx, 2 * y + dy, 2 * z + dz), -1) for s, x, y, z in coarse] for dx, dy, dz in offsets
    ]
    parents = [[(s, (x - dx) / 2, (y - dy) / 2, (z - dz) / 2) for s, x, y, z in fine] for dx, dy, dz in offsets]
    assert up.tolist() == [[coarse.get(cell, -1) for cell in row] for row in parents]


def test_the_host_waits_for_the_number_of_coarse_voxels_and_for_nothing_else() -> None:
    level = random_halving(300).fine
    with Waits() as waits:
        halving = level.halve()
        build_strided_tables(halving)
    assert waits.seen == ["tolist"]
