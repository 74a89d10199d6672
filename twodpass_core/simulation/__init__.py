"""A small simulated world: a street from a seed, driven along with a spinning LiDAR. Labels and poses are exact."""

from twodpass_core.simulation.drive import SimulatedScan, simulate_scans
from twodpass_core.simulation.lidar import HDL_64E, SpinningLidar

__all__ = ["HDL_64E", "SimulatedScan", "SpinningLidar", "simulate_scans"]
