"""Which frames: one configuration for all sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from twodpass_core.checked import Checked
from twodpass_core.data.bags import bags_in
from twodpass_core.data.bags.config import BagConfig
from twodpass_core.data.frame import FrameSource
from twodpass_core.data.kitti_raw import KittiRaw
from twodpass_core.data.labelled import Unlabelled
from twodpass_core.data.nuscenes import NuScenes
from twodpass_core.data.semantickitti import SemanticKitti
from twodpass_core.data.simulated import SimulatedStreets, SimulationConfig
from twodpass_core.errors import ScanError
from twodpass_core.files import UserPath

KINDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "root": ("semantickitti", "nuscenes", "kitti_raw", "bag"),
    "split": ("semantickitti", "nuscenes", "bag", "simulation"),
    "sequences": ("semantickitti",),
    "bag": ("bag",),
    "simulation": ("simulation",),
}
"""The kinds of data that a setting is for, of those that are not for all."""


class SourceConfig(Checked):
    """Where frames come from."""

    kind: Literal["semantickitti", "nuscenes", "kitti_raw", "bag", "simulation"] = Field(
        "semantickitti", description="form of the data"
    )
    root: UserPath = Field(
        Path("data/semantickitti"),
        description="semantickitti: the folder with sequences/, or one sequence; nuscenes: that with v1.0-*; "
        "kitti_raw: a drive; bag: a ROS 2 bag, or a folder of them; simulation: none",
    )
    split: str = Field("train", description="train, val, trainval, test; nuscenes also mini_train, mini_val")
    sequences: tuple[str, ...] | None = Field(None, description="semantickitti: these instead of the split's")
    cameras: tuple[str, ...] | None = Field(
        None, description="these instead of the source's usual ones; []: LiDAR only; bag: image topics"
    )
    unlabelled: Unlabelled = Field(
        "refuse",
        description="frames without labels: refuse; skip; or keep, to learn from their images (evaluation skips them)",
    )
    bag: BagConfig = Field(default_factory=BagConfig, description="bag: how it is read")
    simulation: SimulationConfig = Field(default_factory=SimulationConfig, description="simulation: which streets")

    @field_validator("sequences", mode="before")
    @classmethod
    def _numbers_are_names(cls, given: Any) -> Any:
        """In YAML 00 is a number, and a shell takes the quotes off ['00']."""
        if not isinstance(given, list | tuple):
            return given
        return [f"{name:02d}" if type(name) is int else name for name in given]

    @property
    def bag_paths(self) -> frozenset[Path]:
        """bag: the bags, or folders of bags."""
        return frozenset(path.absolute() for path in self.bag.bags or (self.root,))

    @model_validator(mode="after")
    def _settings_are_of_the_kind(self) -> SourceConfig:
        """One for another kind would have no effect."""
        for name, kinds in KINDS_OF.items():
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if self.kind not in kinds and getattr(self, name) != default:
                empty = "null" if default is None else "{}" if isinstance(default, Checked) else default
                raise ValueError(
                    f"{name} is for {', '.join(kinds)}, not for {self.kind}: leave it out, or set it to {empty}"
                )
        return self


class MixedSource(SourceConfig):
    """One of several sources that are trained on together."""

    share: float = Field(1.0, gt=0, allow_inf_nan=False, description="of the frames trained on, against the others'")


def open_source(config: SourceConfig) -> FrameSource:
    """Find the frames; no points are read yet.

    Raises:
        ConfigError: unknown split or camera, or sequences chosen where root is one.
        ScanError, BagError: files are missing or damaged, or of another kind of data.
        ClassMapError: a class map that is missing or damaged.
        TransformError: a bag does not tell where a camera stands.
    """
    if config.kind != "simulation" and not config.bag.bags:
        _check_root(config.root, config.kind)
    cameras = {} if config.cameras is None else {"cameras": config.cameras}
    partly_labelled = config.unlabelled != "refuse"
    if config.kind == "semantickitti":
        return SemanticKitti(
            config.root, config.split, sequences=config.sequences, partly_labelled=partly_labelled, **cameras
        )
    if config.kind == "nuscenes":
        return NuScenes(config.root, config.split, partly_labelled=partly_labelled, **cameras)
    if config.kind == "bag":
        from twodpass_core.data.bags.frames import BagFrames  # reads by rosbags, which other sources do without

        return BagFrames(config.bag.bags or (config.root,), config.bag, config.split, **cameras)
    if config.kind == "simulation":
        return SimulatedStreets(config.split, config.simulation, **cameras)
    return KittiRaw(config.root, **cameras)


def _check_root(root: Path, kind: str) -> None:
    """Raise ScanError where root is missing or holds data of another kind, and say which setting it is."""
    if not root.exists():
        raise ScanError(
            f"{root}: does not exist: name the data's folder; in a training's settings it is the root of data.train or "
            "data.validation"
        )
    found = _kinds_in(root)
    if found and kind not in found:
        raise ScanError(
            f"{root}: holds data of kind {found[0]}, not {kind}: say so by --kind {found[0]}; in a training's settings "
            f"by kind: {found[0]} beside this root, in data.train or data.validation"
        )


def _kinds_in(root: Path) -> list[str]:
    """Which kinds of data with labels a folder or file looks like; none where that cannot be told."""
    signs = {
        "bag": bags_in(root),
        "semantickitti": (root / "sequences").is_dir() or (root / "velodyne").is_dir(),
        "nuscenes": any(root.glob("v1.0-*")),
    }
    return [kind for kind, sign in signs.items() if sign]
