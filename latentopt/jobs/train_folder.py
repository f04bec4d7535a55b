"""Folders of a training: the log, new or that of the same training stopped before, and the model's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from latentopt.errors import InputError
from latentopt.files import writing
from latentopt.io import write_atomically
from latentopt.jobs.experiment import JOB, identity_of, require_writable
from latentopt.jobs.lifetime import lock
from latentopt.jobs.records import SUMMARY


def check_model_folder(out: Path, name: str) -> None:
    """Raise `InputError` where a model of this name is already, or cannot be."""
    folder = out / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("out", "a folder without this model", f"{folder}")
    require_writable(out)


@contextmanager
def model_partial(folder: Path) -> Iterator[Path]:
    """Yield a folder to write a model to, which becomes the model's own when all of it is there."""
    partial = folder.with_name(f".{folder.name}.partial")
    yield partial
    partial.replace(folder)


def open_log(log: Path, name: str, job: dict[str, Any]) -> Path:
    """Return and lock the log folder of a training: ``log/name``, or ``name-2`` and so on.

    It is the last of them if the same training was stopped there, which goes on; else a new one.

    Args:
        log: folder of logs.
        name: name of the model.
        job: what decides how the training turns out.

    Raises:
        InputError: the folder cannot be written, or another process is at work in it.
    """
    folders = (log / (name if number == 1 else f"{name}-{number}") for number in count(1))
    existing = list(takewhile(Path.exists, folders))
    with writing("log", log):
        if existing and _is_resumable(existing[-1], job):
            folder = existing[-1]
        else:
            folder = log / (f"{name}-{len(existing) + 1}" if existing else name)
            folder.mkdir(parents=True)
        lock(folder)
        write_atomically(folder / JOB, json.dumps(identity_of(job), indent=1).encode())
    return folder


def _is_resumable(folder: Path, job: dict[str, Any]) -> bool:
    """Return whether the same training was stopped in a folder; print what differs if it was another one."""
    if (folder / SUMMARY).exists() or not (folder / JOB).is_file():
        return False
    try:
        stored, now = json.loads((folder / JOB).read_text(encoding="utf-8")), identity_of(job)
    except ValueError:
        return False
    differing = [key for key in {**stored, **now} if stored.get(key) != now.get(key)]
    if differing:
        message = f"{folder} holds a stopped training with other {', '.join(differing)}; this one begins anew"
        print(f"latentopt: {message}", file=sys.stderr)
    return not differing
