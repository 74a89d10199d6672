"""Where a training starts from other than random weights: published ones, or those of another run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from twodpass_core.classes import ClassMap
from twodpass_core.errors import WeightsError
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.weights import check_state_dict, load_weights

logger = logging.getLogger(__name__)

STUDENT = "network.student."
LAST_LAYER = "classifier.2."


def start_from(path: Path, network: TrainingNetwork, class_map: ClassMap) -> None:
    """Load a weights file into the student, or a run's checkpoint into all networks it has in common with `network`.

    Weights for other classes give all but the last layer, which stays random. The log says what is not loaded.

    Raises:
        WeightsError: the file is damaged, or of a network of another shape.
    """
    if path.suffix == ".ckpt":
        state = _read_checkpoint(path)
        student = {name.removeprefix(STUDENT): value for name, value in state.items() if name.startswith(STUDENT)}
        _load_student(path, network, student)
        _load_teachers(path, network, state)
        return
    card, student = load_weights(path)
    if card.class_map.names != class_map.names:
        logger.warning("%s is for the classes of %s: the student's last layer starts anew", path, card.class_map.name)
        fresh = network.student.state_dict()
        student |= {name: fresh[name] for name in fresh if name.startswith(LAST_LAYER)}
    _load_student(path, network, student)


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch.load raises nearly anything for a damaged file
        raise WeightsError(f"{path}: cannot be read as a checkpoint of a run: {error}") from error
    return state


def _load_student(path: Path, network: TrainingNetwork, state: Mapping[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.student.state_dict().items()}
    try:
        check_state_dict(expected, state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}\nSet student.width, scales and hidden to those of the weights") from error
    network.student.load_state_dict(dict(state))


def _load_teachers(path: Path, network: TrainingNetwork, state: Mapping[str, Tensor]) -> None:
    for name in ("image_network", "distillation"):
        teacher = getattr(network, name)
        if teacher is None:
            continue
        prefix = f"network.{name}."
        loaded = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        try:
            teacher.load_state_dict(loaded)
        except RuntimeError:
            logger.warning("%s: has no %s of this shape, which starts anew", path, name.replace("_", " "))
