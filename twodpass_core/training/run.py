"""A training from its settings to a weights file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from twodpass_core.data.batch import TrainingSet
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.mixture import describe
from twodpass_core.data.opening import open_evaluation, open_training
from twodpass_core.errors import ConfigError
from twodpass_core.pretrained import weights_file
from twodpass_core.training.best_weights import BestWeights
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.data_wait import DataWait
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.images_seen import ImagesSeen
from twodpass_core.training.last_checkpoint import LastCheckpoint
from twodpass_core.training.loader import TrainingData
from twodpass_core.training.machine import is_first_process, leaving_processes, trainer_options
from twodpass_core.training.module import TrainingModule
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.training.overlap import tell_what_is_in_both
from twodpass_core.training.points_seen import PointsSeen
from twodpass_core.training.progress import TrainingProgress
from twodpass_core.training.run_log import RunLog
from twodpass_core.training.start import initialise, read_checkpoint
from twodpass_core.weights import Card

LOG_EVERY = 10  # steps between points in TensorBoard, and losses in the progress bar


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    training: FrameSource | None = None,
    validation: FrameSource | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train, validate, and leave everything in the run's folder; gives the path of the weights.

    Args:
        resume: go on where the run in the folder stopped, if it has begun.
        training, validation: frames to use in place of those that the settings name.
        callbacks: of Lightning, beside those that write the run's folder.

    Raises:
        ConfigError, ScanError, BagError, LabelError, ClassMapError, TransformError, WeightsError: settings, data or
            weights to start from that will not do; the folder is in use.
        MissingDependencyError: a package that settings or data need is not installed.
        TrainingError: the training diverged, or saw no point in the volume.
        SystemExit: a signal stopped it; the run can be resumed.
    """
    options = trainer_options(config)
    folder = RunFolder(config.run)
    with leaving_processes(), folder.held() if is_first_process() else nullcontext():
        checkpoint = folder.checkpoint_for(config, resume=resume)
        training, validation = _opened(config, training, validation)
        if checkpoint is None and is_first_process():
            tell_what_is_in_both(config.data, training, validation)
        network = _initial_network(config, training, checkpoint)
        if is_first_process():
            folder.begin(config)

        distilled = network.distillation is not None
        module = TrainingModule(network, config, make_card(config, network, training, images=distilled))
        samples = TrainingSet(training, config.augmentation, config.seed, images=distilled)
        data = TrainingData(samples, validation, config)
        log, points, best = RunLog(folder), PointsSeen(training.intensity_max), BestWeights(folder)
        images = [ImagesSeen(module.card, make_card(config, network, training, images=False))] if distilled else []
        validate_every = None if validation is None else config.validate_every
        last = LastCheckpoint(folder.last_checkpoint, config.checkpoint_steps, validate_every)
        trainer = make_trainer(config, options, folder, [log, points, *images, best, last, *callbacks])
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        # Not as hooks of its end, which a run that is resumed there does not come to.
        module.refuse_divergence()
        points.refuse_none(trainer)
        for seen in images:
            seen.choose_card(trainer, module)
        if validation is not None and module.evaluated_step != trainer.global_step:
            trainer.validate(module, data, verbose=False)
            log.add_validation(trainer)
        if best.best < 0:
            best.write(trainer, module)
        return folder.weights


def _opened(
    config: TrainingConfig, training: FrameSource | None, validation: FrameSource | None
) -> tuple[FrameSource, FrameSource | None]:
    """The frames to use, those of the settings where none are given."""
    if training is None:
        training = open_training(config.data.train, images=config.distillation.kind != "none")
    if validation is None and config.data.validation is not None:
        validation = open_evaluation(config.data.validation)
    _refuse_other_data(training, validation)
    return training, validation


def _initial_network(config: TrainingConfig, training: FrameSource, checkpoint: Path | None) -> TrainingNetwork:
    """As the settings have it begin, by the seed; what a checkpoint holds is loaded into it later."""
    seed_everything(config.seed, verbose=False)
    network = TrainingNetwork(config, training.class_map, training.grid)
    if checkpoint is None:
        initialise(network, config, training)
    else:
        read_checkpoint(checkpoint)  # what Lightning says of a damaged one is a traceback
    return network


def _refuse_other_data(training: FrameSource, validation: FrameSource | None) -> None:
    """Validation data that the student would not understand."""
    if validation is not None and validation.intensity_max != training.intensity_max:
        raise ConfigError(
            f"the intensity of data.train goes up to {training.intensity_max:g}, that of data.validation to "
            f"{validation.intensity_max:g}: bring both to one scale, as by bag.intensity_scale and bag.intensity_max"
        )
    if validation is not None and validation.class_map.names != training.class_map.names:
        raise ConfigError(
            f"data.train has the classes of {training.class_map.name}, data.validation those of "
            f"{validation.class_map.name}: validate on data with the same classes, or set data.validation to null"
        )


def make_card(config: TrainingConfig, network: TrainingNetwork, source: FrameSource, *, images: bool) -> Card:
    """The card of the weights that this training makes; `images`: whether they have a part in it."""
    method = f"2DPASS, {config.distillation.variant} variant" if images else "without a camera"
    begun = f", from {weights_file(config.start_from).name}" if config.start_from else ""
    return Card(
        architecture=network.student.config,
        grid=source.grid,
        class_map=source.class_map,
        intensity_max=source.intensity_max,
        trained=True,
        origin=f"trained on {describe(source)}, {method}{begun}, run {config.run.name}",
        licence=config.licence,
    )


def make_trainer(
    config: TrainingConfig, options: Mapping[str, Any], folder: RunFolder, callbacks: list[Callback]
) -> Trainer:
    """Lightning's Trainer for these settings, on a machine that needs these options."""
    return Trainer(
        **options,
        accumulate_grad_batches=config.optimiser.accumulate,
        max_epochs=config.epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        check_val_every_n_epoch=config.validate_every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(folder.path, "tensorboard", version=""),
        log_every_n_steps=LOG_EVERY,
        callbacks=[DataWait(), *callbacks, TrainingProgress(LOG_EVERY)],
        enable_checkpointing=False,  # of Lightning's own making
        enable_model_summary=False,
        default_root_dir=folder.path,
    )
