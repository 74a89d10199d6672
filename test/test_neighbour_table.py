"""The table of neighbours that kernels read, against the pairs of the torch backend."""

from __future__ import annotations

import pytest
import torch
from sparse_points import GRID, random_points
from waits import Launches, Waits

from twodpass_core.sparse.grid import coordinate_rows
from twodpass_core.sparse.neighbour_table import build_neighbour_table
from twodpass_core.sparse.pyramid import VoxelLevel, build_pyramid


def table_by_hand(level: VoxelLevel) -> list[list[int]]:
    number = {tuple(cell): index for index, cell in enumerate(level.coordinates.tolist())}
    steps = (-1, 0, 1)
    offsets = [(dx, dy, dz) for dx in steps for dy in steps for dz in steps]
    return [[number.get((s, x + dx, y + dy, z + dz), -1) for s, x, y, z in number] for dx, dy, dz in offsets]


@pytest.mark.parametrize("count", [0, 1, 2, 60, 900])
def test_each_offset_finds_the_voxel_there(count: int) -> None:
    points, sample = random_points(count, seed=count)
    level = build_pyramid(points * 1.2, sample, GRID, ()).levels[1]  # some beyond the grid, in negative cells
    table = build_neighbour_table(level)
    assert table.dtype == torch.int32
    assert table.tolist() == table_by_hand(level)


def test_the_host_never_waits_for_the_device() -> None:
    points, sample = random_points(300)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    with Waits() as by_table:
        build_neighbour_table(level)
    assert by_table.seen == []


@pytest.mark.parametrize("count", [1, 300])
def test_the_host_has_little_to_launch(count: int) -> None:
    points, sample = random_points(count)
    level = build_pyramid(points, sample, GRID, ()).levels[1]
    with Launches() as launches:
        build_neighbour_table(level)
    assert launches.number <= 40  # column by column it would be some 200


def test_a_grid_is_uploaded_once() -> None:
    points, _ = random_points(20)
    xyz = coordinate_rows(points)
    with Waits() as waits:
        for _ in range(2):
            GRID.contains(points)
            GRID.voxel_keys(xyz, None, 2)
            GRID.lower_corners(GRID.voxel_keys(xyz, None, 1))
            before, waits.seen = waits.seen, []
    assert set(before) <= {"lift_fresh"}
    assert waits.seen == []


def test_being_a_neighbour_is_mutual() -> None:
    points, sample = random_points(500)
    table = build_neighbour_table(build_pyramid(points, sample, GRID, ()).levels[1])
    for offset in range(27):
        voxels = (table[offset] >= 0).nonzero().squeeze(1)
        assert torch.equal(table[26 - offset, table[offset, voxels].long()], voxels.int())
