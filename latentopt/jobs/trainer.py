"""Lightning's trainer for jobs, without its notices."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from latentopt.errors import InputError, positive
from latentopt.jobs.experiment import Experiment
from latentopt.jobs.sigterm import check_sigterm, defer_sigterm

_SILENCED = (
    ".*many workers.*",
    ".*infer the batch indices.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*predict returned None.*",
    ".*across ranks is zero.*",
    ".*process group has NOT been destroyed.*",
)
_PATIENCE = timedelta(days=30)
"""How long processes that are done wait for the others; a batch may take hours."""


@dataclass(frozen=True)
class Hardware:
    """Hardware of a job: ``device`` as for `accelerator_of`, the rest as for `lightning.Trainer`."""

    device: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    num_nodes: int = 1

    def options(self) -> dict[str, Any]:
        """Arguments of `lightning.Trainer`.

        Raises:
            InputError: a device that is not there, or no number of nodes.
        """
        positive("num_nodes", self.num_nodes, integer=True)
        several = self.strategy == "auto" and (str(self.devices) not in ("1", "auto") or self.num_nodes > 1)
        ours = DDPStrategy(timeout=_PATIENCE) if several or self.strategy == "ddp" else self.strategy
        return {
            "accelerator": accelerator_of(self.device),
            "devices": self.devices,
            "strategy": ours,
            "num_nodes": self.num_nodes,
        }


def accelerator_of(device: str) -> str:
    """Lightning's name of ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        InputError: another name, or a device that is not there.
    """
    available = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device):
        raise InputError("device", f"one of {', '.join(name for name in available if available[name])}", repr(device))
    return {"cuda": "gpu"}.get(device, device)


@contextmanager
def quiet_trainer(hardware: Hardware, **options: Any) -> Iterator[lightning.Trainer]:
    """A trainer that logs nothing and says nothing but errors.

    Raises:
        InputError: Lightning does not run there; it tells why.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options |= {"logger": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        for message in _SILENCED:
            warnings.filterwarnings("ignore", message)
        try:
            trainer = lightning.Trainer(**hardware.options(), **options)
        except (MisconfigurationException, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            requested = f"devices={hardware.devices}, strategy={hardware.strategy}, num_nodes={hardware.num_nodes}"
            raise InputError("devices", "what lightning.Trainer runs on", f"{requested} ({error})") from error
        try:
            yield trainer
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error
        except BaseException:
            if trainer.strategy.launcher is not None:  # processes that would wait for this one
                trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
            raise


@contextmanager
def predictor(hardware: Hardware) -> Iterator[lightning.Trainer]:
    """A `quiet_trainer` for `predict`."""
    options = {"enable_progress_bar": False, "enable_checkpointing": False, "inference_mode": False}
    options["use_distributed_sampler"] = False  # it would repeat targets to fill the last round
    with quiet_trainer(hardware, **options) as trainer:
        yield trainer


def predict(
    trainer: lightning.Trainer, module: lightning.LightningModule, loader: DataLoader[Any], store: Experiment
) -> None:
    """Run a module's ``predict_step`` on every batch; keep the shards it returns, and its ``tracker``'s figures.

    Every process keeps its own; none returns before all are done.

    Raises:
        OSError: what a batch gave cannot be kept, or another process of the job was killed.
    """
    trainer.callbacks.append(_Writer(store))  # pyright: ignore[reportAttributeAccessIssue]
    with defer_sigterm():
        trainer.predict(module, loader, return_predictions=False)
    try:
        trainer.strategy.barrier()
    except RuntimeError as error:
        raise ChildProcessError("another process of the job is gone") from error


class _Writer(BasePredictionWriter):
    def __init__(self, store: Experiment) -> None:
        super().__init__("batch")
        self.store, self.parent = store, os.getppid()
        self.on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_predict_start(self, trainer, pl_module) -> None:
        if threading.current_thread() is threading.main_thread():  # Lightning's own handler does nothing in predict
            signal.signal(signal.SIGTERM, self.on_sigterm)

    def write_on_batch_end(self, trainer, pl_module, prediction, *args: Any, **kwargs: Any) -> None:
        if trainer.global_rank and os.getppid() != self.parent:  # another run may have this process's share by now
            raise ChildProcessError("the process that started this one is gone")
        if prediction is not None:
            pl_module.tracker.keep(self.store, prediction)
        check_sigterm()
