"""Where a training starts from other than random weights: published ones, or those of another run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from twodpass_core.data.frame import FrameSource
from twodpass_core.errors import WeightsError
from twodpass_core.models.student import StudentShape
from twodpass_core.pretrained import weights_file
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.weights import Card, check_state_dict, load_weights

logger = logging.getLogger(__name__)

STUDENT = "network.student."
LAST_LAYER = "classifier.2."
CLASSIFIER = "classifier"  # in the names of the teachers' layers that give scores


def initialise(network: TrainingNetwork, config: TrainingConfig, training: FrameSource) -> None:
    """Load what the settings name: ImageNet weights, then `start_from`.

    Raises:
        WeightsError: a file is missing, damaged, or of a network of another shape.
        MissingDependencyError: ImageNet weights are to be downloaded without torchvision.
    """
    imagenet = config.image.imagenet
    if imagenet is not None and network.image_network is not None:
        network.image_network.encoder.load_imagenet(None if imagenet == "download" else imagenet)
    if config.start_from is not None:
        start_from(weights_file(config.start_from), network, training)


def start_from(path: Path, network: TrainingNetwork, training: FrameSource) -> None:
    """Load a weights file into the student, or a run's checkpoint into all networks it has in common with `network`.

    Weights for other classes give all but the last layer, which stays random. The log says what is not loaded, and what
    is otherwise in `training` than in the data of the weights.

    Raises:
        WeightsError: the file is damaged, or of a network of another shape.
    """
    if path.suffix == ".ckpt":
        content = read_checkpoint(path)
        card, state = _card_of(content, path), content["state_dict"]
        student = {name.removeprefix(STUDENT): value for name, value in state.items() if name.startswith(STUDENT)}
    else:
        card, student = load_weights(path)
        state = {}
    _refuse_other_shape(path, card.architecture, network.student.config)
    _tell_other_data(path, card, training)
    same_classes = card.class_map.names == training.class_map.names
    if not same_classes:
        logger.warning("%s is for the classes of %s: the student's last layer starts anew", path, card.class_map.name)
        fresh = network.student.state_dict()
        student |= {name: fresh[name] for name in fresh if name.startswith(LAST_LAYER)}
    _load_student(path, network, student)
    if state:
        _load_teachers(path, network, state, same_classes=same_classes)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a run's checkpoint holds, on the CPU. Raises WeightsError for what is no whole one."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not any(name.startswith(STUDENT) for name in content["state_dict"]):
            raise UnpicklingError("it has no such student")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnpicklingError as error:
        raise WeightsError(
            f"{path}: no checkpoint of a run of `twodpass train`. Where it is one of the 2DPASS authors', convert it "
            f"first: twodpass import-weights {path} {path.with_suffix('.safetensors').name}"
        ) from error
    except Exception as error:  # torch.load raises nearly anything for a damaged file
        raise WeightsError(f"{path}: a damaged file, or no checkpoint: {str(error) or type(error).__name__}") from error
    return content


def _card_of(content: Mapping[str, Any], path: Path) -> Card:
    """Of the student in a run's checkpoint."""
    try:
        return Card.model_validate_json(content["card"])
    except (KeyError, ValidationError) as error:
        raise WeightsError(f"{path}: has no card of its student: start from the run's weights instead") from error


def _refuse_other_shape(path: Path, given: StudentShape, wanted: StudentShape) -> None:
    """Names all that differs. Other scales alone would load, and be of another network all the same."""
    keys = [key for key in StudentShape.model_fields if getattr(given, key) != getattr(wanted, key)]
    if not keys:
        return
    theirs, ours = (" and ".join(f"{key} {_words(getattr(shape, key))}" for key in keys) for shape in (given, wanted))
    settings = " and ".join(f"student.{key}" for key in keys)
    raise WeightsError(f"{path}: is of a network with {theirs}, but this training's has {ours}: change {settings}")


def _tell_other_data(path: Path, card: Card, training: FrameSource) -> None:
    """What the weights have learned of space and intensity is of little use where these are measured otherwise."""
    if card.intensity_max != training.intensity_max:
        logger.warning(
            "%s was trained on intensities up to %g, those of data.train go up to %g: bring them to the same scale, as "
            "by bag.intensity_scale and bag.intensity_max",
            path, card.intensity_max, training.intensity_max,
        )  # fmt: skip
    if card.grid != training.grid:
        logger.warning("%s was trained in the volume %s, data.train has %s", path, card.grid, training.grid)


def _words(value: int | tuple[int, ...]) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _load_student(path: Path, network: TrainingNetwork, state: Mapping[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.student.state_dict().items()}
    try:
        check_state_dict(expected, state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    network.student.load_state_dict(dict(state))


def _load_teachers(path: Path, network: TrainingNetwork, state: Mapping[str, Tensor], *, same_classes: bool) -> None:
    """What is there in the same shape, but for classifiers of other classes; the rest starts anew, and is told."""
    for name in ("image_network", "distillation"):
        teacher = getattr(network, name)
        if teacher is None:
            continue
        prefix = f"network.{name}."
        own = teacher.state_dict()
        fitting = {key: state[prefix + key] for key in own if prefix + key in state}
        fitting = {key: value for key, value in fitting.items() if value.shape == own[key].shape}
        if not same_classes:
            fitting = {key: value for key, value in fitting.items() if CLASSIFIER not in key}
        teacher.load_state_dict(fitting, strict=False)
        if fresh := sorted({key.rpartition(".")[0] for key in own.keys() - fitting.keys()}):
            logger.warning("%s: of the %s start anew: %s", path, name.replace("_", " "), ", ".join(fresh))
