"""Learning rates over a training: factors of the base rate, as functions of the optimiser step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from twodpass_core.training.config import OptimiserSettings

logger = logging.getLogger(__name__)

Factor = Callable[[int], float]

AUTHORS_FLOOR = 1e-5  # learning rate at the end of the authors' annealing by epoch
AUTHORS_TAIL = 4  # epochs by which it ends too early


def make_schedule(settings: OptimiserSettings, epochs: int, steps_per_epoch: int, max_steps: int | None) -> Factor:
    """That of a training's settings. Warns of a warm-up that would not come to its end."""
    steps = epochs * steps_per_epoch if max_steps is None else min(epochs * steps_per_epoch, max_steps)
    if settings.warmup_steps >= steps:
        logger.warning(
            "the learning rate is to rise over %d steps, but the training has %d: set optimiser.warmup_steps to a few",
            settings.warmup_steps, steps,
        )  # fmt: skip
    if settings.schedule == "authors_annealing":
        return authors_annealing(epochs, steps_per_epoch, settings.learning_rate)
    return cosine(max(1, steps - settings.warmup_steps), settings.warmup_steps)


def cosine(steps: int, warmup_steps: int = 0) -> Factor:
    """Half a cosine from 1 to 0 over `steps`, after a linear rise over `warmup_steps`.

    The authors warm up for 1000 // GPUs steps where they train SemanticKITTI on several, and take `steps` of the whole
    training, which therefore ends a little before the cosine does.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup_steps) / steps, 1)))

    return factor


def authors_annealing(epochs: int, steps_per_epoch: int, learning_rate: float) -> Factor:
    """The authors' schedule for nuScenes and their large network: a cosine by epoch that is at its end 4 epochs early.

    In the last 3 epochs the rate rises again.
    """
    period = max(epochs - AUTHORS_TAIL, 1)
    floor = AUTHORS_FLOOR / learning_rate

    def factor(step: int) -> float:
        epoch = step // steps_per_epoch
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * epoch / period))

    return factor
