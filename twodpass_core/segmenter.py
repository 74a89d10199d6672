"""The deployable: weights in, points in, labels out. The node, the command line and the benchmark all use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twodpass_core.choices import Precision
from twodpass_core.classes import UNLABELLED, ClassMap
from twodpass_core.clock import StageClock
from twodpass_core.cpu_speed import warn_if_slow
from twodpass_core.device import choose_device, computing_on, give_back_memory
from twodpass_core.errors import ConfigError
from twodpass_core.geometry.rigid_transform import rotation_about_z
from twodpass_core.models.folded import CellLogits, FoldedStudent
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.sensor import intensity_limit
from twodpass_core.sparse.backend import make_backend
from twodpass_core.weights import Card, load_weights

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VOTE_SHIFT_STD = 0.1  # metres per axis, of the authors' random votes


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the network says of N points, in their order."""

    class_id: npt.NDArray[np.uint8]  # (N,) 1..K-1; 255 where there is no answer
    probability: npt.NDArray[np.float32]  # (N,) softmax over all K classes, taken at class_id; 0 without an answer
    scores: npt.NDArray[np.float32] | None  # (N, K) logits, zeros where there is no answer; None unless asked for
    stage_seconds: Mapping[str, float]  # stage name -> seconds, in the order of the stages


class Segmenter:
    """A network ready to label scans. Threads may share it: one scan is labelled after the other."""

    def __init__(self, card: Card, network: FoldedStudent, device: torch.device) -> None:
        self.card, self.device, self.backend = card, device, network.backend.name
        self._network: FoldedStudent | None = network
        self._in_use = Lock()  # the network's buffers are for one scan at a time

    @classmethod
    def from_weights(
        cls, path: str | Path, device: str = "auto", precision: Precision = "fp32", backend: str = "auto"
    ) -> Segmenter:
        """Load a weights file.

        Args:
            device: `auto` (CUDA if there is one, else CPU), `cpu`, `cuda` or `cuda:N`.
            precision: number format of the sparse convolutions; the points, their branch and the classifier are always
                float32. The log warns where a CPU is slow in it.
            backend: implementation of the sparse convolution, see `sparse.backend.make_backend`.

        Raises:
            WeightsError: the file is missing, damaged or does not fit.
            ConfigError: unknown or unavailable device, precision or backend.
            MissingDependencyError: the backend's package is not installed.
        """
        if precision not in get_args(Precision):
            raise ConfigError(f"unknown precision '{precision}': choose {', '.join(get_args(Precision))}")
        chosen_device = choose_device(device)
        warn_if_slow(DTYPES[precision], chosen_device)
        card, state_dict = load_weights(Path(path))
        chosen_backend = make_backend(backend, chosen_device, [DTYPES[precision]], card.architecture.width)
        student = PointVoxelStudent(card.architecture, card.grid, chosen_backend)
        student.load_state_dict(state_dict)
        return cls(card, FoldedStudent(student, DTYPES[precision], chosen_device), chosen_device)

    @property
    def class_map(self) -> ClassMap:
        return self.card.class_map

    def segment(
        self,
        points: npt.NDArray[np.float32],
        return_scores: bool = False,
        *,
        votes: int = 1,
        random_votes: np.random.Generator | None = None,
    ) -> Segmentation:
        """Label a scan.

        Args:
            points: (N, 4) float32 x, y, z (metres), intensity, in the frame and unit the weights were trained in
                (SensorMounting.to_training). Not changed; any strides.
            return_scores: also give the logits.
            votes: the scan is segmented this often, rotated about z by 2 pi k / votes, and logits are averaged.
            random_votes: draw the angles, and a small shift, at random as the authors do, instead.

        Points that are not finite, exactly (0, 0, 0), or outside the volume (tested before rotation) are not given to
        the network: class_id 255, probability 0, scores 0. An intensity beyond `sensor.intensity_limit` is clipped to
        that: without a bound a single damaged one would change the labels of all that is within 10 m.

        Raises:
            ValueError: points are not (N, 4) float32, or votes < 1.
            RuntimeError: the segmenter is closed.
            torch.cuda.OutOfMemoryError: the memory is full, of a GPU or a CPU; the segmenter can be used again.
        """
        if points.ndim != 2 or points.shape[1] != 4 or points.dtype != np.float32:
            raise ValueError(f"points must be (N, 4) float32, not {points.shape} {points.dtype}")
        if votes < 1:
            raise ValueError(f"votes must be at least 1, not {votes}")
        # The network has number formats of its own, whatever autocast the caller is in.
        with self._in_use, computing_on(self.device), torch.autocast(self.device.type, enabled=False):
            if self._network is None:
                raise RuntimeError("this Segmenter is closed")
            return self._label(self._network, points, return_scores, votes, random_votes)

    def _label(
        self,
        network: FoldedStudent,
        points: npt.NDArray[np.float32],
        return_scores: bool,
        votes: int,
        random_votes: np.random.Generator | None,
    ) -> Segmentation:
        clock = StageClock(self.device)
        with clock.stage("voxelise"):
            on_device = _upload(points, self.device)
            kept = self.card.grid.admits(on_device).nonzero().squeeze(1)
            inside = on_device.index_select(0, kept)
            limit = intensity_limit(self.card.intensity_max)
            inside[:, 3].clamp_(-limit, limit)
        if kept.shape[0] == 0:
            return _no_answer(points.shape[0], self.class_map.num_classes, return_scores, clock.seconds())
        if votes == 1 and random_votes is None:
            answer = network(inside, clock)
        else:
            moves = _upload(_vote_moves(votes, random_votes), self.device)
            answer = _average(network, inside, moves, clock)
        with clock.stage("gather"):
            class_id, probability, scores = _spread(answer, kept, points.shape[0], return_scores)
        return Segmentation(class_id, probability, scores, clock.seconds())

    def warm_up(self) -> None:
        """Run once on made-up points, so that the first real scan is not slow and a lack of memory shows early."""
        low, high = np.array(self.card.grid.minimum), np.array(self.card.grid.maximum)
        spread = np.random.default_rng(0).uniform(low, high, size=(50_000, 3))
        self.segment(np.concatenate([spread, np.zeros((len(spread), 1))], axis=1).astype(np.float32))

    def close(self) -> None:
        """Free the network, and the GPU memory it held; see `device.give_back_memory`."""
        with self._in_use:
            self._network = None
        give_back_memory(self.device)


def _upload(array: npt.NDArray[np.float32], device: torch.device) -> Tensor:
    """A copy on the device. To a GPU from page-locked memory: the host does not wait for the copy."""
    host = torch.empty(array.shape, dtype=torch.float32, device="cpu", pin_memory=device.type == "cuda")
    host.numpy()[...] = array
    return host.to(device, non_blocking=True)


def _download(*tensors: Tensor) -> list[npt.NDArray[Any]]:
    """Copies for the host, which waits once for all. From a GPU they come into page-locked memory."""
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    if tensors[0].is_cuda:
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]


def _vote_moves(votes: int, rng: np.random.Generator | None) -> npt.NDArray[np.float32]:
    """(votes, 4, 3): a rotation, and below it a shift."""
    moves = []
    for vote in range(votes):
        angle = 2 * math.pi * vote / votes if rng is None else rng.uniform(0, 2 * math.pi)
        shift = np.zeros(3) if rng is None else rng.normal(0, VOTE_SHIFT_STD, 3)
        moves.append(np.vstack([rotation_about_z(angle), shift]))
    return np.stack(moves).astype(np.float32)


def _average(network: FoldedStudent, points: Tensor, moves: Tensor, clock: StageClock) -> CellLogits:
    """Mean logits per point over the votes, one vote in memory at a time. Every vote sees every point."""
    total: Tensor | None = None
    for move in moves:
        moved = points.clone()
        moved[:, :3] = points[:, :3] @ move[:3].T + move[3]
        answer = network(moved, clock)
        logits = answer.logits.index_select(0, answer.point_to_cell)
        total = logits if total is None else total.add_(logits)
    assert total is not None
    return CellLogits(total / len(moves), torch.arange(points.shape[0], device=points.device))


def _spread(
    answer: CellLogits, kept: Tensor, num_points: int, return_scores: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Class, probability and scores of all points from the logits of the cells of the points that were kept."""
    best = answer.logits[:, 1:].argmax(dim=1) + 1
    probability = answer.logits.softmax(dim=1).gather(1, best[:, None]).squeeze(1)

    def at_points(of_cells: Tensor, fill: int) -> Tensor:
        out = of_cells.new_full((num_points, *of_cells.shape[1:]), fill)
        return out.index_copy_(0, kept, of_cells.index_select(0, answer.point_to_cell))

    found = [at_points(best.to(torch.uint8), UNLABELLED), at_points(probability, 0)]
    if return_scores:
        found.append(at_points(answer.logits, 0))
    class_id, of_class, *scores = _download(*found)
    return class_id, of_class, scores[0] if scores else None


def _no_answer(num_points: int, num_classes: int, return_scores: bool, seconds: Mapping[str, float]) -> Segmentation:
    return Segmentation(
        np.full(num_points, UNLABELLED, dtype=np.uint8),
        np.zeros(num_points, dtype=np.float32),
        np.zeros((num_points, num_classes), dtype=np.float32) if return_scores else None,
        seconds,
    )
