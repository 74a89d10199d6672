"""Loading data ahead in processes: their errors are raised where the data is used, and they end with that process."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from twodpass_core.errors import TwodpassError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What tells a training to stop."""


class Loadable(Protocol):
    """What is asked for by keys. Processes get a copy."""

    def __getitem__(self, key: Any) -> Any: ...


def load_ahead(items: Loadable, keys: Iterable[Any], processes: int, *, pin_memory: bool = False) -> DataLoader[Any]:
    """Gives items[key] for each of `keys`, in order, made by that many processes; 0: by this one, when asked for.

    They are no more than there are processors: more would only get in each other's way.
    A TwodpassError or OSError in a process is raised here as it was there, with its traceback as the cause.
    """
    processes = min(processes, _processors())
    return _Loader(
        _Guarded(items),
        batch_size=None,
        sampler=keys,
        collate_fn=_same,
        num_workers=processes,
        pin_memory=pin_memory,
        multiprocessing_context=_LoadingContext() if processes else None,
        # They take seconds to start, which is longer than an epoch of few frames.
        persistent_workers=processes > 0,
        worker_init_fn=_end_with_parent,
        # A generator of its own: torch's is left alone by loading.
        generator=torch.Generator(),
    )


class _LoadingProcess(ForkServerProcess):
    """Deaf to what stops a training, as is the server that it is forked from.

    A terminal, SLURM and systemd send such a signal to all processes, but a training ends only after the step under
    way, and needs its data until then.
    """

    def start(self) -> None:
        resource_tracker.ensure_running()  # not deaf, as it would be if the server started it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        atexit.register(self.terminate)

    def terminate(self) -> None:
        if self.is_alive():
            self.kill()


class _LoadingContext(ForkServerContext):
    """From a server: processes that are forked while threads run may hang."""

    Process = _LoadingProcess


def _processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _TracebackError(Exception):
    """In another process, as text."""


@dataclass(frozen=True)
class _Failure:
    error: Exception
    traceback: str


class _Guarded(Dataset[Any]):
    def __init__(self, items: Loadable) -> None:
        self.items = items

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.items[key]
        except (TwodpassError, OSError) as error:
            return _Failure(error, traceback.format_exc())


class _Loader(DataLoader[Any]):
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return map(_raise_failure, super().__iter__())


def _raise_failure(item: Any) -> Any:
    if isinstance(item, _Failure):
        raise item.error from _TracebackError(f"\n{item.traceback}")
    return item


def _same(item: Any) -> Any:
    return item


def _end_with_parent(process: int) -> None:
    """A process that is killed cannot tell those that load for it."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
