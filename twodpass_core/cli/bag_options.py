"""How bags are read, as options of several commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from twodpass_core.cli.edge import checked_settings
from twodpass_core.cli.options import Topic as Topic

if TYPE_CHECKING:
    from twodpass_core.data.bags.config import BagConfig

ClassMapOption = Annotated[
    str,
    typer.Option(
        "--class-map", metavar="NAME|YAML", help="What labels of bags mean: semantickitti, nuscenes, or a file."
    ),
]
IntensityField = Annotated[
    str | None,
    typer.Option(help="Field of a bag's clouds to read as intensity, none for zeros (found by its name unless given)."),
]
IntensityScale = Annotated[
    float, typer.Option(help="Factor from the intensity of a bag's clouds to the training data's unit.")
]
SensorTransform = Annotated[
    str,
    typer.Option(metavar="X,Y,Z,R,P,Y", help="Pose of a bag's sensor in the training frame: metres and radians."),
]


def bag_option(setting: str) -> str:
    """The option that a setting of BagConfig is on the command line."""
    return "--sensor-transform" if setting == "training_from_sensor" else f"--{setting.replace('_', '-')}"


def bag_config(**settings: Any) -> BagConfig:
    """The settings as a BagConfig, those that are None left at their defaults. Raises ConfigError for misfits."""
    from twodpass_core.data.bags.config import BagConfig

    return checked_settings(BagConfig, {name: value for name, value in settings.items() if value is not None})
