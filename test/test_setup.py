"""What scripts/setup.sh says when the machine lacks something, and what `make clean` leaves. Copies run elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts/setup.sh"
COMPILERS = ("c++", "g++", "clang++")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH with the system's programs, except C++ compilers."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for program in {path.name: path for system in ("/bin", "/usr/bin") for path in Path(system).iterdir()}.values():
        if not program.name.startswith(COMPILERS):
            (folder / program.name).symlink_to(program)
    return folder


def run_setup(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "scripts").mkdir(parents=True)
    script = shutil.copy(SCRIPT, folder / "scripts")
    environment = {"PATH": os.defpath, "PYTHON": sys.executable, **environment}
    return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_missing_compiler_is_named_with_its_remedy(tmp_path: Path, programs: Path) -> None:
    done = run_setup(tmp_path, PATH=str(programs))
    assert done.returncode == 1
    assert "A C++ compiler is missing" in done.stderr
    assert "sudo apt install g++" in done.stderr
    assert not (tmp_path / ".venv").exists()


def without(folder: Path, *parts: str) -> str:
    """A Python in whose installation those parts are missing: what asks for them fails."""
    python = folder / "python"
    missing = "|".join(f"*{part}*" for part in parts)
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *_base_executable*) echo {python} ;; {missing}) exit 1 ;; '
        f'*) exec {sys.executable} "$@" ;; esac\n'
    )
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("part", "told", "package"),
    [("ensurepip", "venv module is missing", "venv"), ("Python.h", "header Python.h is missing", "dev")],
)
def test_what_a_python_lacks_is_named_with_its_remedy(tmp_path: Path, part: str, told: str, package: str) -> None:
    done = run_setup(tmp_path, PYTHON=without(tmp_path, part))
    assert done.returncode == 1
    assert told in done.stderr
    major, minor = sys.version_info[:2]
    assert re.search(rf"sudo apt install .*\bpython{major}\.{minor}-{package}\b", done.stderr)
    assert not (tmp_path / ".venv").exists()


def test_all_that_is_missing_is_named_in_one_command(tmp_path: Path, programs: Path) -> None:
    done = run_setup(tmp_path, PYTHON=without(tmp_path, "ensurepip", "Python.h"), PATH=str(programs))
    assert done.returncode == 1
    assert re.search(r"sudo apt install python3\.\d+-venv python3\.\d+-dev g\+\+\n", done.stderr)


@pytest.mark.parametrize("name", ["a b", "größe", "semi;colon"])
def test_a_folder_in_which_ros_packages_cannot_be_built_is_refused(tmp_path: Path, name: str) -> None:
    done = run_setup(tmp_path / name)
    assert done.returncode == 1
    assert f"cannot be built in '{tmp_path / name}'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / name / ".venv").exists()


def test_a_missing_python_is_named_with_its_remedy(tmp_path: Path, programs: Path) -> None:
    (programs / "python3").unlink()
    done = run_setup(tmp_path, PYTHON="", PATH=str(programs))
    assert done.returncode == 1
    assert "sudo apt install python3" in done.stderr


def test_a_python_that_was_asked_for_and_is_missing_is_named(tmp_path: Path) -> None:
    done = run_setup(tmp_path, PYTHON="python3.99")
    assert done.returncode == 1
    assert "PYTHON=python3.99 was not found" in done.stderr
    assert "apt" not in done.stderr


def claiming(folder: Path, *version: int) -> str:
    """A Python that says it is of another version."""
    python = folder / "python"
    claims = f"import sys; sys.version_info, sys._base_executable = {version}, '{python}'"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{claims}; $2"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(("version", "named"), [((3, 9, 2), "3.9"), ((3, 15, 0), "3.15")])
def test_a_python_too_old_or_too_new_is_refused(tmp_path: Path, version: tuple[int, ...], named: str) -> None:
    done = run_setup(tmp_path, PYTHON=claiming(tmp_path, *version))
    assert done.returncode == 1
    assert f"is Python {named}, and twodpass needs 3.10 to 3.14" in done.stderr


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 14, 9)])
def test_the_oldest_and_the_newest_python_are_taken(tmp_path: Path, programs: Path, version: tuple[int, ...]) -> None:
    done = run_setup(tmp_path, PYTHON=claiming(tmp_path, *version), PATH=str(programs))
    assert "A C++ compiler is missing" in done.stderr  # so far it comes


def test_a_ros_of_another_python_is_refused(tmp_path: Path) -> None:
    done = run_setup(tmp_path, AMENT_PREFIX_PATH=str(tmp_path / "ros"))
    assert done.returncode == 1
    assert f"The sourced ROS 2 ({tmp_path / 'ros'}) does not work with Python" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_machine_for_which_pypi_has_no_ros_is_told_to_bring_its_own(tmp_path: Path) -> None:
    uname = tmp_path / "uname"
    uname.write_text("#!/bin/sh\necho aarch64\n")
    uname.chmod(0o755)
    done = run_setup(tmp_path, PATH=f"{tmp_path}:{os.defpath}")
    assert done.returncode == 1
    assert "this is aarch64: install ROS 2, source its setup.bash" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_clean_removes_what_was_made_and_leaves_what_is_the_users(tmp_path: Path) -> None:
    sources = [f"{folder}/source.py" for folder in ("launch", "scripts", "test", "twodpass_core", "twodpass_ros")]
    kept = {*sources, "runs/a/weights.safetensors", "data/scan.bin", "Makefile"}
    made = {".venv/bin/python", "build/lib/a.py", "dist/a.whl", "twodpass.egg-info/PKG-INFO", ".pytest_cache/a"}
    made |= {"test/ros/__pycache__/a.pyc", "twodpass_core/models/__pycache__/a.pyc", "demo_output/street.png"}
    for name in kept | made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert not list(tmp_path.rglob("__pycache__"))
