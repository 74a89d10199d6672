"""Random weights of any size, for measuring speed where there are no trained ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from twodpass_core.classes import ClassMap
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.simulation import HDL_64E, STREET_SEED, simulate_scans
from twodpass_core.sparse.grid import KITTI_GRID
from twodpass_core.weights import Card, save_weights


def write_untrained_weights(path: Path, architecture: StudentConfig) -> None:
    """A network for SemanticKITTI with random weights, the same every time. Its card says UNTRAINED."""
    card = Card(
        architecture=architecture,
        grid=KITTI_GRID,
        class_map=ClassMap.load("semantickitti"),
        intensity_max=1.0,
        trained=False,
        origin="random numbers",
        licence="CC0-1.0",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = PointVoxelStudent(architecture, KITTI_GRID)
    _standardise_logits(student)
    save_weights(path, student.state_dict(), card)


@torch.no_grad()
def _standardise_logits(student: PointVoxelStudent) -> None:
    """Random weights would give all points one class: gives each logit mean 0 and deviation 1 over a simulated scan."""
    (scan,) = simulate_scans(1, STREET_SEED, lidar=replace(HDL_64E, columns=256))
    points = torch.from_numpy(scan.points)
    logits = student.eval()(points[student.grid.admits(points)]).logits
    deviation, mean = torch.std_mean(logits, dim=0)
    deviation.clamp_(min=1e-6)  # there is none where all points share one voxel, as at a scale of 2048
    weight, bias = student.classifier[-1].parameters()
    weight.copy_(weight / deviation[:, None])
    bias.copy_((bias - mean) / deviation)
