"""Parts of a benchmark that take minutes each, kept on disk, so that a call that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latentopt.errors import InputError
from latentopt.io import versions, write_atomically


def kept(path: Path, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the work gave, from the file where it has been done.

    Args:
        path: of the file; its folder is made.
        settings: what decides the outcome; the versions of packages are added.
        work: gives what JSON can hold.

    Raises:
        InputError: (of ``out``) what is there was done with other settings.
    """
    now = json.loads(json.dumps({**settings, "versions": versions()}, default=str))
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["settings"] != now:
            raise InputError("out", "a new folder, or one of work with these settings", str(path))
        return held["found"]
    found = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"settings": now, "found": found}).encode())
    return found
