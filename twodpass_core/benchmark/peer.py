"""What the network is timed beside: itself as in training, or as its authors run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from twodpass_core.benchmark.prepared import Prepared
from twodpass_core.benchmark.spconv_peer import SpconvStudent
from twodpass_core.device import current_device
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.sparse.backend import make_backend
from twodpass_core.weights import load_weights

PEER_BACKENDS: Final = {"spconv": "torch", "torchsparse": "torchsparse"}
"""Backends of the peers that are not run on the one that was asked for; spconv convolves by itself."""


def prepare_peer(kind: str, weights: Path, device: torch.device, backend: str) -> Prepared[Mapping[str, float]]:
    """Load a peer; what comes back runs it on points (N, 4) and tells of no stages.

    Raises:
        WeightsError, ConfigError: as Segmenter.from_weights.
        MissingDependencyError: the peer is not installed.
    """
    card, state_dict = load_weights(weights)
    sparse = make_backend(backend, device, width=card.architecture.width)
    student = PointVoxelStudent(card.architecture, card.grid, sparse)
    student.load_state_dict(state_dict)
    student.to(device).eval()
    is_spconv = kind == "spconv"
    network = SpconvStudent(student, device) if is_spconv else lambda points: student(points).logits

    def run(points: npt.NDArray[np.float32]) -> Mapping[str, float]:
        with torch.no_grad(), current_device(device):
            on_device = torch.tensor(points, device=device)
            network(on_device[card.grid.admits(on_device)]).argmax(dim=1).cpu()
        return {}

    return Prepared(run, "spconv" if is_spconv else sparse.name)
