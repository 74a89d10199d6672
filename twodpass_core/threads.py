"""How torch's CPU threads share the machine with other processes."""

from __future__ import annotations

import os


def yield_when_idle() -> None:
    """Let waiting CPU threads sleep instead of spin. Call it before torch is imported; the user's own setting wins.

    OpenMP threads spin at the end of every parallel loop by default. On a machine that is busy with other work, as a
    vehicle's computer is, that multiplies the time of a scan; asleep they cost an idle machine a few per cent.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
