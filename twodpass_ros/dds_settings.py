"""Environment variables by which either DDS has room for clouds."""

from __future__ import annotations

import os
from pathlib import Path


def large_cloud_settings(config: Path) -> dict[str, str]:
    """Variable -> value, with this package's files in the folder `config`. Those of Fast DDS and of Cyclone DDS."""
    older = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")  # later distributions warn of the older name
    fast_dds = "FASTRTPS_DEFAULT_PROFILES_FILE" if older else "FASTDDS_DEFAULT_PROFILES_FILE"
    return {fast_dds: str(config / "fastdds.xml"), "CYCLONEDDS_URI": f"file://{config / 'cyclonedds.xml'}"}
