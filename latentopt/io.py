"""Atomic writes, checksums, and the versions that decide a result."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from latentopt.version import __version__


def versions() -> dict[str, str]:
    """Return the versions that decide the results of a run."""
    import torch

    return {
        "latentopt": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it holds the whole content or, after a crash, the former one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:  # a full disk keeps nothing of it
        partial.unlink(missing_ok=True)
        raise


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
