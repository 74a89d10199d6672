"""What is ready to be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prepared(Generic[Result]):
    """Call it to run it once, on what it takes."""

    run: Callable[..., Result]
    backend: str  # the implementation of the sparse convolution that it uses, or a library of its own

    def __call__(self, *inputs: object) -> Result:
        return self.run(*inputs)
