"""Where the shipped models and recipes lie: in the installed package, or in the checkout it is run from."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def folder(kind: str) -> Path:
    """The folder of shipped ``models`` or ``recipes``."""
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def cache_root() -> Path:
    """The folder of what can be computed again: the environment variable LATENTOPT_CACHE, default in ~/.cache."""
    return Path(os.environ.get("LATENTOPT_CACHE") or Path.home() / ".cache" / "latentopt")


def data_root() -> Path:
    """The folder of local data sets: the environment variable LATENTOPT_DATA, default ``../shared/data``."""
    return Path(os.environ.get("LATENTOPT_DATA", "../shared/data"))
