"""The Triton kernels against the torch backend: on a GPU where there is one, else interpreted (see conftest.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from convolutions import KINDS, Convolution
from sparse_points import GRID, random_points
from tiny_weights import SMALL_GRID, tiny_card, tiny_student, write_tiny_weights
from torch import Tensor

from twodpass_core.segmenter import Segmenter
from twodpass_core.sparse.backend import SparseBackend, make_backend
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.sparse.pyramid import VoxelLevel, build_pyramid
from twodpass_core.sparse.torch_backend import TorchBackend

pytest.importorskip("triton", reason="triton is not installed: see CONTRIBUTING.md")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MEAN_ERROR = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # shares of the values' spread


@pytest.fixture(scope="module")
def backend() -> SparseBackend:
    from twodpass_core.sparse.triton_backend import TritonBackend

    return TritonBackend()


def random_level(count: int) -> VoxelLevel:
    points, sample = random_points(count, seed=count)
    return build_pyramid(points.to(DEVICE) * 1.2, sample.to(DEVICE), GRID, ()).levels[1]


def submanifold(level: VoxelLevel) -> Convolution:
    return Convolution("submanifold", level.halve())


def results(backend: SparseBackend, convolution: Convolution, inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Computed in dtype: the result and the gradients of features, weight and addend, float64."""
    found = convolution.results(backend, *(tensor.to(DEVICE, dtype) for tensor in inputs))
    assert found[0].dtype == dtype
    return [tensor.double() for tensor in found]


def assert_parity(
    backend: SparseBackend, convolution: Convolution, widths: tuple[int, int], dtype: torch.dtype, addend_is_bias: bool
) -> None:
    """Against float64 on the same numbers as they are rounded to dtype."""
    inputs = convolution.inputs(*widths, addend_is_bias=addend_is_bias, dtype=dtype)
    found = results(backend, convolution, inputs, dtype)
    exact = results(TorchBackend(), convolution, inputs, torch.float64)
    for name, ours, expected in zip(("result", "features", "weight", "addend"), found, exact, strict=True):
        assert ours.shape == expected.shape
        error = (ours - expected).abs()
        spread = float(expected.square().mean().sqrt())
        assert float(error.mean()) < MEAN_ERROR[dtype] * spread, name
        assert float(error.max()) < 10 * MEAN_ERROR[dtype] * spread, name


@pytest.mark.parametrize("dtype", MEAN_ERROR, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_are_those_of_the_torch_backend(
    backend: SparseBackend, kind: str, dtype: torch.dtype
) -> None:
    assert_parity(backend, Convolution(kind, random_level(150).halve()), (16, 16), dtype, addend_is_bias=False)


@pytest.mark.parametrize("widths", [(5, 3), (40, 16), (3, 70)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_widths_that_fill_no_block_or_several(backend: SparseBackend, kind: str, widths: tuple[int, int]) -> None:
    assert_parity(backend, Convolution(kind, random_level(70).halve()), widths, torch.float32, addend_is_bias=True)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_few_voxels(backend: SparseBackend, kind: str, count: int) -> None:
    assert_parity(backend, Convolution(kind, random_level(count).halve()), (4, 4), torch.float32, addend_is_bias=True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_voxels(backend: SparseBackend, kind: str) -> None:
    convolution = Convolution(kind, random_level(0).halve())
    inputs = [torch.empty(0, 3), torch.ones(convolution.num_offsets, 3, 5), torch.zeros(5), torch.empty(0, 5)]
    out, features, weight, addend = results(backend, convolution, inputs, torch.float32)
    assert (out.shape, features.shape) == ((0, 5), (0, 3))
    assert not weight.any()
    assert not addend.any()


def test_rows_that_are_not_contiguous(backend: SparseBackend) -> None:
    level = random_level(40)
    features = torch.randn(6, level.num_voxels, device=DEVICE).t()
    weight = torch.randn(27, 4, 6, device=DEVICE).transpose(1, 2)
    bias = torch.zeros(4, device=DEVICE)
    found, expected = (
        chosen.convolve(features, weight, chosen.build_map(level), bias) for chosen in (backend, TorchBackend())
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_weight_gradient_is_the_same_every_time(backend: SparseBackend) -> None:
    convolution = submanifold(random_level(150))
    inputs = convolution.inputs(4, 4, addend_is_bias=True, dtype=torch.float32)
    first, second = (results(backend, convolution, inputs, torch.float32)[2] for _ in range(2))
    assert torch.equal(first, second)


def test_a_map_refuses_features_of_another(backend: SparseBackend) -> None:
    """Else the kernel would read beyond them."""
    halving = random_level(40).halve()
    features, weight, bias = (torch.ones(*shape, device=DEVICE) for shape in ((3, 4), (8, 4, 4), (4,)))
    with pytest.raises(ValueError, match="feature rows"):
        backend.convolve(features, weight, backend.build_strided_maps(halving).up, bias)


def test_mixed_formats_are_refused(backend: SparseBackend) -> None:
    level = random_level(5)
    neighbours = backend.build_map(level)
    features, weight, bias = torch.randn(level.num_voxels, 4), torch.randn(27, 4, 4).half(), torch.zeros(4)
    with pytest.raises(ValueError, match="throughout"):
        backend.convolve(features.to(DEVICE), weight.to(DEVICE), neighbours, bias.to(DEVICE))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("submanifold", torch.float32), ("submanifold", torch.bfloat16), ("down", torch.float32), ("up", torch.float32)],
    ids=str,
)
def test_parity_on_a_crop_of_a_real_scan(
    backend: SparseBackend, kitti_scan: Path, kind: str, dtype: torch.dtype
) -> None:
    points = torch.from_numpy(np.fromfile(kitti_scan, np.float32).reshape(-1, 4))
    ahead = points[((points[:, :2] - torch.tensor([8.0, 0.0])).abs() < 3).all(dim=1)]
    level = build_pyramid(ahead[:400].to(DEVICE), None, KITTI_GRID, ()).levels[1]
    assert level.num_voxels > 100
    assert_parity(backend, Convolution(kind, level.halve()), (16, 16), dtype, addend_is_bias=True)


@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
def test_a_student_learns_as_with_the_torch_backend(backend: SparseBackend, mixed: bool) -> None:
    points = torch.rand(100, 4, generator=torch.Generator().manual_seed(1)).mul(4).sub(2).to(DEVICE)
    gradients = []
    for chosen in (TorchBackend(), backend):
        student = tiny_student(tiny_card(SMALL_GRID)).to(DEVICE)
        student.backend = chosen
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=mixed):
            logits = student(points).logits
        of_parameters = torch.autograd.grad(logits.float().square().sum(), list(student.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in of_parameters]))
    error = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert float(error) < (0.05 if mixed else 1e-4)


def test_it_passes_its_trial_and_labels_as_the_torch_backend(tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.safetensors", tiny_card(SMALL_GRID))
    low, high = (-3, -3, -1.9, 0), (3, 3, 1.9, 1)
    points = np.random.default_rng(0).uniform(low, high, size=(120, 4)).astype(np.float32)
    assert make_backend("triton", DEVICE).name == "triton"
    scores = []
    for name in ("torch", "triton"):
        result = Segmenter.from_weights(weights, str(DEVICE), backend=name).segment(points, return_scores=True)
        assert result.scores is not None
        scores.append(result.scores)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3, atol=1e-4)
