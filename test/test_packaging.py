"""The package as it is installed: by pip without ROS, and by colcon with it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement

import twodpass_core

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "twodpass_core").rglob("*.py"))
MESSAGES = sorted((ROOT / "msg").glob("*.msg"))
PACKAGE = ElementTree.parse(ROOT / "package.xml")
ROS_PACKAGES = {element.text for element in PACKAGE.iter() if element.tag in ("depend", "exec_depend")}


def imported_modules(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)


@pytest.mark.parametrize("source", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_no_ros(source: Path) -> None:
    ros = {"rclpy", "twodpass_ros", "message_filters", "cv_bridge", "tf2_ros"} | ROS_PACKAGES
    imports = {module.split(".")[0] for module in imported_modules(source)}
    assert not {name for name in imports if name in ros or name.endswith("_msgs")}


def test_one_version() -> None:
    assert PACKAGE.findtext("version") == twodpass_core.__version__


def test_the_command_starts_what_it_says() -> None:
    commands = entry_points(group="console_scripts", name="twodpass")
    if not commands:
        pytest.skip("twodpass is not installed in this environment (pip install -e .)")
    assert all(callable(command.load()) for command in commands)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda path: path.stem)
def test_messages_are_built_and_say_what_they_mean(message: Path) -> None:
    lines = message.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "a message starts with a sentence on what it is"
    assert f"msg/{message.name}" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", sorted((ROOT / "scripts/nodes").iterdir()), ids=lambda path: path.name)
def test_ros_programs_run_in_the_active_environment(program: Path) -> None:
    assert program.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")
    assert program.stat().st_mode & 0o111 == 0o111
    assert f"scripts/nodes/{program.name}" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert find_spec(f"twodpass_ros.{program.name}") is not None


def test_imported_ros_packages_are_declared() -> None:
    nodes = [*(ROOT / "twodpass_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    imports = {module.split(".")[0] for source in nodes for module in imported_modules(source)}
    used = {name for name in imports if name.endswith("_msgs") or name in {"rclpy", "launch", "launch_ros"}}
    assert used <= ROS_PACKAGES


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that `pip install .` makes, from a copy: building leaves a folder behind."""
    pytest.importorskip("setuptools", "64")
    folder = tmp_path_factory.mktemp("wheel")
    made = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "demo_output")
    shutil.copytree(ROOT, folder / "source", ignore=made)
    build = [
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(folder / "source"),
    ]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_is_the_core_alone_with_its_data(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"twodpass_core"}
    class_maps = {
        f"twodpass_core/class_maps/{path.name}" for path in (ROOT / "twodpass_core/class_maps").glob("*.yaml")
    }
    assert class_maps
    assert class_maps <= set(names)
    settings = {f"twodpass_core/settings/{path.name}" for path in (ROOT / "config/train").glob("*.yaml")}
    assert settings
    assert settings <= set(names)
    assert {str(path.relative_to(ROOT)) for path in CORE} <= set(names)


def metadata(wheel: zipfile.ZipFile, key: str) -> list[str]:
    (content,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA"))
    marked = (line.partition(f"{key}: ") for line in content.splitlines())
    return [value for before, mark, value in marked if mark and not before]


def requirements(wheel: zipfile.ZipFile) -> list[str]:
    """Those of the extras, too."""
    return metadata(wheel, "Requires-Dist")


def test_everybody_names_the_same_pythons(wheel: zipfile.ZipFile) -> None:
    minors = [int(name.rpartition(".")[2]) for name in metadata(wheel, "Classifier") if ":: 3." in name]
    assert metadata(wheel, "Requires-Python") == [f">=3.{min(minors)}"]
    named = f"3.{min(minors)} to 3.{max(minors)}"
    for page in ("README.md", "CONTRIBUTING.md", "constraints/ci.txt"):
        assert f"Python {named}" in (ROOT / page).read_text(encoding="utf-8"), page
    assert f"twodpass needs {named}" in (ROOT / "scripts/setup.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(("python", "may_be_2"), [("3.10", False), ("3.12", False), ("3.13", True), ("3.14", True)])
def test_beside_ros_numpy_is_kept_to_1_where_ros_is_built_for_that(python: str, may_be_2: bool) -> None:
    lines = (ROOT / "constraints/ros.txt").read_text(encoding="utf-8").splitlines()
    limits = [Requirement(line) for line in lines if not line.startswith("#")]
    at_work = [limit for limit in limits if limit.marker is None or limit.marker.evaluate({"python_version": python})]
    assert all("2.3.5" in limit.specifier for limit in at_work if limit.name == "numpy") == may_be_2


def test_the_wheel_needs_no_ros_and_no_compiler(wheel: zipfile.ZipFile) -> None:
    assert wheel.filename is not None
    assert wheel.filename.endswith("-py3-none-any.whl")
    required = [requirement for requirement in requirements(wheel) if "extra ==" not in requirement]
    assert any(requirement.startswith("torch") for requirement in required)
    assert not [requirement for requirement in required if "ros-" in requirement]


def test_what_the_core_imports_at_once_is_declared(wheel: zipfile.ZipFile) -> None:
    """Not left to what others happen to bring."""
    declared = {normalised(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements(wheel)}
    statements = [node for source in CORE for node in ast.parse(source.read_text(encoding="utf-8")).body]
    modules = {alias.name for node in statements if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in statements if isinstance(node, ast.ImportFrom)}
    packages = {module.split(".")[0] for module in modules} - {"twodpass_core", "triton"}  # its kernels: where chosen
    assert {"numpy", "torch"} <= packages
    installed = packages_distributions()
    for package in packages & installed.keys():
        assert declared & set(map(normalised, installed[package])), f"{package} is imported but not declared"


def normalised(name: str) -> str:
    return name.lower().replace("_", "-")
