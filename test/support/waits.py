"""Tells, without a GPU, where the host would wait for one (sizes that depend on data, values, copies), and how much it
would have to launch there."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATIONS = (
    "_local_scalar_dense", "nonzero", "bincount", "unique", "_unique", "masked_select", "repeat_interleave", "item",
    "is_nonzero", "equal", "allclose", "lift_fresh",
)  # fmt: skip
METHODS = ("tolist", "item", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__")


class Waits:
    """Notes, while it is entered, what the host would wait for, in order; `lift_fresh` is a new tensor's upload."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> Waits:
        self._modes = ExitStack()
        self._modes.enter_context(_Methods(self.seen))  # on a CPU they need no operation
        self._modes.enter_context(_Operations(self.seen))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._modes.close()


class Launches(TorchDispatchMode):
    """Counts, while it is entered, the operations that compute or copy: on a GPU, each is a launch at least."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        if not (operation.is_view or "empty" in name):
            self.number += 1
        return operation(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        if name.startswith(OPERATIONS):
            self._seen.append(name)
        elif name in ("index", "index_put", "index_put_") and any(map(_is_mask, args[1])):
            self._seen.append(f"{name} with a mask")
        return operation(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        kwargs = kwargs or {}
        if name in METHODS:
            self._seen.append(name)
        elif name == "to" and _goes_to_host(args[1:], kwargs):
            self._seen.append("to the host")
        return function(*args, **kwargs)


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _goes_to_host(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # By name: by torch.device it may be the device that all is on.
    return "cpu" in (*args, kwargs.get("device")) and not kwargs.get("non_blocking", False)
