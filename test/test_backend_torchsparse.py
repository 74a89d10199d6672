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
from convolutions import KINDS, Convolution
from sparse_points import GRID, random_points
from torch import Tensor

from twodpass_core.sparse.pyramid import VoxelLevel, build_pyramid
from twodpass_core.sparse.torch_backend import TorchBackend
from twodpass_core.sparse.torchsparse_backend import TorchsparseBackend, torchsparse_coordinates, torchsparse_weight

THEIR_OFFSETS = [(x, y, z) for z, y, x in itertools.product((-1, 0, 1), repeat=3)]
"""Of kernels of odd size, in the order of their weights: x runs fastest, as in MinkowskiEngine."""


Pair = tuple[int, int, int]
"""Offset, source row, target row."""


@dataclass
class CacheDouble:
    """What tensors of one origin share: the coordinates and range of each stride, and the maps from each."""

    sites: dict[int, tuple[Tensor, Any]] = field(default_factory=dict)
    pairs: dict[tuple[int, int], list[Pair]] = field(default_factory=dict)  # by the finer stride and the kernel's size


@dataclass
class SparseTensorDouble:
    feats: Tensor
    coords: Tensor
    stride: int = 1
    spatial_range: tuple[int, ...] | None = None
    cache: CacheDouble = field(default_factory=CacheDouble)  # shared by shallow copies, as torchsparse's caches are


@dataclass
class TorchsparseDouble:
    """conv3d with torchsparse's signature and meaning, for the sizes 1 and 3, and 2 by 2; notes how it was called."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    maps_built: int = 0
    settings: ModuleType = field(default_factory=lambda: ModuleType("torchsparse.backends"))

    def conv3d(self, input: SparseTensorDouble, weight: Tensor, kernel_size: int, **options: Any) -> SparseTensorDouble:
        self.calls.append({"kernel_size": kernel_size, "dtypes": (input.feats.dtype, weight.dtype), **options})
        assert input.coords.dtype == torch.int32
        assert input.coords.is_contiguous()
        assert int(input.coords.min()) >= 0  # others are not found
        if kernel_size == 1:
            out = SparseTensorDouble(input.feats @ weight, input.coords, input.stride, input.spatial_range, input.cache)
        elif options.get("transposed", False):
            out = self._inverse(input, weight, kernel_size)
        elif options["stride"] == 1:
            out = self._submanifold(input, weight)
        else:
            out = self._strided(input, weight)
        input.cache.sites.setdefault(out.stride, (out.coords, out.spatial_range))
        return out

    def _submanifold(self, input: SparseTensorDouble, weight: Tensor) -> SparseTensorDouble:
        if (input.stride, 3) not in input.cache.pairs:
            self.maps_built += 1
            input.cache.pairs[input.stride, 3] = self._neighbours(input.coords.tolist())
        out = self._sum(input.feats, weight, input.cache.pairs[input.stride, 3], input.feats.shape[0])
        return SparseTensorDouble(out, input.coords, input.stride, input.spatial_range, input.cache)

    def _strided(self, input: SparseTensorDouble, weight: Tensor) -> SparseTensorDouble:
        if (input.stride, 2) not in input.cache.pairs:
            self.maps_built += 1
            pairs, coords = self._children(input)
            input.cache.pairs[input.stride, 2] = pairs
            halved = None if input.spatial_range is None else self._halved_range(input.spatial_range)
            input.cache.sites[2 * input.stride] = coords, halved
        coords, spatial_range = input.cache.sites[2 * input.stride]
        out = self._sum(input.feats, weight, input.cache.pairs[input.stride, 2], coords.shape[0])
        return SparseTensorDouble(out, coords, 2 * input.stride, spatial_range, input.cache)

    def _inverse(self, input: SparseTensorDouble, weight: Tensor, kernel_size: int) -> SparseTensorDouble:
        """There must have been the strided convolution before, and some result with the voxels to come back to."""
        stride = input.stride // 2
        back = [(offset, target, source) for offset, source, target in input.cache.pairs[stride, kernel_size]]
        coords, spatial_range = input.cache.sites[stride]
        out = self._sum(input.feats, weight, back, coords.shape[0])
        return SparseTensorDouble(out, coords, stride, spatial_range, input.cache)

    @staticmethod
    def _sum(features: Tensor, weight: Tensor, pairs: list[Pair], num_targets: int) -> Tensor:
        out = features.new_zeros(num_targets, weight.shape[2])
        for offset, source, target in pairs:
            out = out.index_add(0, torch.tensor([target]), features[None, source] @ weight[offset])
        return out

    @staticmethod
    def _neighbours(coords: list[list[int]]) -> list[Pair]:
        number = {tuple(cell): index for index, cell in enumerate(coords)}
        pairs = []
        for (sample, x, y, z), voxel in number.items():
            for offset, (dx, dy, dz) in enumerate(THEIR_OFFSETS):
                neighbour = number.get((sample, x + dx, y + dy, z + dz))
                if neighbour is not None:
                    pairs.append((offset, neighbour, voxel))
        return pairs

    @staticmethod
    def _halved_range(cells: tuple[int, ...]) -> tuple[int, ...]:
        return (cells[0], *((size - 2) // 2 + 1 for size in cells[1:]))

    def _children(self, input: SparseTensorDouble) -> tuple[list[Pair], Tensor]:
        """Windows that reach beyond the range are left out; without a range, beyond the last voxels."""
        if input.spatial_range is None:
            last = [(int(value) - 1) // 2 for value in input.coords.amax(dim=0)[1:]]
        else:
            last = [size - 1 for size in self._halved_range(input.spatial_range)[1:]]
        parents, offsets = {}, {}
        for row, (sample, *cell) in enumerate(input.coords.tolist()):
            parent = [value // 2 for value in cell]
            if all(value <= bound for value, bound in zip(parent, last, strict=True)):
                x, y, z = (value % 2 for value in cell)
                parents[row], offsets[row] = (sample, *parent), x * 4 + y * 2 + z  # of even size: z runs fastest
        sites = sorted(set(parents.values()))
        number = {site: target for target, site in enumerate(sites)}
        pairs = [(offsets[row], row, number[parent]) for row, parent in parents.items()]
        return pairs, torch.tensor(sites, dtype=torch.int32)


@pytest.fixture
def torchsparse(monkeypatch: pytest.MonkeyPatch) -> TorchsparseDouble:
    double = TorchsparseDouble()
    package, nn, functional = (ModuleType(name) for name in ("torchsparse", "torchsparse.nn", "functional"))
    package.SparseTensor, package.backends = SparseTensorDouble, double.settings  # type: ignore[attr-defined]
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


def test_weights_of_a_strided_convolution_are_in_their_order_already() -> None:
    weight = torch.randn(8, 3, 2)
    assert torch.equal(torchsparse_weight(weight), weight)


def test_coordinates_that_are_to_be_halved_are_moved_by_even_numbers() -> None:
    level = small_level()
    assert int(level.coordinates[:, 1].min()) == -1
    moved = torchsparse_coordinates(level, multiple=2)
    assert set(moved[:, 1:].amin(dim=0).tolist()) <= {0, 1}
    assert not ((level.coordinates - moved)[:, 1:] % 2).any()


@pytest.mark.usefixtures("torchsparse")
@pytest.mark.parametrize("addend_is_bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_are_those_of_the_torch_backend(kind: str, addend_is_bias: bool) -> None:
    convolution = Convolution(kind, small_level().halve())
    inputs = convolution.inputs(4, 6, addend_is_bias=addend_is_bias, dtype=torch.float32)
    found = convolution.results(TorchsparseBackend(), *inputs)
    torch.testing.assert_close(found, convolution.results(TorchBackend(), *inputs))


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


def test_levels_are_mapped_once_for_both_ways_whichever_comes_first(torchsparse: TorchsparseDouble) -> None:
    halving, backend = small_level().halve(), TorchsparseBackend()
    fine, coarse = torch.randn(halving.fine.num_voxels, 4), torch.randn(halving.coarse.num_voxels, 4)
    weight, bias = torch.randn(8, 4, 4), torch.zeros(4)
    with torch.no_grad():
        maps = backend.build_strided_maps(halving)
    torchsparse.calls.clear()
    backend.convolve(coarse, weight, maps.up, bias)
    backend.convolve(backend.convolve(fine, weight, maps.down, bias), weight, maps.up, bias)
    assert torchsparse.maps_built == 1
    common = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "training": False}
    down, up = (
        {**common, "dtypes": (torch.float32,) * 2},
        {**common, "dtypes": (torch.float32,) * 2, "transposed": True},
    )
    assert torchsparse.calls == [up, down, up]


def test_mixed_precision_leaves_the_maps_of_two_levels_alone(torchsparse: TorchsparseDouble) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        TorchsparseBackend().build_strided_maps(small_level().halve())
    assert [call["dtypes"] for call in torchsparse.calls] == [(torch.float32,) * 2] * 2


@pytest.mark.parametrize("allowed", [True, False])
def test_it_uses_tf32_where_torch_does(torchsparse: TorchsparseDouble, allowed: bool) -> None:
    torchsparse.settings.allow_tf32 = not allowed  # type: ignore[attr-defined]
    level, backend = small_level(5), TorchsparseBackend()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        features, weight = torch.zeros(level.num_voxels, 4), torch.zeros(27, 4, 4)
        backend.convolve(features, weight, backend.build_map(level), torch.zeros(4))
    finally:
        torch.set_float32_matmul_precision(before)
    assert torchsparse.settings.allow_tf32 is allowed


@pytest.mark.usefixtures("torchsparse")
def test_cells_beyond_its_count_are_refused() -> None:
    points = torch.zeros(2, 4)
    points[1, :3] = torch.tensor([5500.0, 5000.0, 2200.0])  # some 15,000 by 15,000 by 7,700 cells
    halving = build_pyramid(points, None, GRID, ()).levels[1].halve()
    with pytest.raises(ValueError, match="cannot count the cells"):
        TorchsparseBackend().build_strided_maps(halving)


def test_another_number_of_coarse_voxels_is_not_taken_for_ours(
    torchsparse: TorchsparseDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchsparse, "_halved_range", lambda cells: (cells[0], *(n // 2 - 1 for n in cells[1:])))
    with pytest.raises(ValueError, match="coarse voxels where there are"):
        TorchsparseBackend().build_strided_maps(small_level().halve())


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
    maps = backend.build_strided_maps(level.halve())
    for kernel_map in (maps.down, maps.up):
        assert backend.convolve(torch.empty(0, 3), torch.ones(8, 3, 5), kernel_map, torch.zeros(5)).shape == (0, 5)
