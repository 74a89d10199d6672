"""A device that is not there: what is on it says so, holds its numbers on the CPU, and does not mix with the CPU's.

So what a GPU would refuse, such as rows there by an index from here, is refused without a GPU.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")  # the one of torch's that any build can name and none computes on
HOST = torch.device("cpu")


class StandInDevice:
    """While it is entered, tensors can be made on DEVICE, and moved there and back."""

    def __enter__(self) -> None:
        self._modes = ExitStack()
        self._modes.enter_context(_Constructors())
        self._modes.enter_context(_Operations())  # type: ignore[no-untyped-call]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._modes.close()


class _Elsewhere(Tensor):
    """A tensor on DEVICE."""

    held: Tensor
    # Else what comes back to the CPU would be made one of these.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> _Elsewhere:
        layout: dict[str, Any] = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        with torch.inference_mode(False):  # else views of it could not be made
            made: Any = Tensor._make_wrapper_subclass(cls, held.shape, **layout, dtype=held.dtype, device=DEVICE)
        made.held = held
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(operation, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(operation, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """torch.tensor asks no mode for the numbers of what it makes on DEVICE."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor:
            return function(*args, **{**kwargs, "device": HOST}).to(kwargs.get("device"))
        return function(*args, **kwargs)


def _compute(operation: Any, args: Any, kwargs: Any) -> Any:
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = {id(tensor.held): tensor for tensor in given if isinstance(tensor, _Elsewhere)}
    here = [tensor for tensor in given if not isinstance(tensor, _Elsewhere)]
    name = operation.overloadpacket.__name__
    if there and name not in ("_to_copy", "copy_") and any(tensor.ndim for tensor in here):
        raise RuntimeError(f"{name}: tensors on {DEVICE} and on the CPU")
    goes_to = kwargs.get("device") or (DEVICE if there else HOST)
    if "device" in kwargs:
        kwargs = {**kwargs, "device": HOST}
    args, kwargs = tree_map_only(_Elsewhere, lambda tensor: tensor.held, (args, kwargs))
    result = operation(*args, **kwargs)
    if goes_to == HOST:
        return result

    def wrapped(tensor: Tensor) -> Tensor:
        """What was changed in place is the same tensor as before."""
        return there[id(tensor)] if id(tensor) in there else _Elsewhere(tensor)

    return tree_map_only(Tensor, wrapped, result)
