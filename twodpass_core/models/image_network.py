"""The image network (section 3.2): what the camera knows, read at the pixels of LiDAR points. Training only.

The encoder's four feature maps are up-sampled to the image's resolution and read at the points' pixels. The last step
of up-sampling is always nearest neighbour and is never carried out: pixel (row, column) of its result is
(row // stride, column // stride) of what goes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from twodpass_core.errors import ConfigError
from twodpass_core.models.convolution import Convolution
from twodpass_core.models.resnet import WIDTHS, ResNet34Encoder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LAYER_OF_SCALE = {2: 0, 4: 1, 8: 2, 16: 3}


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What the image network says at P image points.

    For each scale of the student the features F^2D (P, D), and the 2D decoder's logits (P, K) if it has a classifier.
    """

    features: tuple[Tensor, ...]
    logits: Tensor | None


class ImageNetwork(nn.Module):
    """An encoder, an up-sampling decoder for each of its layers, and, as in FCN, a linear classifier of their sum."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, encoder: ResNet34Encoder, decoders: Sequence[Decoder], scales: Sequence[int], classifier: nn.Linear | None
    ) -> None:
        super().__init__()
        if unknown := sorted(set(scales) - set(LAYER_OF_SCALE)):
            raise ConfigError(f"the image network has features of scales 2, 4, 8 and 16, not {unknown}")
        self.encoder, self.decoders, self.classifier = encoder, nn.ModuleList(decoders), classifier
        self.layers = tuple(LAYER_OF_SCALE[scale] for scale in scales)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, pixels: Tensor) -> ImageFeatures:
        """Read images (B, 3, H, W) float32, RGB in 0..1, of any size, at pixels (P, 3) int64: image, row, column.

        B and P may be 0. Pixels must lie in the images.
        """
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        maps = self.encoder(normalised)
        at_points = [decoder(features, pixels) for decoder, features in zip(self.decoders, maps, strict=True)]
        logits = self.classifier(torch.stack(at_points).sum(0)) if self.classifier else None
        return ImageFeatures(tuple(at_points[layer] for layer in self.layers), logits)


class Decoder(nn.Module):
    """Up-samples a feature map: by layers to 1/`stride` of the image's resolution, from there by nearest neighbour."""

    def __init__(self, layers: nn.Sequential, stride: int) -> None:
        super().__init__()
        self.layers, self.stride = layers, stride

    def forward(self, features: Tensor, pixels: Tensor) -> Tensor:
        """(B, C, h, w) and pixels (P, 3) -> (P, D)."""
        maps: Tensor = self.layers(features).permute(0, 2, 3, 1)
        image, row, column = pixels.unbind(1)
        row, column = row // self.stride, column // self.stride
        return maps.flatten(0, 2).index_select(0, (image * maps.shape[1] + row) * maps.shape[2] + column)


def paper_image_network(scales: Sequence[int], width: int, num_classes: int) -> ImageNetwork:
    """The paper's: ResNet-34 as published, deconvolutions of its layers to `width`, a classifier of their sum."""
    encoder = ResNet34Encoder(stem_stride=2)
    decoders = []
    for level, channels in enumerate(WIDTHS):
        widths = (channels, *[width] * (level + 1))
        decoders.append(Decoder(nn.Sequential(*(_scaled_doubling(*pair) for pair in pairwise(widths))), stride=2))
    return ImageNetwork(encoder, decoders, scales, nn.Linear(width, num_classes))


def authors_image_network(scales: Sequence[int], width: int) -> ImageNetwork:
    """The authors' code's: ResNet-34 at double resolution, 7x7 convolutions, no classifier; the student's `width`."""
    encoder = ResNet34Encoder(stem_stride=1)
    decoders = [
        Decoder(nn.Sequential(_convolution(64, width)), stride=2),
        Decoder(nn.Sequential(_convolution(128, width)), stride=4),
        Decoder(nn.Sequential(_convolution(256, 64), _doubling(64, width)), stride=4),
        Decoder(nn.Sequential(_convolution(512, 64), _doubling(64, 64), _doubling(64, width)), stride=4),
    ]
    return ImageNetwork(encoder, decoders, scales, classifier=None)


def _convolution(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(Convolution(channels_in, channels, 7, padding=3), nn.ReLU(inplace=True))


def _doubling(channels_in: int, channels: int) -> nn.Sequential:
    deconvolution = nn.ConvTranspose2d(channels_in, channels, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(deconvolution, nn.ReLU(inplace=True))


def _scaled_doubling(channels_in: int, channels: int) -> nn.Sequential:
    """A doubling that keeps the variance it is given: four with PyTorch's defaults let next to nothing through."""
    doubling = _doubling(channels_in, channels)
    taps = 9 / 4  # of the 3x3 kernel, those that fall on an input of a given output, on average
    nn.init.normal_(doubling[0].weight, std=math.sqrt(2 / (taps * channels_in)))  # type: ignore[arg-type]
    nn.init.zeros_(doubling[0].bias)  # type: ignore[arg-type]
    return doubling
