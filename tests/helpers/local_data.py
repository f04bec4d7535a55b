"""Data sets and weights that some tests read from LATENTOPT_DATA."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentopt.zoo.paths import data_root


def local_data(name: str) -> Path:
    """Return the path of a file or folder of LATENTOPT_DATA; skip the test without it."""
    path = data_root() / name
    if not path.exists():
        pytest.skip(f"needs {name} in LATENTOPT_DATA ({data_root()})")
    return path.resolve()
