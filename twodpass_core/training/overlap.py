"""Frames that a training learns from and is validated on."""

from __future__ import annotations

import logging

from twodpass_core.data.frame import FrameSource
from twodpass_core.data.mixture import Mixture
from twodpass_core.data.source import SourceConfig
from twodpass_core.training.config import DataSettings
from twodpass_core.wording import counted

logger = logging.getLogger(__name__)


def tell_what_is_in_both(settings: DataSettings, training: FrameSource, validation: FrameSource | None) -> None:
    """Warn of frames that are trained on and validated on: scores on those say little of others."""
    if validation is None or settings.validation is None:
        return
    sources = training.sources if isinstance(training, Mixture) else (training,)
    configs = settings.train if isinstance(settings.train, tuple) else (settings.train,)
    for source, config in zip(sources, configs, strict=False):
        both = set(source.ids) & set(validation.ids) if _same_place(config, settings.validation) else set()
        if both and config.split != "trainval":
            logger.warning(
                "%s of data.validation are trained on, too, %s among them: their scores say little of others. Give it "
                "another split, or bag.held_out",
                counted(len(both), "frame"), min(both),
            )  # fmt: skip


def _same_place(one: SourceConfig, other: SourceConfig) -> bool:
    if one.kind == other.kind == "bag":
        return bool(one.bag_paths & other.bag_paths)
    return one.kind == other.kind and one.root.absolute() == other.root.absolute()
