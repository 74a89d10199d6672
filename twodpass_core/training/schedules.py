"""Learning rates over a training: factors of the base rate, as functions of the optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable

Factor = Callable[[int], float]

AUTHORS_FLOOR = 1e-5  # learning rate at the end of the authors' annealing by epoch
AUTHORS_TAIL = 4  # epochs by which it ends too early


def cosine(total_steps: int, warmup_steps: int = 0) -> Factor:
    """Half a cosine from 1 to 0 over all steps, after a linear rise over the first `warmup_steps`.

    As in the authors' SemanticKITTI training, the warm-up shifts the cosine without shortening it: they warm up for
    1000 // GPUs steps where they train on several.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup_steps) / total_steps, 1)))

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
