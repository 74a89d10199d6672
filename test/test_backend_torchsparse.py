"""The adapter to torchsparse, against a stand-in that convolves by torchsparse's definition and records its calls.

torchsparse itself needs a GPU: what these tests cannot show is that it does as it says.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from test_sparse import GRID, random_points
from torch import Tensor

from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.pyramid import VoxelLevel, build_pyramid
from twodpass_core.sparse.torch_backend import TorchBackend
from twodpass_core.sparse.torchsparse_backend import TorchsparseBackend, torchsparse_coordinates, torchsparse_weight

THEIR_OFFSETS = [(x, y, z) for z, y, x in itertools.product((-1, 0, 1), repeat=3)]
"""Of kernels of odd size, in the order of their weights: x runs fastest, as in MinkowskiEngine."""


@dataclass
class SparseTensorDouble:
    feats: Tensor
    coords: Tensor
    cache: dict[str, Any] = field(default_factory=dict)  # shared by shallow copies, as torchsparse's caches are


@dataclass
class TorchsparseDouble:
    """conv3d with torchsparse's signature and meaning, for odd sizes and stride 1; notes how it was called."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    maps_built: int = 0

    def conv3d(self, input: SparseTensorDouble, weight: Tensor, kernel_size: int, **options: Any) -> SparseTensorDouble:
        self.calls.append({"kernel_size": kernel_size, "dtypes": (input.feats.dtype, weight.dtype), **options})
        assert input.coords.dtype == torch.int32
        assert input.coords.is_contiguous()
        assert int(input.coords.min()) >= 0  # others are not found
        if "pairs" not in input.cache:
            self.maps_built += 1
            input.cache["pairs"] = self._pairs(input.coords.tolist())
        out = input.feats.new_zeros(input.feats.shape[0], weight.shape[2])
        for offset, voxel, neighbour in input.cache["pairs"]:
            out = out.index_add(0, torch.tensor([voxel]), input.feats[None, neighbour] @ weight[offset])
        return SparseTensorDouble(out, input.coords, input.cache)

    @staticmethod
    def _pairs(coords: list[list[int]]) -> list[tuple[int, int, int]]:
        number = {tuple(cell): index for index, cell in enumerate(coords)}
        pairs = []
        for (sample, x, y, z), voxel in number.items():
            for offset, (dx, dy, dz) in enumerate(THEIR_OFFSETS):
                neighbour = number.get((sample, x + dx, y + dy, z + dz))
                if neighbour is not None:
                    pairs.append((offset, voxel, neighbour))
        return pairs


@pytest.fixture
def torchsparse(monkeypatch: pytest.MonkeyPatch) -> TorchsparseDouble:
    double = TorchsparseDouble()
    package, nn, functional = (ModuleType(name) for name in ("torchsparse", "torchsparse.nn", "functional"))
    package.SparseTensor = SparseTensorDouble  # type: ignore[attr-defined]
    functional.conv3d = double.conv3d  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchsparse", package)
    monkeypatch.setitem(sys.modules, "torchsparse.nn", nn)
    monkeypatch.setitem(sys.modules, "torchsparse.nn.functional", functional)
    return double


def small_level(count: int = 90) -> VoxelLevel:
    points, sample = random_points(count, seed=4)
    return build_pyramid(points * 1.3, sample, GRID, ()).levels[1]  # some beyond the grid, in negative cells


def test_weights_are_put_into_the_order_of_their_offsets() -> None:
    ours = list(itertools.product((-1, 0, 1), repeat=3))
    named = torch.tensor(ours)[:, :, None].float()  # each offset's matrix (3, 1) holds the offset
    assert [tuple(map(int, matrix.flatten())) for matrix in torchsparse_weight(named)] == THEIR_OFFSETS


def test_coordinates_begin_at_zero_and_keep_their_sample() -> None:
    level = small_level()
    assert int(level.coordinates[:, 1:].min()) < 0
    moved = torchsparse_coordinates(level)
    assert moved[:, 1:].amin(dim=0).tolist() == [0, 0, 0]
    assert torch.equal(moved[:, 0], level.coordinates[:, 0].int())
    shift = level.coordinates - moved
    assert torch.equal(shift, shift[:1].expand_as(shift))


@pytest.mark.parametrize("addend_is_bias", [True, False])
def test_results_and_gradients_are_those_of_the_torch_backend(
    torchsparse: TorchsparseDouble, addend_is_bias: bool
) -> None:
    level = small_level()
    features, weight = torch.randn(level.num_voxels, 4), torch.randn(27, 4, 6)
    addend = torch.randn(6) if addend_is_bias else torch.randn(level.num_voxels, 6)
    arriving = torch.randn(level.num_voxels, 6)
    results = []
    backends: list[SparseBackend] = [TorchBackend(), TorchsparseBackend()]
    for backend in backends:
        inputs = [tensor.clone().requires_grad_() for tensor in (features, weight, addend)]
        out = backend.convolve(inputs[0], inputs[1], backend.build_map(level), inputs[2])
        results.append([out, *torch.autograd.grad(out, inputs, arriving)])
    torch.testing.assert_close(*results)


def test_a_level_is_mapped_once_and_calls_are_those_of_a_submanifold_convolution(
    torchsparse: TorchsparseDouble,
) -> None:
    level, backend = small_level(), TorchsparseBackend()
    features, weight, bias = torch.randn(level.num_voxels, 4), torch.randn(27, 4, 4), torch.zeros(4)
    with torch.no_grad():
        level_map = backend.build_map(level)
        backend.convolve(backend.convolve(features, weight, level_map, bias), weight, level_map, bias)
    trained = backend.build_map(level)
    backend.convolve(features, weight, trained, bias)
    assert torchsparse.maps_built == 2
    common = {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "dtypes": (torch.float32,) * 2}
    assert torchsparse.calls == [{**common, "training": training} for training in (False, False, True)]


@pytest.mark.parametrize(
    ("given", "computed"), [(torch.float32,) * 2, (torch.float16,) * 2, (torch.bfloat16, torch.float32)]
)
def test_it_computes_in_formats_that_torchsparse_has(
    torchsparse: TorchsparseDouble, given: torch.dtype, computed: torch.dtype
) -> None:
    level, backend = small_level(20), TorchsparseBackend()
    features, weight = torch.randn(level.num_voxels, 4, dtype=given), torch.randn(27, 4, 4, dtype=given)
    out = backend.convolve(features, weight, backend.build_map(level), torch.zeros(4, dtype=given))
    assert out.dtype == given
    assert torchsparse.calls[0]["dtypes"] == (computed, computed)


@pytest.mark.usefixtures("torchsparse")
def test_no_voxels_give_no_rows() -> None:
    level, backend = build_pyramid(torch.empty(0, 4), None, GRID, ()).levels[1], TorchsparseBackend()
    out = backend.convolve(torch.empty(0, 3), torch.ones(27, 3, 5), backend.build_map(level), torch.zeros(5))
    assert out.shape == (0, 5)
