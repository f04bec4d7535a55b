"""The lifetime of a job: what it holds, such as the lock of its folder, is released when it ends in any way."""

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
_CLEANUP: ContextVar[ExitStack | None] = ContextVar("cleanup", default=None)


def job(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a job, at whose end the calls given to `call_at_end` are made and locks released."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as cleanup:
            token = _CLEANUP.set(cleanup)
            try:
                return function(*args, **kwargs)
            finally:
                _CLEANUP.reset(token)

    return run


def call_at_end(call: Callable[[], object]) -> None:
    """Make a call when the current job ends, if there is one."""
    if cleanup := _CLEANUP.get():
        cleanup.callback(call)


def lock(folder: Path, name: str = "out") -> FileLock:
    """Keep other processes out of a folder, to the end of the job or of this process.

    Args:
        folder: an existing folder.
        name: of the argument, for the error.

    Raises:
        InputError: another process is at work in it.
    """
    file_lock = FileLock(folder / LOCK, timeout=0)
    try:
        file_lock.acquire()
    except Timeout as error:
        raise InputError(name, "a folder where no other process is at work", str(folder)) from error
    call_at_end(lambda: unlock(file_lock))
    return file_lock


def unlock(file_lock: FileLock) -> None:
    """Let other processes in."""
    with suppress(OSError):  # removed while it is held: whoever has opened it already sees that it is gone
        Path(file_lock.lock_file).unlink(missing_ok=True)
    file_lock.release()
