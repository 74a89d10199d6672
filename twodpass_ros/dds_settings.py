"""Environment variables by which either DDS has room for clouds, and keeps to this machine."""

from __future__ import annotations

import os
from pathlib import Path

FAST_DDS, OLDER_FAST_DDS = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
LARGE_CLOUDS, LARGE_CLOUDS_HERE = "fastdds.xml", "fastdds_localhost.xml"
"""Files for Fast DDS: for the network, too, and for this machine alone."""


def large_cloud_settings(config: Path) -> dict[str, str]:
    """Variable -> value, with this package's files in the folder `config`. Those of Fast DDS and of Cyclone DDS."""
    older = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")  # later distributions warn of the older name
    only_here = _is_humble() and os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    return {
        OLDER_FAST_DDS if older else FAST_DDS: str(config / (LARGE_CLOUDS_HERE if only_here else LARGE_CLOUDS)),
        "CYCLONEDDS_URI": f"file://{config / 'cyclonedds.xml'}",
    }


def keep_to_this_machine() -> None:
    """Sets what keeps this process, and those that it starts, apart from the nodes of other machines."""
    if not _is_humble():
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        return
    os.environ["ROS_LOCALHOST_ONLY"] = "1"  # later distributions warn of it
    profiles = Path(os.environ.get(OLDER_FAST_DDS, ""))
    if profiles.name == LARGE_CLOUDS and (only_here := profiles.with_name(LARGE_CLOUDS_HERE)).exists():
        os.environ[OLDER_FAST_DDS] = str(only_here)


def _is_humble() -> bool:
    """Where a file for Fast DDS that opens the network undoes ROS_LOCALHOST_ONLY."""
    return os.environ.get("ROS_DISTRO") == "humble"
