"""The folder of a run: which files a training leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twodpass_core.errors import ConfigError
from twodpass_core.evaluation.report import CLASSES, SCORES
from twodpass_core.files import replacing, try_lock
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.config_file import load_config
from twodpass_core.training.config_text import dump_config
from twodpass_core.weights import RUN_WEIGHTS

FREE_TO_CHANGE = {"run", "machine", "validate_every", "checkpoint_steps"}
"""Settings that a resumed training may have otherwise: they say where and how, not what is computed."""
PLACES = {"root", "bags", "calibration", "cache", "workers"}
"""So may these of the data: where it lies now, and how many load it."""


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run's folder. Pictures and tables of the best validation are beside: see evaluation.report."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def weights(self) -> Path:
        """The student of the best validation, or of the end where nothing is validated."""
        return self.path / RUN_WEIGHTS

    @property
    def scores(self) -> Path:
        """Of the best validation, if there was one."""
        return self.path / SCORES

    @property
    def classes(self) -> Path:
        """Scores by class, beside these."""
        return self.path / CLASSES

    @property
    def checkpoints(self) -> Path:
        """best.ckpt and last.ckpt: all networks and the optimiser's state."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """Of the best validation, if there was one."""
        return self.checkpoints / "best.ckpt"

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other training can hold the folder meanwhile, which is made if missing. Raises ConfigError if one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise ConfigError(
                f"{self.path} is in use by another training: wait for its end, or choose another --set run=FOLDER"
            )
        try:
            yield
        finally:
            os.close(descriptor)
            with suppress(OSError):  # unless the training failed before it began, there is something in it
                self.path.rmdir()

    def checkpoint_for(self, config: TrainingConfig, *, resume: bool) -> Path | None:
        """The checkpoint to go on from, None where the training begins. Changes nothing.

        A folder holds a run once there is a checkpoint or a log, not after a start that failed.

        Raises:
            ConfigError: the folder holds a run already, and not `resume`; one with other settings; or one whose
                checkpoint has gone.
        """
        if not self.last_checkpoint.exists() and not self.log.exists():
            return None
        if not resume:
            raise ConfigError(f"{self.path} holds a run: --resume goes on, --set run=FOLDER chooses another")
        if not self.last_checkpoint.exists():
            raise ConfigError(f"there is no {self.last_checkpoint} to go on from: --set run=FOLDER begins another run")
        if not self.config.exists():
            raise ConfigError(f"there is no {self.config}, without which the run cannot go on: put it back")
        self._check_same(load_config(self.config), config)
        return self.last_checkpoint

    def begin(self, config: TrainingConfig) -> None:
        """Make the folder and write the settings to it."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with replacing(self.config) as path:
            path.write_text(dump_config(config), encoding="utf-8")

    def _check_same(self, before: TrainingConfig, now: TrainingConfig) -> None:
        old, new = before.model_dump(), now.model_dump()
        for settings in (old, new):
            settings["machine.sync_batch_norm"] = settings["machine"]["sync_batch_norm"]  # what else it has may change
        old |= {f"data.{name}": value for name, value in _without_places(old.pop("data")).items()}
        new |= {f"data.{name}": value for name, value in _without_places(new.pop("data")).items()}
        changed = [name for name in old if name not in FREE_TO_CHANGE and old[name] != new[name]]
        if changed:
            raise ConfigError(
                f"{self.path} was begun with other settings of {', '.join(changed)}: "
                f"resume with those in {self.config}, or begin another run from its end: --set run=FOLDER "
                f"--set start_from={self.last_checkpoint}"
            )


def _without_places(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {name: _without_places(value) for name, value in settings.items() if name not in PLACES}
    return [_without_places(value) for value in settings] if isinstance(settings, list | tuple) else settings
