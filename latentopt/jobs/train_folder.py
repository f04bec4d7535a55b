"""Where a training logs: a new folder, or the one where the same training was stopped."""

from __future__ import annotations

import json
import sys
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import lightning
import torch

from latentopt.errors import InputError
from latentopt.io import write_atomically
from latentopt.jobs.components import describe, digest
from latentopt.jobs.experiment import JOB, identity_of
from latentopt.jobs.lifetime import lock
from latentopt.jobs.tracker import SUMMARY
from latentopt.zoo.data import ImageData

PLACES = ("root", "download")
"""Arguments of data that say where they are, not what."""


def opened(log: Path, name: str, job: dict[str, Any]) -> Path:
    """The folder of a training, held by this process: ``log/name``, or ``name-2`` and so on.

    The last of them if the same training was stopped there, which goes on; else a new one.

    Raises:
        InputError: it cannot be written, or another process is at work in it.
    """
    named = (log / (name if at == 1 else f"{name}-{at}") for at in count(1))
    *_, last = [log, *takewhile(Path.exists, named)]
    try:
        folder = last if last != log and _goes_on(last, job) else _new(log, name)
        lock(folder)
        write_atomically(folder / JOB, json.dumps(identity_of(job), indent=1).encode())
    except OSError as error:
        raise InputError("log", "a folder that can be written", f"{log} ({error.strerror})") from error
    return folder


def _goes_on(folder: Path, job: dict[str, Any]) -> bool:
    """Whether the same training was stopped in a folder; tells what differs if it was another one."""
    if (folder / SUMMARY).exists() or not (folder / JOB).is_file():
        return False
    try:
        held, now = json.loads((folder / JOB).read_text(encoding="utf-8")), identity_of(job)
    except ValueError:
        return False
    differing = [key for key in {**held, **now} if held.get(key) != now.get(key)]
    if differing:
        said = f"{folder} holds a stopped training with other {', '.join(differing)}; this one begins anew"
        print(f"latentopt: {said}", file=sys.stderr)
    return not differing


def _new(log: Path, name: str) -> Path:
    for at in count(1):
        folder = log / (name if at == 1 else f"{name}-{at}")
        if not folder.exists():
            folder.mkdir(parents=True)
            return folder
    raise AssertionError


def training_held(module: lightning.LightningModule, data: ImageData) -> dict[str, Any]:
    """What decides how a training turns out, beside its recipe: settings of the module, first weights, the images."""
    told = describe(data)
    told["init_args"] = {key: value for key, value in told["init_args"].items() if key not in PLACES}
    first = [value for value in module.state_dict().values() if isinstance(value, torch.Tensor)]
    held = {"weights_held": digest(first), "data_held": digest(data.training())}
    return {"module": describe(module), "data": told, **held}
