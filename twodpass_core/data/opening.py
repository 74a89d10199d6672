"""Sources opened to train on, and to measure on."""

from __future__ import annotations

from collections.abc import Sequence

from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.labelled import for_evaluation, for_training
from twodpass_core.data.mixture import Mixture
from twodpass_core.data.source import MixedSource, SourceConfig, open_source
from twodpass_core.errors import ConfigError
from twodpass_core.wording import shorten


def open_training(settings: SourceConfig | Sequence[MixedSource], *, images: bool = True) -> FrameSource:
    """One source, or several mixed, to train on, with `images` to learn from or LiDAR only.

    Raises:
        ConfigError, ScanError, BagError, ClassMapError, TransformError: as `open_source` and `for_training` do; also
            where images are to be learned from, and bags have none though they are not said to be LiDAR only.
    """
    if isinstance(settings, SourceConfig):
        return _open_training(settings, images)
    sources = [_open_training(entry, images) for entry in settings]
    return Mixture(sources, [entry.share for entry in settings])


def _open_training(settings: SourceConfig, images: bool) -> FrameSource:
    source = open_source(settings if images else settings.model_copy(update={"cameras": ()}))
    if images and isinstance(source, BagFrames) and settings.cameras is None and not source.cameras:
        raise ConfigError(
            f"{', '.join(map(str, source.bags))}: has no camera, and training is to learn from images; it has "
            f"{shorten(list(source.topics))}. Set `cameras` of this source to [] to learn from its scans alone, or "
            "distillation.kind to none"
        )
    return for_training(source, settings.unlabelled)


def open_evaluation(settings: SourceConfig) -> FrameSource:
    """The labelled frames of a source, without images, to measure on."""
    return for_evaluation(open_source(settings.model_copy(update={"cameras": ()})), settings.unlabelled)
