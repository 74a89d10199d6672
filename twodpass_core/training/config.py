"""What a training is: every setting with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from twodpass_core.checked import Checked
from twodpass_core.choices import BackendName, Precision
from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.source import MixedSource, SourceConfig
from twodpass_core.files import UserPath
from twodpass_core.models.msfskd import DistillationConfig
from twodpass_core.models.student import StudentShape

OF_THE_SENSOR = ("intensity_field", "intensity_scale", "training_from_sensor")
"""Settings of bags that say how its LiDAR's points become those of the training data."""
ONE, SEVERAL = "(one source)", "(list of sources)"
TrainingSources = Annotated[
    Annotated[SourceConfig, Tag(ONE)] | Annotated[tuple[MixedSource, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(lambda given: SEVERAL if isinstance(given, list | tuple) else ONE),
]


class DataSettings(Checked):
    """Where frames come from and how they are put together."""

    train: TrainingSources = Field(
        default_factory=SourceConfig, description="what is learned from; a list of sources is mixed by their share"
    )
    validation: SourceConfig | None = Field(None, description="what is validated on after epochs; null: nothing")
    batch_size: PositiveInt = Field(8, description="scans per optimiser step, over all devices together")
    workers: int = Field(
        4, ge=0, description="processes that load data ahead, per device, at most one for each processor; 0: none"
    )

    @field_validator("validation", mode="before")
    @classmethod
    def _validate_on_what_is_held_out(cls, given: Any) -> Any:
        """Not, as data.train, on split `train` where nothing is said."""
        if not isinstance(given, dict) or given.get("kind") == "kitti_raw":  # which has no splits
            return given
        return {"split": "val", **given}

    @model_validator(mode="after")
    def _bags_are_read_alike(self) -> DataSettings:
        other = self.validation
        if other is None or other.kind != "bag":
            return self
        for source in self.train if isinstance(self.train, tuple) else (self.train,):
            if source.kind != "bag" or not source.bag_paths & other.bag_paths:
                continue
            ours, theirs = source.bag, other.bag
            if ours.held_out != theirs.held_out and {source.split, other.split} == {"train", "val"}:
                raise ValueError(
                    f"train and validation divide the same bags by bag.held_out {ours.held_out:g} and "
                    f"{theirs.held_out:g}, so that scans of one could be in the other: give both the same"
                )
            changed = [name for name in OF_THE_SENSOR if getattr(ours, name) != getattr(theirs, name)]
            if changed and ours.topic == theirs.topic:  # another LiDAR may differ
                raise ValueError(
                    f"train and validation read the same bags with another bag.{' and bag.'.join(changed)}, so that "
                    "one of the two is wrong: give both the same"
                )
        return self


class ImageSettings(Checked):
    """The image network, of which only training knows."""

    imagenet: Literal["download"] | UserPath | None = Field(
        None, description="ImageNet weights of ResNet-34: a file, `download` (needs torchvision), or null: random"
    )


class LossSettings(Checked):
    """The student's own loss, and class weights for every loss."""

    lovasz_weight: float = Field(1.0, ge=0, description="of Lovasz-softmax in the student's loss; 1 for cross entropy")
    point_counts: tuple[NonNegativeInt, ...] | None = Field(
        None,
        description="training points of each class, the ignored one included: classes are weighted by their inverse "
        "cube root; null: all alike",
    )


class OptimiserSettings(Checked):
    """SGD (supplement A) and its learning rate over time."""

    learning_rate: float = Field(0.24, gt=0, description="base rate for the whole batch")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(1e-4, ge=0, le=1)
    schedule: Literal["cosine", "authors_annealing"] = Field(
        "cosine", description="cosine: by step, to 0; authors_annealing: by epoch, as the authors for nuScenes"
    )
    warmup_steps: int = Field(0, ge=0, description="of a linear rise before the cosine")
    clip_norm: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: it is not clipped")
    accumulate: PositiveInt = Field(1, description="parts that a batch is computed in, in turn, to save memory")

    @model_validator(mode="after")
    def _warm_up_is_the_cosines(self) -> OptimiserSettings:
        if self.warmup_steps and self.schedule == "authors_annealing":
            raise ValueError("warmup_steps are the cosine's: set them to 0 for authors_annealing")
        return self

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> OptimiserSettings:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: set nesterov to false")
        return self


class MachineSettings(Checked):
    """What it runs on. These change how fast, not what is computed, but for rounding and for sync_batch_norm."""

    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: GPUs where there are any")
    devices: PositiveInt | Literal["auto"] = Field(
        "auto", description="per node; auto: all GPUs, or one CPU process; under torchrun and SLURM: what they start"
    )
    nodes: PositiveInt = Field(1, description="machines that share the work; under torchrun and SLURM: what they start")
    precision: Precision = Field("fp32", description="bf16, fp16: mixed precision")
    backend: BackendName = Field("auto", description="implementation of the sparse convolution; auto: what works best")
    save_memory: bool = Field(False, description="at the cost of time: more activations are computed again when needed")
    sync_batch_norm: bool = Field(False, description="the student's batch normalisation over all GPUs together")


class TrainingConfig(Checked):
    """A whole training. The defaults are the paper's for SemanticKITTI."""

    run: UserPath = Field(Path("runs/twodpass"), description="folder of this run: log, checkpoints, pictures, weights")
    seed: int = Field(0, ge=0, lt=2**32, description="of initial weights, order of frames and augmentation")
    epochs: PositiveInt = Field(64, description="passes over the training frames")
    max_steps: PositiveInt | None = Field(None, description="optimiser steps to end after, if before the last epoch")
    validate_every: PositiveInt = Field(1, description="epochs between validations")
    checkpoint_steps: PositiveInt = Field(500, description="optimiser steps between checkpoints to resume from")
    start_from: UserPath | None = Field(
        None,
        description="weights file (the student) or checkpoint of a run (all networks) to go on from; `default`: the "
        "weights that come with twodpass",
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
