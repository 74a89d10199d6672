"""A small simulated world: a street from a seed, driven along with a LiDAR and a camera. Labels and poses are exact."""

from twodpass_core.simulation.camera import Picture, StreetCamera, kitti_camera
from twodpass_core.simulation.drive import STREET_SEED, Drive, SimulatedScan, simulate_scans
from twodpass_core.simulation.lidar import HDL_64E, SpinningLidar

__all__ = [
    "HDL_64E", "STREET_SEED", "Drive", "Picture", "SimulatedScan", "SpinningLidar", "StreetCamera", "kitti_camera",
    "simulate_scans",
]  # fmt: skip
