"""ResNet-34 (He et al., CVPR 2016) as an encoder of images, with torchvision's parameter names and initialisation."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.errors import MissingDependencyError, WeightsError
from twodpass_core.models.convolution import Convolution
from twodpass_core.models.layers import norm_as_in_inference

WIDTHS = (64, 128, 256, 512)
DEPTHS = (3, 4, 6, 3)


class ImageNorm(nn.BatchNorm2d):
    """Batch normalisation over pixels; in training, fewer than two have no variance: then as in inference."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.training and features.shape[0] * features.shape[2:].numel() < 2:
            return norm_as_in_inference(self, features)
        return super().forward(features)


class ResNet34Encoder(nn.Module):
    """Images in, the feature maps of the four layers out.

    With `stem_stride` 2 it is the published network (the layers' strides are 4, 8, 16, 32), with 1 it keeps twice the
    resolution (2, 4, 8, 16). Maps have 1/stride of the image's height and width, rounded up: any image size will do.
    """

    def __init__(self, stem_stride: int) -> None:
        super().__init__()
        self.conv1 = Convolution(3, 64, 7, stem_stride, padding=3)
        self.bn1 = ImageNorm(64)
        self.layer1 = _layer(64, WIDTHS[0], DEPTHS[0], stride=1)
        self.layer2 = _layer(WIDTHS[0], WIDTHS[1], DEPTHS[1], stride=2)
        self.layer3 = _layer(WIDTHS[1], WIDTHS[2], DEPTHS[2], stride=2)
        self.layer4 = _layer(WIDTHS[2], WIDTHS[3], DEPTHS[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> four maps (B, WIDTHS[l], ceil(H / stride), ceil(W / stride))."""
        map1 = self.layer1(self.stem(images))
        map2 = self.layer2(map1)
        map3 = self.layer3(map2)
        return map1, map2, map3, self.layer4(map3)

    def layers(self) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential, nn.Sequential]:
        """Of blocks, first to last."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, ceil(H / s), ceil(W / s)), s = 2 `stem_stride`."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(images)), inplace=True), 3, stride=2, padding=1)

    def load_imagenet(self, path: Path | None = None) -> None:
        """Load weights from a file of torchvision's state dict (.safetensors or .pth), or through torchvision itself.

        Raises:
            WeightsError: the file cannot be read, holds more than tensors or another network; or the download failed.
            MissingDependencyError: no file is given and torchvision is not installed.
        """
        state = _read_state_dict(path) if path else _download_state_dict()
        state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f"{path or 'torchvision'}: not the weights of a ResNet-34. {error}") from error


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Convolution(channels_in, channels, 3, stride, padding=1)
        self.bn1 = ImageNorm(channels)
        self.conv2 = Convolution(channels, channels, 3, padding=1)
        self.bn2 = ImageNorm(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(Convolution(channels_in, channels, 1, stride), ImageNorm(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        hidden = F.relu(self.bn1(self.conv1(features)), inplace=True)
        shortcut = features if self.downsample is None else self.downsample(features)
        return F.relu(self.bn2(self.conv2(hidden)).add_(shortcut), inplace=True)


def _layer(channels_in: int, channels: int, depth: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(channels, channels, stride=1) for _ in range(depth - 1))
    return nn.Sequential(BasicBlock(channels_in, channels, stride), *rest)


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(f"{path}: cannot be read as weights: damaged, or more than tensors") from error
    except Exception as error:  # torch.load raises nearly anything for a damaged file
        raise WeightsError(f"{path}: cannot be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: not a state dict: give the file that torchvision offers, or a .safetensors one")
    return state


def _download_state_dict() -> dict[str, Tensor]:
    try:
        from torchvision.models import ResNet34_Weights  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        install = "pip install torchvision, or give the weights as a file"
        raise MissingDependencyError("torchvision", "loading ImageNet weights by name", install) from error
    try:
        state: dict[str, Tensor] = ResNet34_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    except OSError as error:
        raise WeightsError(f"ImageNet weights cannot be downloaded ({error}): give them as a file") from error
    return state
