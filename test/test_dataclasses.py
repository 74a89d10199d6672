"""Dataclasses that hold arrays equal themselves alone: arrays have no truth value, so a generated == would raise."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twodpass_core.geometry.rigid_transform import RigidTransform
from twodpass_core.sensor import SensorMounting

CORE = sorted((Path(__file__).resolve().parents[1] / "twodpass_core").rglob("*.py"))
ARRAYS = {"Tensor", "ndarray", "NDArray"}


def names_in(code: ast.AST) -> set[str]:
    return set(re.findall(r"\w+", ast.unparse(code)))


def dataclasses_and_aliases() -> Iterator[tuple[str, str, set[str]]]:
    """Decorators (none: an alias of a type), name, and the names in the types of fields and bases."""
    for path in CORE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.decorator_list:
                types = [*node.bases, *(entry.annotation for entry in node.body if isinstance(entry, ast.AnnAssign))]
                yield " ".join(map(ast.unparse, node.decorator_list)), node.name, set().union(*map(names_in, types))
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
                yield "", ast.unparse(node.targets[0]), names_in(node.value)


def test_dataclasses_that_hold_arrays_are_not_compared() -> None:
    found = list(dataclasses_and_aliases())
    holding, more = set[str](), ARRAYS
    while more - holding:
        holding |= more
        more = {name for _, name, types in found if types & holding}
    assert {"RigidTransform", "SensorMounting", "Floats"} <= holding
    compared = {name for how, name, _ in found if name in holding and "dataclass" in how and "eq=False" not in how}
    assert compared == set()


def test_transforms_can_be_compared_and_be_keys() -> None:
    one, other = RigidTransform.identity(), RigidTransform.identity()
    assert one == one
    assert one != other
    assert len({one, other, SensorMounting(one), SensorMounting(one)}) == 4
