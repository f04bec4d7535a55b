"""Where the shipped models and recipes lie: in the installed package, or in the checkout it is run from."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def folder(kind: str) -> Path:
    """The folder of shipped ``models`` or ``recipes``."""
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def data_root() -> Path:
    """The folder of local data sets: the environment variable LATENTOPT_DATA, default ``../shared/data``."""
    return Path(os.environ.get("LATENTOPT_DATA", "../shared/data"))
