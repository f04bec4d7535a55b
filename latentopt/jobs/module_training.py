"""The training of a LightningModule: fitted by Lightning, tracked epoch by epoch, exported with its card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from latentopt import components
from latentopt.components import describe, digest
from latentopt.io import versions
from latentopt.jobs.checkpoints import LAST, Checkpoints, epochs_done
from latentopt.jobs.exports import ClassifierExport, GeneratorExport
from latentopt.jobs.settings import JobPlan
from latentopt.jobs.tracker import Tracker
from latentopt.jobs.train import TrainSettings
from latentopt.jobs.train_folder import model_partial, open_log
from latentopt.jobs.trainer import Hardware, quiet_trainer
from latentopt.progress import is_progress_shown
from latentopt.zoo import cards
from latentopt.zoo.classifiers import ClassifierTraining
from latentopt.zoo.data import ImageData

DATA_PLACES = ("root", "download")
"""Arguments of data that say where they are, not what they are."""


def run_training(plan: JobPlan[TrainSettings]) -> Path:
    """Train the module of a plan; return the folder of the model."""
    hardware = Hardware(plan.settings.device)
    hardware.options()
    architecture = _architecture(plan.settings)
    settings = plan.settings.build()
    module, data = settings.module, settings.data
    if isinstance(module, ClassifierTraining):
        export = ClassifierExport(module, data)
    else:
        export = GeneratorExport(module, data, settings.latent_shape, settings.start_scale)
    training = {
        "recipe": f"latentopt train train-{settings.name}",
        "module": f"{type(module).__module__}.{type(module).__qualname__}",
        "data": Path(describe(data)["init_args"]["dataset"]).name,  # of a folder, too
        "epochs": settings.epochs,
        "seed": settings.seed,
    }
    config = {"job": "train", "name": settings.name, "architecture": architecture, **export.settings, **training}
    log = open_log(Path(settings.log), settings.name, config | _training_identity(module, data))
    done = epochs_done(log / LAST)
    if done:
        print(f"latentopt: goes on after epoch {done} of {settings.epochs}", file=sys.stderr)
    tracker = Tracker(log, settings.wandb, {**config, "versions": versions()}, "train", kept_lines={0: done})
    checkpoints = Checkpoints(log / LAST)
    fit(module, data, settings.epochs, settings.seed, hardware, callbacks=[EpochTracker(tracker), checkpoints])
    export.model.eval()
    measured = {"seconds": round(checkpoints.seconds), "threads": torch.get_num_threads()}
    card = export.card(
        name=settings.name,
        summary=settings.summary,
        architecture={part: architecture[argument] for part, argument in module.exported.items()},
        training={**training, **measured, "versions": versions()},
        quality=export.quality(),
        **export.settings,
    )
    with model_partial(plan.folder) as partial:
        cards.save_model(partial, card, module.networks())
        if isinstance(export, GeneratorExport):
            export.draw(partial / "samples.png")
    (log / LAST).unlink(missing_ok=True)
    figures = {key: value for key, value in card.quality.items() if key != "protocol"}
    rows = [{"figure": key, "value": value} for key, value in figures.items()]
    tracker.finish(rows, figures, sorted(plan.folder.glob("*.png")), [plan.folder])
    return plan.folder


def _architecture(settings: TrainSettings) -> dict[str, Any]:
    """Return the class path and arguments of each network of the module, by argument name."""
    if settings.architecture is not None:
        return settings.architecture
    return components.spell_out("module", settings.kinds()["module"], settings.module)["init_args"]


def _training_identity(module: lightning.LightningModule, data: ImageData) -> dict[str, Any]:
    """Return what decides a training beside its recipe: settings of the module, first weights, the images."""
    spec = describe(data)
    spec["init_args"] = {key: value for key, value in spec["init_args"].items() if key not in DATA_PLACES}
    weights = [value for value in module.state_dict().values() if isinstance(value, torch.Tensor)]
    checksums = {"weights_held": digest(weights), "data_held": digest(data.training())}
    return {"module": describe(module), "data": spec, **checksums}


class EpochTracker(lightning.Callback):
    """Tracks what a module logs, once an epoch."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        figures = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.tracker.log(trainer.current_epoch, {"epoch": trainer.current_epoch + 1, **figures})
        self.tracker.flush()


def fit(
    module: lightning.LightningModule,
    data: ImageData | DataLoader[Any],
    epochs: int,
    seed: int,
    hardware: Hardware,
    bar: bool = True,
    callbacks: Any = (),
) -> None:
    """Train a module on data; ``seed`` decides every random number from here on.

    With `Checkpoints` among the callbacks the training goes on after the epoch of their checkpoint.
    """
    lightning.seed_everything(seed, verbose=False)
    paths = [callback.path for callback in callbacks if isinstance(callback, Checkpoints)]
    options = {
        "max_epochs": epochs,
        "enable_checkpointing": bool(paths),
        "enable_progress_bar": bar and is_progress_shown(),
    }
    checkpoint = next((str(path) for path in paths if epochs_done(path)), None)
    with quiet_trainer(hardware, callbacks=list(callbacks), **options) as trainer:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
