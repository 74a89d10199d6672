"""Memory for time: activations inside a module computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts


def recompute_in_backward(module: nn.Module, method: str = "forward", keep: Sequence[Any] = ()) -> None:
    """Keep only inputs and outputs of a module's method for the backward pass, and what operators `keep` give in it.

    Names of parameters stay as they are.
    """
    setattr(module, method, partial(_recomputed, module, getattr(module, method), keep))


def _recomputed(module: nn.Module, method: Callable[..., Any], keep: Sequence[Any], *inputs: Any) -> Any:
    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        if not keep:
            return nullcontext(), _statistics_kept(module)
        keeping, taking = create_selective_checkpoint_contexts(list(keep))
        return keeping, _again(module, taking)

    return checkpoint(method, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _again(module: nn.Module, taking: AbstractContextManager[Any]) -> Iterator[None]:
    """For the second time, `taking` what was kept the first time."""
    with _statistics_kept(module), taking:
        yield


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch normalisation as in training, but its running statistics, which have seen the batch already, stay."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
