"""Weights files: one .safetensors file with the tensors and, in its metadata, a card that says what they are.

The card is all that is needed to run the network: architecture, grid, classes, unit of intensity. Files are written
whole or not at all, and nothing in them can run code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, Protocol

import safetensors
import safetensors.torch
import torch
from pydantic import AwareDatetime, Field, ValidationError, model_validator

from twodpass_core.checked import Checked, describe_problems
from twodpass_core.classes import ClassMap
from twodpass_core.errors import WeightsError
from twodpass_core.files import replacing
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.sparse.grid import VoxelGrid

CARD_KEY = "twodpass_card"
UNTRAINED = "UNTRAINED: random weights, the labels mean nothing"  # what every output says of such weights
LISTED_DIFFERENCES = 20
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
RUN_WEIGHTS = "weights.safetensors"  # in the folder of a training


class Card(Checked):
    """What a set of weights is, where it comes from and what it was trained to read."""

    format_version: Literal[1] = 1
    architecture: StudentConfig
    grid: VoxelGrid
    class_map: ClassMap
    intensity_max: float = Field(gt=0)
    """Full scale of intensity in the training data: 1 for KITTI, 255 for nuScenes. Only the edges convert."""
    trained: bool
    """False: every output says `UNTRAINED`."""
    origin: str
    licence: str
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(timezone.utc).replace(microsecond=0))

    @model_validator(mode="after")
    def _one_output_for_each_class(self) -> Card:
        if self.architecture.num_classes != self.class_map.num_classes:
            raise ValueError(
                f"the network has {self.architecture.num_classes} classes, "
                f"class map {self.class_map.name} has {self.class_map.num_classes}"
            )
        return self


class Shaped(Protocol):
    """A tensor, or what stands for one before it is loaded."""

    @property
    def shape(self) -> Sequence[int]: ...


def expected_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the network's state dict. Allocates none of them."""
    with torch.device("meta"):
        student = PointVoxelStudent(card.architecture, card.grid)
    return {name: tuple(tensor.shape) for name, tensor in student.state_dict().items()}


def check_state_dict(expected: Mapping[str, Sequence[int]], tensors: Mapping[str, Shaped]) -> None:
    """Raise WeightsError with the list of missing, unexpected and wrongly shaped tensors, if there are any."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differences = [f"missing: {name} {tuple(expected[name])}" for name in expected if name not in shapes]
    differences += [f"unexpected: {name} {shape}" for name, shape in shapes.items() if name not in expected]
    differences += [
        f"wrong shape: {name} is {shape}, must be {tuple(expected[name])}"
        for name, shape in shapes.items()
        if name in expected and shape != tuple(expected[name])
    ]
    if differences:
        more = len(differences) - LISTED_DIFFERENCES
        lines = differences[:LISTED_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
        raise WeightsError("the tensors do not fit the network:\n  " + "\n  ".join(lines))


def save_weights(path: Path, state_dict: Mapping[str, torch.Tensor], card: Card) -> None:
    """Write a weights file, replacing one that is there. Raises WeightsError, and then leaves `path` as it was."""
    try:
        check_state_dict(expected_shapes(card), state_dict)
        _check_values(state_dict)
    except WeightsError as error:
        raise WeightsError(f"{path}: not written: {error}") from error
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    try:
        with replacing(path) as partial:
            # Not save_file, whose files nobody but their owner may read.
            partial.write_bytes(safetensors.torch.save(tensors, {CARD_KEY: card.model_dump_json()}))
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


def load_weights(path: Path) -> tuple[Card, dict[str, torch.Tensor]]:
    """The card and the state dict (CPU) of a weights file. Raises WeightsError unless both are whole and fit."""
    card = read_card(path)
    try:
        tensors = safetensors.torch.load_file(path)
        check_state_dict(expected_shapes(card), tensors)
        _check_values(tensors)
    except (OSError, safetensors.SafetensorError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error
    return card, tensors


def read_card(path: Path) -> Card:
    """The card of a weights file, without its tensors. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except IsADirectoryError as error:
        of_run = f": the weights of its training are in {inner}" if (inner := path / RUN_WEIGHTS).exists() else ""
        raise WeightsError(f"{path}: is a folder{of_run}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        if _begins_a_checkpoint(head):
            raise WeightsError(f"{path}: a PyTorch checkpoint. {_instead_of_checkpoint(path)}") from error
        raise WeightsError(f"{path}: not a safetensors file, or a damaged one: {error}") from error
    if CARD_KEY not in metadata:
        raise WeightsError(
            f"{path}: has no twodpass card, so its network and classes are unknown. "
            "Use a file written by twodpass, or by `twodpass import-weights`"
        )
    try:
        return Card.model_validate_json(metadata[CARD_KEY])
    except ValidationError as error:
        raise WeightsError(f"{path}: its card is not valid: {describe_problems(error)}") from error


def _begins_a_checkpoint(head: bytes) -> bool:
    """Whether a file with these 8 bytes in front is one of torch's: a zip archive, or a pickle, which begins with 0x80.

    So do some weights files, but those begin with the length of their header.
    """
    is_pickle = head[:1] == b"\x80" and int.from_bytes(head, "little") > MAX_HEADER_BYTES
    return head[:4] == b"PK\x03\x04" or is_pickle


def _instead_of_checkpoint(path: Path) -> str:
    """What to give in its place. A training's lie in RUN/checkpoints."""
    run = path.absolute().parent.parent
    if path.absolute().parent.name != "checkpoints" or not (run / "config.yaml").exists():
        return (
            "Where it is one of the 2DPASS authors', convert it first: "
            f"twodpass import-weights {path} {path.with_suffix('.safetensors').name}"
        )
    weights = run / RUN_WEIGHTS
    when = "" if weights.exists() else ", once it has been validated or has ended"
    return f"The weights of its training are in {weights}{when}"


def _check_values(tensors: Mapping[str, torch.Tensor]) -> None:
    """The network is float32 with int64 counters; a weight that is not finite makes every label wrong."""
    for name, tensor in tensors.items():
        wanted = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        if tensor.dtype != wanted:
            raise WeightsError(f"tensor {name} is {tensor.dtype}, must be {wanted}")
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"tensor {name} has values that are not finite: the training diverged")
