"""How jobs use Lightning: on one device, without its notices."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader

from latentopt.errors import InputError
from latentopt.jobs.store import Store


def accelerator_of(device: str) -> str:
    """Lightning's name of ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        InputError: another name, or a device that is not there.
    """
    there = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device):
        raise InputError("device", f"one of {', '.join(name for name in there if there[name])}", repr(device))
    return {"cuda": "gpu"}.get(device, device)


@contextmanager
def quiet_trainer(accelerator: str, **options: Any) -> Iterator[lightning.Trainer]:
    """A trainer on one device that logs nothing and says nothing but errors."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (".*many workers.*", ".*isinstance.treespec, LeafSpec.*", ".*predict returned None.*"):
            warnings.filterwarnings("ignore", message)
        trainer = lightning.Trainer(
            accelerator=accelerator, devices=1, logger=False, enable_model_summary=False, **options
        )
        try:
            yield trainer
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error


def predict(module: lightning.LightningModule, loader: DataLoader[Any], store: Store, accelerator: str) -> None:
    """Run a module's ``predict_step`` on every batch; keep the shards it returns, and its ``tracker``'s figures."""
    options = {"callbacks": [_Writer(store)], "enable_progress_bar": False, "inference_mode": False}
    with quiet_trainer(accelerator, **options) as trainer:
        trainer.predict(module, loader, return_predictions=False)


class _Writer(BasePredictionWriter):
    def __init__(self, store: Store) -> None:
        super().__init__("batch")
        self.store = store

    def write_on_batch_end(self, trainer, pl_module, prediction, *args: Any, **kwargs: Any) -> None:
        if prediction is not None:
            self.store.add(prediction)
            pl_module.tracker.flush()
