"""What a training is: every setting with its default, read from YAML and overrides, unknown keys refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.bags import bags_in
from twodpass_core.data.source import MixedSource, SourceConfig
from twodpass_core.errors import ConfigError
from twodpass_core.models.msfskd import DistillationConfig
from twodpass_core.models.student import StudentShape
from twodpass_core.sparse.backend import BackendName
from twodpass_core.training.shipped import settings_file, shipped_settings
from twodpass_core.weights import describe_problems


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ONE, SEVERAL = "(one source)", "(list of sources)"
TrainingSources = Annotated[
    Annotated[SourceConfig, Tag(ONE)] | Annotated[tuple[MixedSource, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(lambda given: SEVERAL if isinstance(given, list | tuple) else ONE),
]


class DataSettings(Section):
    """Where frames come from and how they are put together."""

    train: TrainingSources = Field(
        default_factory=SourceConfig, description="what is learned from; a list of sources is mixed by their share"
    )
    validation: SourceConfig | None = Field(None, description="what is validated on after epochs; null: nothing")
    batch_size: PositiveInt = Field(8, description="scans per optimiser step, over all devices together")
    workers: int = Field(
        4, ge=0, description="processes that load data ahead, per device, at most one for each processor; 0: none"
    )


class ImageSettings(Section):
    """The image network, of which only training knows."""

    imagenet: Path | Literal["download"] | None = Field(
        None, description="ImageNet weights of ResNet-34: a file, `download` (needs torchvision), or null: random"
    )


class LossSettings(Section):
    """The student's own loss, and class weights for every loss."""

    lovasz_weight: float = Field(1.0, ge=0, description="of Lovasz-softmax in the student's loss; 1 for cross entropy")
    point_counts: tuple[NonNegativeInt, ...] | None = Field(
        None,
        description="training points of each class, the ignored one included: it weighs by their inverse cube root; "
        "null: all alike",
    )


class OptimiserSettings(Section):
    """SGD (supplement A) and its learning rate over time."""

    learning_rate: float = Field(0.24, gt=0, description="base rate for the whole batch")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["cosine", "authors_annealing"] = Field(
        "cosine", description="cosine: by step, to 0; authors_annealing: by epoch, as the authors for nuScenes"
    )
    warmup_steps: int = Field(0, ge=0, description="of a linear rise before the cosine")
    clip_norm: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: any")
    accumulate: PositiveInt = Field(1, description="parts that a batch is computed in, in turn, to save memory")

    @model_validator(mode="after")
    def _warm_up_is_the_cosines(self) -> OptimiserSettings:
        if self.warmup_steps and self.schedule == "authors_annealing":
            raise ValueError("warmup_steps are the cosine's: set them to 0 for authors_annealing")
        return self


class MachineSettings(Section):
    """What it runs on. These change how fast, not what is computed, but for rounding."""

    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: GPUs where there are any")
    devices: PositiveInt | Literal["auto"] = Field(
        "auto", description="per node; auto: all GPUs, or one CPU process; under torchrun and SLURM: what they start"
    )
    nodes: PositiveInt = Field(1, description="machines; under torchrun and SLURM: what they start")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="bf16, fp16: mixed precision")
    backend: BackendName = Field("auto", description="implementation of the sparse convolution; auto: what works best")
    save_memory: bool = Field(False, description="at the cost of time: activations are computed again when needed")
    sync_batch_norm: bool = Field(False, description="batch normalisation over all GPUs together")


class TrainingConfig(Section):
    """A whole training. The defaults are the paper's for SemanticKITTI."""

    run: Path = Field(Path("runs/twodpass"), description="folder of this run: log, checkpoints, pictures, weights")
    seed: int = Field(0, ge=0, description="of initial weights, order of frames and augmentation")
    epochs: PositiveInt = Field(64, description="times that the frames are gone through")
    max_steps: PositiveInt | None = Field(None, description="optimiser steps to end after, if before the last epoch")
    validate_every: PositiveInt = Field(1, description="epochs between validations")
    checkpoint_steps: PositiveInt = Field(500, description="optimiser steps between checkpoints to resume from")
    start_from: Path | None = Field(
        None, description="weights file (the student) or checkpoint of a run (all networks) to go on from"
    )
    licence: str = Field("unstated", description="of the weights, for their card: mind the data's licence")
    data: DataSettings = Field(default_factory=DataSettings)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    student: StudentShape = Field(
        default_factory=StudentShape, description="shape of the LiDAR network; classes and volume are the data's"
    )
    image: ImageSettings = Field(default_factory=ImageSettings)
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    loss: LossSettings = Field(default_factory=LossSettings)
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)
    machine: MachineSettings = Field(default_factory=MachineSettings)

    @model_validator(mode="after")
    def _annealing_is_by_epoch(self) -> TrainingConfig:
        if self.max_steps is not None and self.optimiser.schedule == "authors_annealing":
            raise ValueError("max_steps would cut authors_annealing short, which goes by epochs: set epochs instead")
        return self


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainingConfig:
    """The settings of a YAML file (none: the defaults) with overrides like "optimiser.learning_rate=0.1" on top.

    `path` may be the name of a shipped file: see `shipped_settings`.

    Raises:
        ConfigError: no such file, not YAML, a key is unknown (the nearest known one is named), a value does not fit.
    """
    path = None if path is None else settings_file(path)
    settings = {} if path is None else _read_yaml(path)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override}: must be KEY=VALUE, as in optimiser.learning_rate=0.1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML: {error}") from error
        _put(settings, key.strip(), value)
    origin = str(path) if path else "settings"
    _refuse_unknown(settings, origin)
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        problems = describe_problems(error).replace(f".{ONE}", "").replace(f".{SEVERAL}", "")
        raise ConfigError(f"{origin}: {problems}") from error


def known_keys(model: type[BaseModel] = TrainingConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings and groups of them."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _sections(field.annotation):
            yield from known_keys(section, f"{prefix}{name}.")


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type such as `SourceConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections(part)]


def _read_yaml(path: Path) -> dict[str, Any]:
    if bags_in(path):
        raise ConfigError(
            f"{path}: holds data, not settings: give config/train/finetune.yaml --set data.train.0.root={path}, or "
            f"others --set data.train.kind=bag --set data.train.root={path}"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: no such configuration ({error.strerror}); with twodpass come {', '.join(shipped_settings())}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(content, dict | None):
        raise ConfigError(f"{path}: must hold keys and values, as `twodpass train --print-config` shows")
    return content or {}


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set what a dotted key names, making groups that are not there; numbers in it are entries of lists."""
    *groups, last = key.split(".")
    place: Any = settings
    for depth, name in enumerate(groups):
        place = _inside(place, name, ".".join(groups[:depth]), key)
    if not isinstance(place, dict):
        raise ConfigError(f"--set {key}: {_refusal(place, '.'.join(groups))}")
    place[last] = value


def _inside(place: Any, name: str, path: str, key: str) -> Any:
    """What `path` has under a name."""
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return place[int(name)]
    if not isinstance(place, dict):
        raise ConfigError(f"--set {key}: {_refusal(place, path)}")
    if place.get(name) is None:
        place[name] = {}
    return place[name]


def _refusal(place: Any, path: str) -> str:
    if isinstance(place, list):
        return f"{path} is a list of {len(place)}: set a key of one of them, as in {path}.0.root"
    return f"{path} is {place} and has no settings of its own"


def _refuse_unknown(settings: Mapping[str, Any], origin: str) -> None:
    known = sorted(set(known_keys()))
    for key in _keys(settings, set(known)):
        if key not in known:
            # The nearest by its last part first: a key in the wrong group is as likely as a slip of the pen.
            by_name = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
            near = by_name or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f": did you mean {near[0]}?" if near else ": see `twodpass train --print-config`"
            raise ConfigError(f"{origin}: unknown key {key}{hint}")


def _keys(settings: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        key = f"{prefix}{name}"
        yield key
        if any(other.startswith(f"{key}.") for other in known):
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, dict):
                    yield from _keys(entry, known, f"{key}.")
