"""What `twodpass render` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from twodpass_core.classes import UNLABELLED, ClassMap
from twodpass_core.cli.edge import refuse_existing
from twodpass_core.data.scans import ScanSequence
from twodpass_core.errors import ConfigError, ScanError
from twodpass_core.labels.raw import raw_ids, read_raw_labels
from twodpass_core.render import render_bird_eye
from twodpass_core.wording import counted


def render_scan(
    scans: ScanSequence, index: int, labels: Path | None, class_map: ClassMap, out: Path, *, overwrite: bool
) -> None:
    """Draw scan number `index` with the labels (raw ids) of a .label file, and say so. Raises TwodpassError."""
    if out.suffix != ".png":
        raise ConfigError(f"{out}: the name of a picture ends in .png")
    refuse_existing(out, overwrite)
    if index >= len(scans):
        raise ScanError(f"there is no scan {index}: the input has {len(scans)}, counted from 0")
    scan = scans[index]
    class_id = np.full(len(scan.points), UNLABELLED, np.uint8)
    if labels is not None:
        raw = read_raw_labels(labels, len(scan.points))
        if raw is None:
            raise ScanError(f"{labels}: does not exist")
        class_id = class_map.training_ids(raw_ids(raw))
    render_bird_eye(scan.points, class_id, class_map, out, title=scan.name)
    Console().print(f"{scan.name}, {counted(len(scan.points), 'point')}: drawn in {out}", markup=False, soft_wrap=True)
