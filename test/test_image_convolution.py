"""The image network's convolution is torch's, whichever way its gradients are computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from twodpass_core.models import convolution
from twodpass_core.models.convolution import Convolution


@pytest.fixture(autouse=True, params=[True, False], ids=["AVX2", "AVX-512"])
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_is_avx2", lambda tensor: request.param)


def result_and_gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return out.detach(), *torch.autograd.grad(out, inputs, torch.randn(out.shape, generator=generator))


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (7, 2, 3), (1, 2, 0)])
@pytest.mark.parametrize("channels_first", [False, True])
def test_results_and_gradients_are_torchs(
    images: int, size: int, stride: int, padding: int, channels_first: bool
) -> None:
    torch.manual_seed(0)
    layout = torch.contiguous_format if channels_first else torch.channels_last
    layer = Convolution(5, 6, size, stride, padding).to(memory_format=layout)  # type: ignore[call-overload]
    given = torch.randn(images, 5, 17, 12).to(memory_format=layout).requires_grad_()
    found = result_and_gradients(layer(given), given, layer.weight)
    of_torch = F.conv2d(given, layer.weight, None, stride, padding)
    for ours, expected in zip(found, result_and_gradients(of_torch, given, layer.weight), strict=True):
        torch.testing.assert_close(ours, expected)


def test_what_needs_no_gradient_gets_none() -> None:
    layer = Convolution(3, 4, 3, padding=1)
    layer(torch.randn(1, 3, 8, 8)).sum().backward()
    assert layer.weight.grad is not None
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    layer.requires_grad_(False)(images).sum().backward()
    assert images.grad is not None


def test_mixed_precision_is_torchs() -> None:
    layer = Convolution(8, 8, 3, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 8, 6, 6)).dtype == torch.bfloat16
