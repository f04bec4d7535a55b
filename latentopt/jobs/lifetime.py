"""From the beginning of a job to its end: what is held meanwhile is let go of, however the job ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from latentopt.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
LOCK = ".lock"
_HELD: ContextVar[ExitStack | None] = ContextVar("held", default=None)


def job(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a job: what `at_its_end` and `lock` are told within it ends with it."""

    @wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as held:
            token = _HELD.set(held)
            try:
                return function(*args, **kwargs)
            finally:
                _HELD.reset(token)

    return whole


def at_its_end(call: Callable[[], object]) -> None:
    """Call this when the job ends that is under way, if one is."""
    if held := _HELD.get():
        held.callback(call)


def lock(folder: Path, name: str = "out") -> FileLock:
    """Keep other processes out of a job's folder, to the end of the job or of this process, however it ends.

    Args:
        folder: there already.
        name: of the argument, for the error.

    Raises:
        InputError: another one is at work in it.
    """
    held = FileLock(folder / LOCK, timeout=0)
    try:
        held.acquire()
    except Timeout as error:
        raise InputError(name, "a folder where no other process is at work", str(folder)) from error
    at_its_end(lambda: unlock(held))
    return held


def unlock(held: FileLock) -> None:
    """Let other processes in."""
    with suppress(OSError):  # while it is held: whoever has opened it already sees that it is gone
        Path(held.lock_file).unlink(missing_ok=True)
    held.release()
