"""Dry runs: a job checks what it was given, and stops where it would begin to work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DRY = ContextVar("dry", default=False)


class _Checked(BaseException):
    """All that can be checked before the work is in order; no error, so that no `except Exception` stops it."""


@contextmanager
def rehearsed() -> Iterator[None]:
    """Within, a job ends at `begin`, having written nothing."""
    token = _DRY.set(True)
    try:
        yield
    except _Checked:
        pass
    finally:
        _DRY.reset(token)


def begin() -> None:
    """Where a job has checked its input and goes on to write or to work.

    >>> with rehearsed():
    ...     begin()
    ...     print("work")
    """
    if _DRY.get():
        raise _Checked
