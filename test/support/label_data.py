"""Labels for a small bag, and the command that handles them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cloud_bag import START_NS, cloud_message, cloud_points
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.cloud import make_cloud
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.bags.frames import BagFrames
from twodpass_core.labels.label_files import write_stamps

POINTS = 50
STAMPS = [START_NS + index * 10**8 for index in range(4)]


def frames_of(*bags: Path, **settings: Any) -> BagFrames:
    return BagFrames(bags, BagConfig(**settings), cameras=[])


def raw_labels(seed: int, count: int = POINTS) -> np.ndarray:
    """Road, cars with instances, and some unlabelled."""
    rng = np.random.default_rng(seed)
    classes = rng.choice([0, 10, 40], count).astype(np.uint32)
    classes[0] = 40
    return classes | np.where(classes == 10, rng.integers(1, 9, count), 0).astype(np.uint32) << 16


def write_sequence(folder: Path, stamps: list[int], labelled: dict[int, np.ndarray]) -> Path:
    """As much of a prepared sequence as labels need."""
    (folder / "labels").mkdir(parents=True)
    write_stamps(folder, stamps)
    for number, raw in labelled.items():
        raw.astype("<u4").tofile(folder / f"labels/{number:06d}.label")
    return folder


def labelled_cloud(index: int) -> Any:
    """As of `cloud_message`, with a field of SemanticKITTI's labels."""
    plain = cloud_message(index)
    points = dict(zip(("x", "y", "z", "intensity"), cloud_points(index).T, strict=True))
    cloud = make_cloud(points | {"label": raw_labels(index)})
    field = type(plain.fields[0])
    return replace(
        plain,
        fields=[field(entry.name, entry.offset, int(entry.datatype), entry.count) for entry in cloud.fields],
        point_step=cloud.point_step,
        row_step=cloud.row_step,
        data=cloud.data,
    )


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["labels", *map(str, arguments)])
