"""Paths: tests that never raise and never wait, as opening a pipe does, and a context for what is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentopt.errors import InputError


def is_file(path: str | Path) -> bool:
    """Return whether there is a regular file; False for a pipe, a device, and a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether there is a folder; False for a name that none can have."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def require_file(path: str | Path, expected: str = "a file") -> Path:
    """Return the path of a regular file.

    Raises:
        InputError: there is none, or it is a folder, a pipe or a device.
    """
    if is_file(path):
        return Path(path)
    try:
        is_there = Path(path).exists()
    except (OSError, ValueError):
        is_there = False
    got = "a folder" if is_folder(path) else "a pipe or a device" if is_there else "no file"
    raise InputError(str(path), expected, got)


@contextmanager
def writing(name: str, path: str | Path, kind: str = "a folder") -> Iterator[None]:
    """Context in which a folder, or ``a file``, of the argument ``name`` is written.

    Raises:
        InputError: the system refuses it.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:  # the latter of a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise InputError(name, f"{kind} that can be written", f"{path} ({reason})") from error
