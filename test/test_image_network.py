"""The image network: shapes, reading at pixels, torchvision's names and weights, and that weights files run no code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.errors import ConfigError, MissingDependencyError, WeightsError
from twodpass_core.models.image_network import (
    IMAGENET_MEAN,
    Decoder,
    ImageFeatures,
    ImageNetwork,
    authors_image_network,
    paper_image_network,
)
from twodpass_core.models.resnet import ResNet34Encoder

SCALES = (2, 4, 8, 16)
WIDTH = 8
NETWORKS: dict[str, Callable[[], ImageNetwork]] = {
    "paper": lambda: paper_image_network(SCALES, WIDTH, num_classes=5),
    "authors": lambda: authors_image_network(SCALES, WIDTH),
}


def random_pixels(images: Tensor, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    limits = (images.shape[0], images.shape[2], images.shape[3])
    return torch.stack([torch.randint(0, limit, (count,), generator=generator) for limit in limits], dim=1)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> ImageNetwork:
    torch.manual_seed(0)
    return NETWORKS[request.param]()


def test_size_is_that_of_the_published_networks() -> None:
    encoder = sum(parameter.numel() for parameter in ResNet34Encoder(stem_stride=2).parameters())
    assert encoder == 21_797_672 - 1000 * 513  # ResNet-34 less its classifier
    assert sum(parameter.numel() for parameter in authors_image_network(SCALES, 64).parameters()) == 24_406_016


def test_encoder_equals_torchvision() -> None:
    models = pytest.importorskip("torchvision.models", reason="compares with torchvision where it is installed")
    theirs = models.resnet34(weights=None).eval()
    ours = ResNet34Encoder(stem_stride=2).eval()
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")})
    images = torch.rand(1, 3, 50, 70)
    expected = theirs.fc(theirs.avgpool(ours(images)[3]).flatten(1))
    torch.testing.assert_close(theirs(images), expected)


def test_encoder_begins_as_torchvisions_does() -> None:
    """By the number of outputs: what matters where a layer has twice as many as inputs."""
    torch.manual_seed(0)
    for name, outputs in (("conv1", 49 * 64), ("layer2.0.conv1", 9 * 128), ("layer2.0.downsample.0", 128)):
        weight = ResNet34Encoder(stem_stride=2).get_submodule(name).get_parameter("weight").detach()
        assert float(weight.var()) == pytest.approx(2 / outputs, rel=0.05)


@pytest.mark.parametrize(("stem_stride", "strides"), [(2, (4, 8, 16, 32)), (1, (2, 4, 8, 16))])
@pytest.mark.parametrize("size", [(64, 96), (33, 70)])
def test_encoder_maps_have_the_stated_resolution(
    stem_stride: int, strides: tuple[int, ...], size: tuple[int, int]
) -> None:
    maps = ResNet34Encoder(stem_stride)(torch.rand(1, 3, *size))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip((64, 128, 256, 512), strides, strict=True)
    ]


@pytest.mark.parametrize("size", [(48, 64), (45, 83)])
def test_reading_pixels_is_up_sampling_and_then_gathering(network: ImageNetwork, size: tuple[int, int]) -> None:
    network.eval()
    images = torch.rand(2, 3, *size)
    pixels = random_pixels(images, 200)
    read = network(images, pixels)
    normalised = (images - network.mean) / network.std
    image, row, column = pixels.unbind(1)
    gathered = []
    for decoder, features in zip(network.decoders, network.encoder(normalised), strict=True):
        assert isinstance(decoder, Decoder)
        full = F.interpolate(decoder.layers(features), scale_factor=decoder.stride, mode="nearest")
        assert full.shape[2] >= size[0]
        assert full.shape[3] >= size[1]
        gathered.append(full[image, :, row, column])
    for features, expected in zip(read.features, gathered, strict=True):
        torch.testing.assert_close(features, expected)
    if network.classifier:
        torch.testing.assert_close(read.logits, network.classifier(torch.stack(gathered).sum(0)))
    else:
        assert read.logits is None


def test_pixels_are_row_then_column() -> None:
    """What changes in the lower left of the picture is seen there, and not in the upper right."""
    network = authors_image_network(SCALES, WIDTH).eval()
    images = torch.rand(1, 3, 160, 320)
    changed = images.clone()
    changed[:, :, 144:, :16] = 0
    corners = torch.tensor([[0, 159, 0], [0, 0, 319]])
    before, after = network(images, corners).features[0], network(changed, corners).features[0]
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])


def test_images_are_normalised_inside(network: ImageNetwork) -> None:
    seen: list[Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for deviations in (0, 1):
        values = torch.tensor(IMAGENET_MEAN) + deviations * torch.tensor((0.229, 0.224, 0.225))
        network.eval()(values[None, :, None, None].expand(1, 3, 32, 32), torch.zeros(1, 3, dtype=torch.long))
        torch.testing.assert_close(seen.pop(), torch.full((1, 3, 32, 32), float(deviations)))


def test_every_parameter_learns(network: ImageNetwork) -> None:
    images = torch.rand(2, 3, 64, 64)
    read: ImageFeatures = network(images, random_pixels(images, 300))
    terms = [*read.features] + ([] if read.logits is None else [read.logits])
    torch.stack([term.square().sum() for term in terms]).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert silent == []


def test_scale_16_is_read_as_often_as_the_student_has_it() -> None:
    network = paper_image_network((2, 4, 8, 16, 16, 16), WIDTH, num_classes=5).eval()
    images = torch.rand(1, 3, 32, 32)
    features = network(images, random_pixels(images, 4)).features
    assert len(features) == 6
    assert features[3] is features[4] is features[5]


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="32"):
        authors_image_network((2, 32), WIDTH)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5, 200), (101, 37)])
def test_any_image_size(network: ImageNetwork, size: tuple[int, int]) -> None:
    last = torch.tensor([[1, size[0] - 1, size[1] - 1]])
    assert all(bool(features.isfinite().all()) for features in network(torch.rand(2, 3, *size), last).features)


@pytest.mark.parametrize(("images", "points"), [(0, 0), (2, 0)])
def test_nothing_to_read_is_no_error_and_spoils_no_statistics(network: ImageNetwork, images: int, points: int) -> None:
    read: ImageFeatures = network(torch.rand(images, 3, 32, 48), torch.zeros(points, 3, dtype=torch.long))
    assert [features.shape for features in read.features] == [(0, WIDTH)] * 4
    torch.cat(read.features).sum().backward()
    assert all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
    decoders = network.decoders.parameters()
    assert all(parameter.grad is not None and not bool(parameter.grad.any()) for parameter in decoders)


def test_bfloat16_autocast(network: ImageNetwork) -> None:
    network.eval()
    images = torch.rand(1, 3, 64, 64)
    pixels = random_pixels(images, 50)
    full = network(images, pixels).features
    with torch.autocast("cpu", torch.bfloat16):
        half = network(images, pixels).features
    for features, expected in zip(half, full, strict=True):
        error = (features.float() - expected).norm() / expected.norm()
        assert float(error.detach()) < 0.05


def test_paper_decoders_keep_the_signal() -> None:
    """Features of the deepest layer, four deconvolutions on, are as strong as those of the first."""
    torch.manual_seed(0)
    network = paper_image_network(SCALES, 64, num_classes=5)
    for decoder, channels in zip(network.decoders, (64, 128, 256, 512), strict=True):
        assert isinstance(decoder, Decoder)
        strength = decoder.layers(torch.randn(1, channels, 8, 8).relu()).square().mean().sqrt().item()
        assert 0.5 < strength < 0.8


def torchvision_like_weights() -> dict[str, Tensor]:
    state = {name: torch.full_like(value, 2) for name, value in ResNet34Encoder(2).state_dict().items()}
    return state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize("name", ["resnet34.pth", "resnet34.safetensors"])
def test_imagenet_weights_load_from_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    save(torchvision_like_weights(), path)
    network = NETWORKS["authors"]()
    network.encoder.load_imagenet(path)
    assert all(bool((value == 2).all()) for value in network.encoder.state_dict().values())


def test_weights_of_another_network_are_refused_with_the_differences(tmp_path: Path) -> None:
    state = torchvision_like_weights()
    del state["layer3.0.conv1.weight"]
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"(?s)other\.pth.*layer3\.0\.conv1\.weight.*conv1\.weight"):
        ResNet34Encoder(2).load_imagenet(tmp_path / "other.pth")


class SideEffect:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("side_effect",)


@pytest.mark.parametrize("content", [SideEffect(), {"conv1.weight": SideEffect()}, {"conv1.weight": 3}, [1, 2]])
def test_more_than_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        ResNet34Encoder(2).load_imagenet(Path("weights.pth"))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_or_absent_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (None, b"", b"not weights", b"PK\x03\x04"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(WeightsError, match=name) as refused:
            ResNet34Encoder(2).load_imagenet(path)
        assert len(str(refused.value).splitlines()) == 1


def test_without_torchvision_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MissingDependencyError, match="pip install torchvision"):
        ResNet34Encoder(2).load_imagenet()


def test_memory_is_laid_out_channels_last(network: ImageNetwork) -> None:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in convolutions)


@pytest.mark.parametrize("size", [(32, 32), (1, 1)])
def test_images_of_a_single_value_in_the_last_layer_can_be_trained_on(size: tuple[int, int]) -> None:
    encoder = ResNet34Encoder(2).train()
    for features in encoder(torch.rand(1, 3, *size)):
        assert features.isfinite().all()
