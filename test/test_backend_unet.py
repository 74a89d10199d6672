"""The layers on sparse voxels: what they hold and compute, and a U-Net student made of them that learns by 2DPASS."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from twodpass_core.losses import SegmentationLoss
from twodpass_core.models.image_network import ImageFeatures
from twodpass_core.models.layers import (
    InverseConvolution,
    PointwiseConvolution,
    StridedConvolution,
    SubmanifoldConvolution,
    VoxelNorm,
)
from twodpass_core.models.msfskd import DistillationConfig, make_distillation
from twodpass_core.models.student import ScaleFeatures, StudentOutput
from twodpass_core.sparse.backend import SparseBackend
from twodpass_core.sparse.grid import VoxelGrid
from twodpass_core.sparse.pyramid import build_pyramid
from twodpass_core.sparse.rows import mean_rows
from twodpass_core.sparse.torch_backend import TorchBackend

GRID = VoxelGrid(minimum=(0, 0, 0), maximum=(8, 8, 4), cells=(32, 32, 16))  # cells of 0.25 m
UNLABELLED, POLE, BEAM = range(3)
WIDTHS = 8, 16
NUM_POINTS = 96


class UNet(nn.Module):
    """Two levels: encoder, strided convolution, bottom, inverse convolution beside the skip connection, decoder."""

    def __init__(self) -> None:
        super().__init__()
        fine, coarse = WIDTHS
        self.backend: SparseBackend = TorchBackend()
        self.encoder, self.encoder_norm = SubmanifoldConvolution(1, fine), VoxelNorm(fine)
        self.strided, self.strided_norm = StridedConvolution(fine, coarse), VoxelNorm(coarse)
        self.bottom, self.bottom_norm = SubmanifoldConvolution(coarse, coarse), VoxelNorm(coarse)
        self.inverse, self.inverse_norm = InverseConvolution(coarse, fine), VoxelNorm(fine)
        self.decoder, self.decoder_norm = SubmanifoldConvolution(2 * fine, fine), VoxelNorm(fine)
        self.classifier = nn.Linear(fine, 3)

    def forward(self, points: Tensor, sample: Tensor) -> StudentOutput:
        pyramid = build_pyramid(points, sample, GRID, ())
        halving, backend = pyramid.levels[1].halve(), self.backend
        of_fine, of_coarse = (backend.build_map(level) for level in (halving.fine, halving.coarse))
        between = backend.build_strided_maps(halving)

        intensity = mean_rows(points[:, 3:], pyramid.points)
        encoded = F.relu(self.encoder_norm(self.encoder(intensity, backend, of_fine)))
        coarse = F.relu(self.strided_norm(self.strided(encoded, backend, between.down)))
        coarse = F.relu(self.bottom_norm(self.bottom(coarse, backend, of_coarse)))
        back = F.relu(self.inverse_norm(self.inverse(coarse, backend, between.up)))
        fine = F.relu(self.decoder_norm(self.decoder(torch.cat([encoded, back], dim=1), backend, of_fine)))

        voxel = pyramid.point_to_voxel(1)
        parent = halving.parents.group.index_select(0, voxel)
        logits = self.classifier(fine).index_select(0, voxel)
        return StudentOutput(logits, (ScaleFeatures(fine, voxel), ScaleFeatures(coarse, parent)))


class Pointwise(nn.Module):
    """Sees of each point what the U-Net sees of it, and no other point."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, points: Tensor, sample: Tensor) -> Tensor:
        logits: Tensor = self.layers(points[:, 3:])
        return logits


@dataclass(frozen=True)
class Scene:
    """Dashed poles and beams in two samples, told apart by their direction alone; some points without label.

    A dash is one voxel and so is the gap: dashes are neighbours on the coarser level only.
    """

    points: Tensor
    sample: Tensor
    labels: Tensor

    @classmethod
    def random(cls, seed: int) -> Scene:
        generator = torch.Generator().manual_seed(seed)

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=generator)

        places = torch.cartesian_prod(
            torch.arange(2), torch.arange(4), torch.arange(4)
        )  # sample, square of 8 by 8 cells
        direction = torch.where(integers(2, 32, 1) == 0, torch.tensor([2, 0, 0]), torch.tensor([0, 0, 2]))
        first = F.pad(8 * places[:, 1:], (0, 1)) + integers(2, 32, 3)
        cells = (first[:, None] + torch.arange(3)[None, :, None] * direction[:, None]).view(-1, 3)
        points = torch.cat([(cells + 0.5) * 0.25, torch.rand(NUM_POINTS, 1, generator=generator)], dim=1)
        labels = torch.where(direction[:, 2] > 0, POLE, BEAM).repeat_interleave(3)
        labels = labels.where(integers(10, NUM_POINTS) > 0, UNLABELLED)
        return cls(points, places[:, 0].repeat_interleave(3), labels)

    def accuracy(self, logits: Tensor) -> float:
        labelled = self.labels != UNLABELLED
        return float((logits[:, 1:].argmax(dim=1) + 1 == self.labels)[labelled].float().mean())

    def image(self) -> ImageFeatures:
        """As an image network might see these points: the classes, dimly."""
        noise = torch.randn(NUM_POINTS, 3, generator=torch.Generator().manual_seed(0))
        seen = F.one_hot(self.labels, 3) + 0.3 * noise
        return ImageFeatures((F.pad(seen, (0, 5)), F.pad(seen, (0, 5))), seen)


def trained(seed: int) -> tuple[UNet, Pointwise]:
    """Both on the same scenes; the U-Net by 2DPASS, too."""
    torch.manual_seed(seed)
    net, pointwise, loss = UNet(), Pointwise(), SegmentationLoss()
    distillation = make_distillation(DistillationConfig(width=8), WIDTHS, 3, loss)
    assert distillation is not None
    modules = nn.ModuleList([net, pointwise, distillation])
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.02)
    for step in range(40):
        scene = Scene.random(step)
        out = net(scene.points, scene.sample)
        taught = distillation(out.scale_features, scene.image(), torch.arange(NUM_POINTS), scene.labels)
        alone = loss(pointwise(scene.points, scene.sample), scene.labels)
        optimizer.zero_grad()
        (loss(out.logits, scene.labels).total + taught.total + alone.total).backward()
        optimizer.step()
    return net.eval(), pointwise.eval()


def test_a_unet_learns_from_points_and_images_what_no_point_shows() -> None:
    net, pointwise = trained(seed=0)
    unseen = Scene.random(1000)
    with torch.no_grad():
        assert unseen.accuracy(net(unseen.points, unseen.sample).logits) > 0.95
        assert unseen.accuracy(pointwise(unseen.points, unseen.sample)) < 0.7


def test_distillation_at_the_coarse_level_teaches_the_strided_convolution() -> None:
    torch.manual_seed(0)
    net, scene = UNet(), Scene.random(0)
    distillation = make_distillation(DistillationConfig(width=8), WIDTHS[1:], 3, SegmentationLoss())
    assert distillation is not None
    coarse = net(scene.points, scene.sample).scale_features[1:]
    image = ImageFeatures(scene.image().features[:1], scene.image().logits)
    distillation(coarse, image, torch.arange(NUM_POINTS), scene.labels).total.backward()
    assert net.strided.weight.grad is not None
    assert bool(net.strided.weight.grad.any())
    assert net.inverse.weight.grad is None


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (SubmanifoldConvolution(3, 5), (27, 3, 5)),
        (StridedConvolution(3, 5), (8, 3, 5)),
        (InverseConvolution(3, 5), (8, 3, 5)),
    ],
)
def test_a_layer_holds_a_matrix_for_each_offset_and_nothing_else(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()} == {"weight": shape}


def test_initial_weights_suit_the_number_of_voxels_that_meet() -> None:
    """A target sums over C_in channels of at most so many voxels: to about a third of the variance of each."""
    width = 64
    for layer, voxels in (
        (SubmanifoldConvolution(width, width), 27),
        (StridedConvolution(width, width), 8),
        (InverseConvolution(width, width), 1),
        (PointwiseConvolution(width), 1),
    ):
        assert float(layer.weight.detach().var()) * voxels * width == pytest.approx(1 / 3, rel=0.05)


def test_a_unet_in_mixed_precision_is_close_to_float32() -> None:
    torch.manual_seed(0)
    net, scene = UNet().eval(), Scene.random(0)
    exact = net(scene.points, scene.sample).logits
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(scene.points, scene.sample).logits
    assert float((mixed.float() - exact).detach().abs().mean()) < 0.05 * float(exact.detach().std())
