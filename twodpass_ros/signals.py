"""Signals that end a node. Light to import, so that a program can heed them before all that takes time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn


def ending_signals() -> list[signal.Signals]:
    """Those that end a node: Ctrl-C, a supervisor's, and a terminal that closes, unless `nohup` has that ignored."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def end_at_once_on_signals() -> None:
    """As long as there is nothing to clean up, a signal ends the process with exit code 0."""
    for number in ending_signals():
        signal.signal(number, lambda *_: leave_at_once())


def tell_of_signals() -> threading.Event:
    """From now on a signal sets this event, and nothing else.

    An exception instead would come wherever the interpreter is, where it may be swallowed, or abort the process.
    """
    told = threading.Event()
    for number in ending_signals():
        signal.signal(number, lambda *_: told.set())
    return told


def ignore_signals() -> None:
    """For helpers, and for the very end: Python takes its handlers back before the process is over."""
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)


def leave_at_once(code: int = 0) -> NoReturn:
    """Ends the process under all that runs in it. Where Python ends while torch is at work, the process aborts."""
    with suppress(Exception):  # a signal may come in the midst of a write
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
