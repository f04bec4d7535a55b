"""Checkpoints of a training after each epoch, with the states of the random generators."""

from __future__ import annotations

import os
import pickle
import random
import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

LAST = "last.ckpt"


class Checkpoints(Checkpoint):
    """A callback that saves a training after each epoch but the last, so that a resumed one is exact.

    A training that was stopped between its last epoch and its end does that epoch again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.begun, self.earlier_seconds = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Duration of the training in all of its calls."""
        return self.earlier_seconds + time.perf_counter() - self.begun

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            partial = self.path.with_name(f".{self.path.name}.partial")
            trainer.save_checkpoint(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"random": random_state(), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier_seconds = state_dict["seconds"]
        set_random_state(state_dict["random"])  # now, as Lightning next draws the order of the images


def epochs_done(path: Path) -> int:
    """Return the number of epochs before a checkpoint; 0 if there is none that can be read."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
        return 0


def random_state() -> dict[str, Any]:
    """Return the states of all random generators that a training may use, as tensors and plain numbers."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - modules of users may draw from it
    keys = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
        "python": [version, list(numbers), gauss],
        "numpy": [kind, keys, int(position), int(has_gauss), float(cached)],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set all generators to a `random_state`."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    if torch.backends.mps.is_available():
        for mps_state in state["mps"]:
            torch.mps.set_rng_state(mps_state)
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
