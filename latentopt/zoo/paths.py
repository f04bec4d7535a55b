"""Folders of shipped models and recipes, of local data sets and of the cache."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

_PACKAGE = Path(__file__).parents[1]


def shipped_folder(kind: str) -> Path:
    """Return the folder of shipped ``models`` or ``recipes``: of the installed package, or of the checkout."""
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def cache_root() -> Path:
    """Return the folder of reusable results: the environment variable LATENTOPT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("LATENTOPT_CACHE") or user_cache_path("latentopt", appauthor=False))


def data_root() -> Path:
    """Return the folder of local data sets: the environment variable LATENTOPT_DATA, or the user's data folder."""
    return Path(os.environ.get("LATENTOPT_DATA") or user_data_path("latentopt", appauthor=False))
