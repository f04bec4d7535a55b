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
"""Seconds that a batch may still take. Whoever sends SIGTERM kills a few seconds later (a container's stop: 10)."""


class Terminated(BaseException):
    """End of the process by SIGTERM; no `Exception`, so that no handler of errors stops it."""


@dataclass
class _TerminationState:
    is_deferred: bool = False  # a batch is under way and may finish
    is_requested: bool = False


_STATE = _TerminationState()


@contextmanager
def handle_sigterm() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM: at once, or within `defer_sigterm` when the current batch is kept."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    handlers: dict[int, Any] = {signal.SIGTERM: _on_sigterm}
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = _on_alarm
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def defer_sigterm() -> Iterator[None]:
    """Defer SIGTERM to the next call of `check_sigterm`, but no longer than `GRACE`."""
    _STATE.is_deferred, _STATE.is_requested = True, False
    try:
        yield
        check_sigterm()
    finally:
        _STATE.is_deferred = _STATE.is_requested = False
        if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _on_alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)


def check_sigterm() -> None:
    """Raise `Terminated` if SIGTERM came; to be called when a batch has been kept."""
    if _STATE.is_requested:
        raise Terminated


def _on_sigterm(number: int, frame: Any) -> None:
    if not _STATE.is_deferred or _STATE.is_requested:
        raise Terminated
    _STATE.is_requested = True
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, GRACE)


def _on_alarm(number: int, frame: Any) -> None:
    raise Terminated
