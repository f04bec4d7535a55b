"""The training job: a LightningModule on a data module, exported as a model with its card and measured quality."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch

from latentopt.errors import InputError, positive, seed_within
from latentopt.io import versions
from latentopt.jobs.checkpoints import LAST, Checkpoints, epochs_done
from latentopt.jobs.components import describe
from latentopt.jobs.exports import ClassifierExport, GeneratorExport
from latentopt.jobs.lifetime import job
from latentopt.jobs.tracker import Tracker, WandbMode, check_wandb_mode
from latentopt.jobs.train_folder import opened, training_held
from latentopt.jobs.trainer import Where, quiet_trainer
from latentopt.rehearsal import begin
from latentopt.zoo import cards
from latentopt.zoo.classifiers import ClassifierTraining
from latentopt.zoo.data import ImageData
from latentopt.zoo.modules import GAN, VAE


@job
def train(
    name: str,
    summary: str,
    module: VAE | GAN | ClassifierTraining,
    data: ImageData,
    architecture: dict[str, Any],
    latent_shape: list[int] | None = None,
    start_scale: float = 1.0,
    epochs: int = 20,
    seed: int = 0,
    out: str = "models",
    device: str = "auto",
    log: str = "runs/train",
    wandb: WandbMode = "offline",
) -> Path:
    """Train a model and write ``out/name/`` with its card, its weights and, if it is a generator, a sheet of samples.

    Args:
        name: the model's name.
        summary: one line for the card.
        module: what trains (`latentopt.zoo.modules`, `latentopt.zoo.classifiers`).
        data: on what.
        architecture: of each network of the module, by argument name, its class path and arguments.
        latent_shape: of a generator: shape of one latent.
        start_scale: of a generator: standard deviation of the latents that a search starts from.
        epochs: passes over the data.
        seed: of every random number.
        out: folder to which the model's own is added.
        device: auto, cpu, cuda or mps.
        log: folder to which one of the model's name is added (or name-2, ...), with metrics.jsonl, W&B's run and, until
            the training is done, a checkpoint after each epoch, from which the same command goes on.
        wandb: online, offline or disabled.
    """
    cards.check_name(name)
    positive("epochs", epochs, integer=True)
    seed_within(seed, 0, 2**32 - 1)
    check_wandb_mode(wandb)
    where = Where(device)
    where.options()
    folder = Path(out) / name
    if folder.exists() and any(folder.iterdir()):
        raise InputError("out", "a folder without this model", f"{folder}")
    if Path(out).exists() and not Path(out).is_dir():
        raise InputError("out", "a folder", f"the file {out}")
    if isinstance(module, ClassifierTraining):
        export = ClassifierExport(module, data)
    else:
        export = GeneratorExport(module, data, latent_shape, start_scale)
    begin()
    training = _training(name, module, data) | {"epochs": epochs, "seed": seed}
    config = {"job": "train", "name": name, "architecture": architecture, **export.settings, **training}
    place = opened(Path(log), name, config | training_held(module, data))
    done = epochs_done(place / LAST)
    if done:
        print(f"latentopt: goes on after epoch {done} of {epochs}", file=sys.stderr)
    tracker = Tracker(place, wandb, {**config, "versions": versions()}, "train", kept_lines={0: done})
    checkpoints = Checkpoints(place / LAST)
    fit(module, data, epochs, seed, where, callbacks=[_Epochs(tracker), checkpoints])
    export.model.eval()
    measured = {"seconds": round(checkpoints.seconds), "threads": torch.get_num_threads()}
    card = export.card(
        name=name,
        summary=summary,
        architecture={part: architecture[argument] for part, argument in module.exported.items()},
        training={**training, **measured, "versions": versions()},
        quality=export.quality(),
        **export.settings,
    )
    partial = folder.with_name(f".{folder.name}.partial")  # a model is there when all of it is
    cards.save_model(partial, card, module.networks())
    if isinstance(export, GeneratorExport):
        export.draw(partial / "samples.png")
    partial.replace(folder)
    (place / LAST).unlink(missing_ok=True)
    _finish(tracker, card.quality, folder)
    return folder


def _training(name: str, module: lightning.LightningModule, data: ImageData) -> dict[str, Any]:
    """What a card says of the training, first of all."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    return {
        "recipe": f"latentopt train train-{name}",
        "module": kind,
        "data": describe(data)["init_args"]["dataset"],
    }


def _finish(tracker: Tracker, quality: dict[str, Any], folder: Path) -> None:
    figures = {key: value for key, value in quality.items() if key != "protocol"}
    rows = [{"figure": key, "value": value} for key, value in figures.items()]
    tracker.finish(rows, figures, sorted(folder.glob("*.png")), [folder])


class _Epochs(lightning.Callback):
    """Tracks what a module logs, once an epoch."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        seen = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.tracker.log(trainer.current_epoch, {"epoch": trainer.current_epoch + 1, **seen})
        self.tracker.flush()


def fit(
    module: lightning.LightningModule,
    data: ImageData,
    epochs: int,
    seed: int,
    where: Where,
    bar: bool = True,
    callbacks: Any = (),
) -> None:
    """Train a module on a data module; ``seed`` decides every random number from here on.

    With `Checkpoints` among the callbacks it goes on after the epoch that they have kept.
    """
    lightning.seed_everything(seed, verbose=False)
    kept = [callback.path for callback in callbacks if isinstance(callback, Checkpoints)]
    options = {"max_epochs": epochs, "enable_checkpointing": bool(kept), "enable_progress_bar": bar}
    last = next((str(path) for path in kept if epochs_done(path)), None)
    with quiet_trainer(where, callbacks=list(callbacks), **options) as trainer:
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
