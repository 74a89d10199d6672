"""Convolution of a level of so many voxels that 16 bits do not number them, nor add up what is found of each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from twodpass_core.sparse import pairs
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.sparse.pyramid import VoxelLevel, build_pyramid
from twodpass_core.sparse.torch_backend import TorchBackend

SIDES = (34, 32, 32)


@pytest.fixture(scope="module")
def full() -> VoxelLevel:
    """Every cell of a box is occupied."""
    cells = torch.cartesian_prod(*(torch.arange(side) for side in SIDES))
    grid = VoxelGrid(minimum=(0, 0, 0), maximum=SIDES, cells=SIDES)
    return build_pyramid(cells + 0.5, None, grid, ()).levels[1]


def convolved(level: VoxelLevel, features: Tensor, weight: Tensor) -> Tensor:
    backend = TorchBackend()
    return backend.convolve(features, weight, backend.build_map(level), features.new_zeros(1))


def test_one_block_may_have_more_targets_than_16_bits_number(full: VoxelLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(full.num_voxels, 1), torch.randn(27, 1, 1)
    in_blocks = convolved(full, features, weight)
    monkeypatch.setattr(pairs, "TARGETS_ON_CPU", pairs.TARGETS_ON_GPU)
    assert 1 << 15 < full.num_voxels < pairs.TARGETS_ON_GPU
    torch.testing.assert_close(convolved(full, features, weight), in_blocks)


def test_gradients_of_weights_do_not_drift_in_16_bits(full: VoxelLevel) -> None:
    """They are sums over all voxels, of which 16 bits would round every step."""
    features = torch.full((full.num_voxels, 1), 1.125, dtype=torch.bfloat16)
    weight = torch.zeros(27, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    convolved(full, features, weight).sum().backward()
    assert weight.grad is not None
    steps = (-1, 0, 1)
    x, y, z = (torch.tensor([side - abs(step) for step in steps]) for side in SIDES)
    pairs_met = x[:, None, None] * y[:, None] * z
    torch.testing.assert_close(weight.grad.view(3, 3, 3).float(), 1.125 * pairs_met, rtol=0.004, atol=0)
