"""Table 5 of the paper: what each part of the distillation adds, over several seeds.

Every run is a training of its own in FOLDER/ROW/seedN, measured once, at its end: no best epoch is picked.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twodpass_core.data.frame import FrameSource
from twodpass_core.errors import ConfigError
from twodpass_core.files import replacing
from twodpass_core.training.ablation_table import ROWS, AblationResult, AblationRow, RunScores
from twodpass_core.training.config import TrainingConfig
from twodpass_core.training.config_file import load_config
from twodpass_core.training.config_text import dump_config
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.run import train

SETTINGS: Final = "settings.yaml"


def ablate(
    config: TrainingConfig,
    seeds: int,
    folder: Path,
    *,
    training: FrameSource | None = None,
    validation: FrameSource | None = None,
) -> Iterator[AblationResult]:
    """Train every row with the seeds config.seed, config.seed + 1, ...; gives the result so far after each run.

    Runs that are done are not repeated, and one that was stopped goes on where it was. After every run the folder has
    the result as ablation.json and ablation.md. Each runs in this process, on one device.

    Args:
        training, validation: frames to use in place of those that the settings name.

    Raises:
        ConfigError: nothing to validate on, or the folder's runs have other settings.
        Other errors: as `train`.
    """
    if validation is None and config.data.validation is None:
        raise ConfigError("an ablation is measured on data.validation: set it")
    base = config.model_copy(update={"run": folder, "validate_every": config.epochs})
    _claim(folder, base)
    for seed in range(config.seed, config.seed + seeds):
        for row in reversed(list(ROWS)):  # the one that needs everything first: what is missing shows at once
            run = run_config(base, row, seed)
            if not RunFolder(run.run).weights.exists():
                train(run, resume=True, training=training, validation=validation)
            shutil.rmtree(RunFolder(run.run).checkpoints, ignore_errors=True)  # a resumption's, and large
            result = read_result(folder, base)
            write_result(result, folder)
            yield result


def run_config(base: TrainingConfig, row: str, seed: int) -> TrainingConfig:
    """The training of a row with a seed."""
    distillation = base.distillation.model_copy(update=dict(ROWS[row]))
    machine = base.machine.model_copy(update={"devices": 1, "nodes": 1})
    changes = {"run": base.run / row / f"seed{seed}", "seed": seed, "distillation": distillation, "machine": machine}
    return base.model_copy(update=changes)


def read_result(folder: Path, config: TrainingConfig) -> AblationResult:
    """The runs in a folder that are done."""
    rows = []
    for row in ROWS:
        done = [path for path in sorted((folder / row).glob("seed*")) if RunFolder(path).weights.exists()]
        runs = sorted((_read_scores(path) for path in done), key=lambda run: run.seed)
        rows.append(AblationRow(name=row, runs=tuple(runs)))
    return AblationResult(rows=tuple(rows), settings=config.model_dump(mode="json", exclude={"run", "machine"}))


def write_result(result: AblationResult, folder: Path) -> None:
    """Write ablation.json and ablation.md."""
    for name, text in (("ablation.json", result.model_dump_json(indent=2)), ("ablation.md", result.markdown())):
        with replacing(folder / name) as path:
            path.write_text(text + "\n", encoding="utf-8")


def _claim(folder: Path, base: TrainingConfig) -> None:
    """Note the settings in the folder, or see that they are those noted."""
    path = folder / SETTINGS
    if path.exists():
        before, now = load_config(path).model_dump(), base.model_dump()
        changed = [name for name in now if name not in ("run", "machine") and before[name] != now[name]]
        if changed:
            raise ConfigError(
                f"{folder} holds an ablation with other settings of {', '.join(changed)}: "
                f"go on with those in {path}, or choose another --out"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(dump_config(base), encoding="utf-8")


def _read_scores(run: Path) -> RunScores:
    folder = RunFolder(run)
    scores = json.loads(folder.scores.read_text(encoding="utf-8"))
    with folder.classes.open(newline="", encoding="utf-8") as file:
        iou = {entry["class"]: float(entry["iou"]) if entry["iou"] else None for entry in csv.DictReader(file)}
    return RunScores(
        seed=int(run.name.removeprefix("seed")),
        frames=scores["frames"],
        mean_iou=_score(scores["mean_iou"]),
        accuracy=_score(scores["accuracy"]),
        iou=iou,
    )


def _score(value: float | None) -> float:
    return math.nan if value is None else value  # where nothing is labelled
