"""SIGTERM, with which `kill`, `timeout`, a container's stop or a cluster's scheduler ends a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CODE = 128 + signal.SIGTERM
GRACE = 5.0
"""Seconds that a batch may still take: who sends SIGTERM kills a few seconds later (a container's stop after 10)."""


class Terminated(BaseException):
    """The process is to end; no error, so that no `except Exception` stops it."""


@dataclass
class _Asked:
    waits: bool = False  # a batch is under way, which may come to its end
    came: bool = False


_ASKED = _Asked()


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`: at once, or where there are batches when the one under way is kept."""
    if threading.current_thread() is not threading.main_thread():  # only that one handles signals
        yield
        return
    handlers: dict[int, Any] = {signal.SIGTERM: _term}
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = _late
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def batches() -> Iterator[None]:
    """Within, SIGTERM waits for the next call of `between`, but no longer than `GRACE`."""
    _ASKED.waits, _ASKED.came = True, False
    try:
        yield
        between()
    finally:
        _ASKED.waits = _ASKED.came = False
        if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _late:
            signal.setitimer(signal.ITIMER_REAL, 0)


def between() -> None:
    """Where a batch has been kept: raise `Terminated` if it has been asked for."""
    if _ASKED.came:
        raise Terminated


def _term(number: int, frame: Any) -> None:
    if not _ASKED.waits or _ASKED.came:
        raise Terminated
    _ASKED.came = True
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, GRACE)


def _late(number: int, frame: Any) -> None:
    raise Terminated
