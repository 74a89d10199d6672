"""Voxel pyramid, neighbour maps and submanifold convolution against brute force and dense convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sparse_points import GRID, random_points
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from twodpass_core.errors import ConfigError
from twodpass_core.sparse import pairs, torch_backend
from twodpass_core.sparse.backend import SparseBackend, make_backend
from twodpass_core.sparse.grid import VoxelGrid, unpack_keys
from twodpass_core.sparse.pyramid import VoxelLevel, VoxelPyramid, build_pyramid
from twodpass_core.sparse.rows import Membership, Pooling, group_runs, mean_rows, spread_rows, spread_sum

SCALES = (2, 4, 8)


def cells_by_numpy(points: Tensor, scale: int) -> np.ndarray:
    """The published arithmetic: float32, multiply, divide, truncate."""
    xyz = points[:, :3].numpy()
    low, high = np.array(GRID.minimum, np.float32), np.array(GRID.maximum, np.float32)
    cells = np.ceil(np.array(GRID.cells) / scale).astype(np.float32)
    return np.trunc(cells * (xyz - low) / (high - low)).astype(np.int64)


@pytest.mark.parametrize("count", [1, 2, 50, 400])
def test_levels_number_voxels_as_unique_rows_do(count: int) -> None:
    points, sample = random_points(count)
    pyramid = build_pyramid(points, sample, GRID, SCALES)
    for scale in (1, *SCALES):
        rows = np.concatenate([sample[:, None].numpy(), cells_by_numpy(points, scale)], axis=1)
        voxels, inverse = np.unique(rows, axis=0, return_inverse=True)
        assert np.array_equal(pyramid.levels[scale].coordinates.numpy(), voxels)
        assert np.array_equal(pyramid.point_to_voxel(scale).numpy(), inverse.reshape(-1))


def test_points_of_an_atom_share_their_voxel_at_every_scale() -> None:
    points, sample = random_points(2000)
    pyramid = build_pyramid(points, sample, GRID, SCALES)
    assert int(pyramid.atom_sizes.sum()) == 2000
    assert torch.equal(torch.bincount(pyramid.point_to_atom), pyramid.atom_sizes)
    assert pyramid.atom_sizes.shape[0] < 2000


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_scans_are_told_apart_by_integers_of_any_type(dtype: torch.dtype) -> None:
    points, sample = random_points(200)
    expected, found = (build_pyramid(points, numbers, GRID, SCALES) for numbers in (sample, sample.to(dtype)))
    for scale in (1, *SCALES):
        assert torch.equal(found.levels[scale].keys, expected.levels[scale].keys)


def test_no_points_give_empty_levels() -> None:
    pyramid = build_pyramid(torch.empty(0, 4), None, GRID, SCALES)
    backend = make_backend("torch")
    for level in pyramid.levels.values():
        assert level.num_voxels == 0
        out = backend.convolve(torch.empty(0, 3), torch.ones(27, 3, 5), backend.build_map(level), torch.zeros(5))
        assert out.shape == (0, 5)
    assert pyramid.pooling(1, 2)(torch.empty(0, 3)).shape == (0, 3)


def test_duplicates_are_one_voxel() -> None:
    points = torch.tensor([[0.1, 0.2, 0.3, 0.5]]).repeat(9, 1)
    pyramid = build_pyramid(points, None, GRID, SCALES)
    assert [level.num_voxels for level in pyramid.levels.values()] == [1, 1, 1, 1]


def test_points_beyond_the_grid_have_cells_of_their_own() -> None:
    """A point beyond one border must not become a neighbour of the opposite border, nor share the cell at its own."""
    points = torch.tensor([[2.1, 0.0, 0.0, 0], [-1.9, 0.0, 0.0, 0], [1.99, 0.0, 0.0, 0], [-2.5, 0.0, 0.0, 0]])
    level = build_pyramid(points, None, GRID, ()).levels[1]
    assert sorted(level.coordinates[:, 1].tolist()) == [-1, 0, 10, 11]
    ones = torch.ones(4, 1)
    summed = convolved(level, ones, torch.ones(27, 1, 1))
    assert summed.flatten().tolist() == [2, 2, 2, 2]  # each sees itself and the one beside it, nobody across the grid


def test_a_network_is_given_what_is_strictly_inside_and_has_a_return() -> None:
    unit = VoxelGrid(minimum=(-1, -1, -1), maximum=(1, 1, 1), cells=(2, 2, 2))
    alone = 0.5 * torch.eye(3, 4)  # on an axis, as right above the sensor
    borders = torch.cat([torch.eye(3, 4), -torch.eye(3, 4)])
    assert bool(unit.admits(torch.cat([alone, -alone, 1.999 * alone])).all())
    assert not bool(unit.admits(torch.cat([borders, torch.zeros(1, 4)])).any())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_points_out_of_reach_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite or far outside"):
        build_pyramid(torch.tensor([[0.0, bad, 0.0, 0.0]]), None, GRID, SCALES)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_last_cells_in_reach_leave_room_for_a_neighbour(axis: int, side: int) -> None:
    metres = VoxelGrid(minimum=(0, 0, 0), maximum=(1, 1, 1), cells=(1, 1, 1))
    point = torch.full((1, 4), 0.5)
    point[0, axis] = side * 32766.5
    assert build_pyramid(point, None, metres, ()).levels[1].coordinates[0, 1 + axis] == side * 32766
    point[0, axis] = side * 32767.5
    with pytest.raises(ValueError, match="not finite or far outside"):
        build_pyramid(point, None, metres, ())


@pytest.mark.parametrize(
    "change",
    [
        {"minimum": (3, -2, -1)},
        {"maximum": (2, 2, float("inf"))},
        {"cells": (0, 12, 7)},
        {"cells": (70000, 12, 7)},
        {"cells": (11, 16384, 7)},
        {"cells": (11, 12, 1025)},
        {"unknown": 1},
    ],
)
def test_impossible_grids_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        VoxelGrid.model_validate({**GRID.model_dump(), **change})


def convolved(level: VoxelLevel, features: Tensor, weight: Tensor, backend: SparseBackend | None = None) -> Tensor:
    backend = backend or make_backend("torch")
    return backend.convolve(features, weight, backend.build_map(level), features.new_zeros(weight.shape[2]))


def dense_convolution(level: VoxelLevel, features: Tensor, weight: Tensor) -> Tensor:
    sample, x, y, z = level.coordinates.unbind(dim=1)
    dense = features.new_zeros(2, features.shape[1], *GRID.cells)
    dense[sample, :, x, y, z] = features
    kernel = weight.view(3, 3, 3, *weight.shape[1:]).permute(4, 3, 0, 1, 2)
    return F.conv3d(dense, kernel, padding=1)[sample, :, x, y, z]


@pytest.fixture(params=[pairs.TILE, 4])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one tile an offset, and with many, of which each is a batch of its own."""
    for module in (pairs, torch_backend):
        monkeypatch.setattr(module, "TILE", request.param)
    if request.param == 4:
        monkeypatch.setattr(torch_backend, "GATHERED_ON_CPU", 1)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("count", [1, 30, 700])
def test_convolution_equals_dense_convolution_at_occupied_voxels(count: int) -> None:
    points, sample = random_points(count, seed=count)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    features = torch.randn(level.num_voxels, 5, dtype=torch.float64)
    weight = torch.randn(27, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(convolved(level, features, weight), dense_convolution(level, features, weight))


def test_a_backend_can_be_used_for_scans_of_different_size_in_turn() -> None:
    backend = make_backend("torch")
    for count in (500, 20, 300, 1):
        points, sample = random_points(count, seed=count)
        level = build_pyramid(points, sample, GRID, ()).levels[1]
        features, weight = (
            torch.randn(level.num_voxels, 4, dtype=torch.float64),
            torch.randn(27, 4, 4, dtype=torch.float64),
        )
        torch.testing.assert_close(
            convolved(level, features, weight, backend), dense_convolution(level, features, weight)
        )


@pytest.mark.usefixtures("tile")
def test_convolution_gradients() -> None:
    points, sample = random_points(60)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    backend = make_backend("torch")
    neighbours = backend.build_map(level)
    features = torch.randn(level.num_voxels, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(27, 2, 3, dtype=torch.float64, requires_grad=True)
    for addend_shape in ((3,), (level.num_voxels, 3)):
        addend = torch.randn(*addend_shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, w, a: backend.convolve(x, w, neighbours, a), (features, weight, addend)
        )


def test_convolution_in_bf16_is_close_to_float32() -> None:
    points, sample = random_points(900)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    features, weight = torch.randn(level.num_voxels, 16), torch.randn(27, 16, 16) / 10
    exact = convolved(level, features, weight)
    rounded = convolved(level, features.bfloat16(), weight.bfloat16()).float()
    assert float((rounded - exact).abs().mean()) < 0.01 * float(exact.std())


def mean_pool_by_hand(pyramid: VoxelPyramid, features: Tensor, source: int, target: int) -> Tensor:
    at_points = features[pyramid.point_to_voxel(source).long()]
    group = pyramid.point_to_voxel(target).long()
    sums = torch.zeros(pyramid.levels[target].num_voxels, features.shape[1], dtype=features.dtype).index_add(
        0, group, at_points
    )
    return sums / torch.bincount(group)[:, None]


@pytest.mark.parametrize(("source", "target"), [(1, 2), (2, 4), (4, 8), (2, 2)])
def test_pooling_is_the_mean_over_points(source: int, target: int) -> None:
    points, sample = random_points(800)
    pyramid = build_pyramid(points, sample, GRID, SCALES)
    features = torch.randn(pyramid.levels[source].num_voxels, 3, dtype=torch.float64)
    pooled = pyramid.pooling(source, target)(features)
    torch.testing.assert_close(pooled, mean_pool_by_hand(pyramid, features, source, target))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [(1, 1, 1), (1 << 17, 1 << 16, 1)])
def test_means_in_16_bits_neither_drift_nor_overflow(weights: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    source, target = (Membership.of(torch.tensor(keys))[0] for keys in ((0, 1, 2), (0, 0, 0)))
    same = (1 + torch.rand(1, 2000)).to(dtype).expand(3, -1).contiguous()
    pooled = Pooling.between(source, target, torch.tensor(weights))(same)
    assert float((pooled.double() / same[:1].double()).mean()) == pytest.approx(1, abs=1e-3)


def test_row_operations_have_right_gradients() -> None:
    points, sample = random_points(40)
    pyramid = build_pyramid(points, sample, GRID, SCALES)
    rows = torch.randn(40, 2, dtype=torch.float64, requires_grad=True)
    voxels = torch.randn(pyramid.levels[2].num_voxels, 2, dtype=torch.float64, requires_grad=True)
    first = torch.randn(pyramid.levels[1].num_voxels, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mean_rows(x, pyramid.points), (rows,))
    assert torch.autograd.gradcheck(lambda x: spread_rows(x, pyramid.points), (first,))
    assert torch.autograd.gradcheck(pyramid.pooling(2, 8), (voxels,))


def test_a_row_gets_the_sum_of_its_groups_of_several_memberships() -> None:
    points, sample = random_points(60)
    levels = build_pyramid(points, sample, GRID, SCALES).levels
    memberships = [levels[scale].atoms for scale in (8, 1, 2, 2)]
    features = [torch.randn(len(of.offsets), 3, dtype=torch.float64, requires_grad=True) for of in memberships]
    expected = sum(x[of.group.long()] for x, of in zip(features, memberships, strict=True))
    torch.testing.assert_close(spread_sum(features, memberships), expected)
    assert torch.autograd.gradcheck(lambda *x: spread_sum(x, memberships), features)


def test_membership_lists_rows_by_group() -> None:
    membership, keys = Membership.of(torch.tensor([7, 3, 7, 7, 5]))
    assert keys.tolist() == [3, 5, 7]
    assert membership.group.tolist() == [2, 0, 2, 2, 1]
    assert membership.sizes().tolist() == [1, 1, 3]
    assert membership.group[membership.order.long()].tolist() == [0, 1, 2, 2, 2]


def test_grouping_by_two_floors_negative_cells_too() -> None:
    points = torch.tensor([[-2.9, 0.1, 0.1, 0], [-2.5, 0.1, 0.1, 0], [-1.9, 0.1, 0.1, 0]])
    level = build_pyramid(points, None, GRID, ()).levels[1]
    assert unpack_keys(level.keys)[:, 1].tolist() == [-2, -1, 0]
    assert group_runs(level.runs_by_two())[0].group.tolist() == [0, 0, 1]


def test_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="spconv"):
        make_backend("spconv")


@pytest.mark.parametrize("addend_is_bias", [True, False])
@pytest.mark.parametrize("at_once", [1, 7, 64, 1000])
def test_the_number_of_targets_at_once_changes_memory_alone(
    addend_is_bias: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, sample = random_points(400)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    features, weight = torch.randn(level.num_voxels, 5), torch.randn(27, 5, 7)
    addend = torch.randn(7) if addend_is_bias else torch.randn(level.num_voxels, 7)
    results: list[list[torch.Tensor]] = []
    for size in (level.num_voxels, at_once):
        monkeypatch.setattr(pairs, "TARGETS_ON_CPU", size)
        if results:
            monkeypatch.setattr(torch_backend, "GATHERED_ON_CPU", 1)  # tile by tile
        backend = torch_backend.TorchBackend()
        leaves = [tensor.clone().requires_grad_() for tensor in (features, weight, addend)]
        out = backend.convolve(leaves[0], leaves[1], backend.build_map(level), leaves[2])
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), leaves)])
        sizes = [buffer.numel() for buffer in backend._workspace._buffers.values()]
        rows = size * 27 + 26 * (pairs.TILE - 1)
        assert max(sizes) <= rows * 7 * 9 / 8
    for whole, in_blocks in zip(*results, strict=True):
        torch.testing.assert_close(in_blocks, whole, rtol=1e-4, atol=1e-4)
