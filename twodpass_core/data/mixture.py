"""Several sources trained on together, each by its share: own data with old data, so that the old is not forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from twodpass_core.data.frame import Frame, FrameSource
from twodpass_core.data.labelled import UnlabelledIgnored, labelled_frames
from twodpass_core.errors import ConfigError
from twodpass_core.wording import counted


class EpochOrder(Protocol):
    """Which frames make up an epoch, none of them twice."""

    def __len__(self) -> int:
        """Frames in an epoch."""
        ...

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The frames of one epoch in their order: a function of the generator's state alone."""
        ...

    def draw_one(self, rng: np.random.Generator) -> int:
        """Any frame, as likely as it is to be in an epoch."""
        ...


class AllFrames:
    """Every frame once in an epoch."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return self.frames

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.permutation(self.frames)

    def draw_one(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.frames))


class FramesByShare:
    """As many frames of each source as its share. An epoch ends when one of the sources has been seen whole.

    Of the others each epoch has another part, drawn at random.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float]) -> None:
        """`sizes`: frames of each source, which follow one another; `shares`: of each, positive, of any sum."""
        shares_of_one = np.array(shares) / np.sum(shares)
        epoch = np.min(np.array(sizes) / shares_of_one)
        self.sizes = tuple(sizes)
        self.counts = tuple(np.rint(epoch * shares_of_one).astype(int).clip(1).tolist())

    def __len__(self) -> int:
        return sum(self.counts)

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        starts = np.cumsum([0, *self.sizes[:-1]])
        parts = zip(starts, self.sizes, self.counts, strict=True)
        chosen = [start + rng.permutation(size)[:count] for start, size, count in parts]
        return rng.permutation(np.concatenate(chosen))

    def draw_one(self, rng: np.random.Generator) -> int:
        source = int(np.searchsorted(np.cumsum(self.counts), rng.integers(len(self)), side="right"))
        return sum(self.sizes[:source]) + int(rng.integers(self.sizes[source]))


class Mixture:
    """The frames of several sources, one source after the other, as a FrameSource."""

    def __init__(self, sources: Sequence[FrameSource], shares: Sequence[float]) -> None:
        """Raises ConfigError where sources differ in classes, volume or unit of intensity, or one is empty."""
        first = sources[0]
        for position, source in enumerate(sources):
            if not len(source):
                raise ConfigError(f"source {position} of data.train has no frames")
            for what, one, other in (
                ("classes", first.class_map.names, source.class_map.names),
                ("volumes", first.grid, source.grid),
                ("full scales of intensity", first.intensity_max, source.intensity_max),
            ):
                if one != other:
                    raise ConfigError(
                        f"sources 0 and {position} of data.train cannot be mixed, their {what} differ: "
                        f"{_shorten(one)} and {_shorten(other)}"
                    )
        self.kind = " and ".join(dict.fromkeys(source.kind for source in sources))
        self.class_map, self.grid, self.intensity_max = first.class_map, first.grid, first.intensity_max
        self.sources = tuple(sources)
        self.order = FramesByShare([len(source) for source in sources], shares)

    @property
    def ids(self) -> Sequence[str]:
        """POSITION/ID: that of the source in the list, and of the frame in the source."""
        return [f"{position}/{name}" for position, source in enumerate(self.sources) for name in source.ids]

    def __len__(self) -> int:
        return sum(self.order.sizes)

    def __getitem__(self, index: int) -> Frame:
        for source in self.sources:
            if index < len(source):
                return source[index]
            index -= len(source)
        raise IndexError(f"there is no such frame: the mixture has {len(self)}")


def epoch_order(source: FrameSource) -> EpochOrder:
    """In which order a source is trained on."""
    return source.order if isinstance(source, Mixture) else AllFrames(len(source))


def describe(source: FrameSource) -> str:
    """What was trained on, for a card: "50 frames of bags (12 labelled) and 800 frames of simulated streets"."""
    if isinstance(source, Mixture):
        return " and ".join(map(describe, source.sources))
    frames = f"{counted(len(source), 'frame')} of {source.kind}"
    if isinstance(source, UnlabelledIgnored):
        return f"{frames} ({labelled_frames(source.source).sum()} labelled)"
    return frames


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
