"""The errors twodpass raises. Each says what is wrong and what to do; the edges (command line, nodes) log it once."""

from __future__ import annotations


class TwodpassError(Exception):
    """Base class of everything twodpass raises on purpose."""


class CloudError(TwodpassError):
    """A PointCloud2 message that cannot be decoded: the message names the field and the reason."""


class ScanError(TwodpassError):
    """A scan file or folder that cannot be read."""


class BagError(TwodpassError):
    """A ROS bag that cannot be read, or that lacks what was asked of it."""


class NoCloudsError(BagError):
    """A ROS bag without a single point cloud."""


class RecordingError(TwodpassError):
    """A recording that cannot begin or go on; what was written stays readable."""


class DiskFullError(RecordingError):
    """The disk has no room for a recording, or less than was to stay free."""


class ImageError(TwodpassError):
    """An image message that cannot be decoded."""


class LabelError(TwodpassError):
    """Labels that do not fit their scan, or that cannot be read."""


class ClassMapError(TwodpassError):
    """A class map that is inconsistent, or labels it does not know."""


class WeightsError(TwodpassError):
    """A weights file that is damaged, unsafe, or does not fit the network."""


class ConfigError(TwodpassError):
    """A setting that is unknown or out of range."""


class TransformError(TwodpassError):
    """A transform between frames that is not known, or not at the time asked for: the message lists the frames."""


class TransformTimeError(TransformError):
    """A moving transform that is not known at the time asked for."""


class TrainingError(TwodpassError):
    """A training that cannot go on."""


class BenchmarkError(TwodpassError):
    """A measurement that cannot be made."""


class MissingDependencyError(TwodpassError):
    """An optional package is absent."""

    def __init__(self, package: str, purpose: str, install: str) -> None:
        super().__init__(package, purpose, install)  # what it is made of again, in another process
        self.package, self.purpose, self.install = package, purpose, install

    def __str__(self) -> str:
        return f"{self.purpose} needs {self.package}, which is not installed: {self.install}"
