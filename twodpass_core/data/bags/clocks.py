"""Whether the time stamps of a bag's sensors are of one clock, by when their messages were recorded.

A LiDAR on PTP's time, 37 s from a camera on UTC's, gets images of another place, and nothing else in the bag tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from twodpass_core.data.bags.index import TopicIndex

logger = logging.getLogger(__name__)

CLOCKS_APART_S: Final = 0.5
"""More than messages are on their way."""


def ages_s(topic: TopicIndex, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(n,) seconds from the time stamps of these messages to their recording."""
    return 1e-9 * np.asarray(topic.log_ns[positions] - topic.stamps_ns[positions], np.float64)


def warn_of_clocks(path: Path, clouds: str, later_s: Iterable[tuple[str, float]]) -> None:
    """Warn of what is recorded much later after its time stamps than the clouds, or much sooner: (name, seconds)."""
    for name, seconds in later_s:
        if abs(seconds) > CLOCKS_APART_S:
            logger.warning(
                "%s: by the times of recording, the time stamps of %s are of a clock that is %.1f s %s that of %s: "
                "scans get images or poses of another moment. Synchronise the sensors (PTP) and record anew. The scans "
                "alone (--no-cameras, in settings cameras: []) are of use all the same",
                path, name, abs(seconds), "behind" if seconds > 0 else "ahead of", clouds,
            )  # fmt: skip
