"""Paths: tests that never raise and never wait, as opening a pipe does, and folders that are written."""

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
def writing(name: str, folder: str | Path) -> Iterator[None]:
    """Context in which a folder, of the argument ``name``, is made and written.

    Raises:
        InputError: the system refuses it.
    """
    try:
        yield
    except OSError as error:
        raise InputError(name, "a folder that can be written", f"{folder} ({error.strerror})") from error
