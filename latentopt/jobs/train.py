"""The training job: a LightningModule on a data module, exported as a model with its card and measured quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from latentopt.errors import InputError, seed_within
from latentopt.jobs.experiment import expanded_folder, require_writable
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import Component, Device, JobPlan, JobSettings, WandbMode, component, default_wandb
from latentopt.jobs.train_folder import check_model_folder
from latentopt.zoo.card import check_name
from latentopt.zoo.datasets import check_dataset


@dataclass(frozen=True)
class TrainSettings(JobSettings):
    """Train a model and write ``out/name/`` with its card, its weights and, if it is a generator, a sheet of samples.

    Args:
        name: name of the model.
        summary: one line for the card.
        module: LightningModule to train (`latentopt.zoo.modules`, `latentopt.zoo.classifiers`).
        data: data module to train on (`latentopt.zoo.data`).
        architecture: class path and arguments of each network of a module that is an object, by argument name.
        latent_shape: of a generator: shape of one latent.
        start_scale: of a generator: standard deviation of the latents that a search starts from.
        epochs: passes over the data.
        seed: seed of every random number.
        out: folder to which the model's own is added.
        device: auto, cpu, cuda or mps.
        log: folder to which one of the model's name is added (or name-2, ...), with metrics.jsonl, W&B's run and, until
            the training is done, a checkpoint after each epoch, from which the same command goes on.
        wandb: online, offline or disabled.
    """

    job: ClassVar[str] = "train"

    name: str
    summary: str
    module: Component = component("training_module")
    data: Component = component("training_data")
    architecture: dict[str, Any] | None = None
    latent_shape: list[int] | None = None
    start_scale: float = 1.0
    epochs: int = 20
    seed: int = 0
    out: str = "models"
    device: Device = "auto"
    log: str = "runs/train"
    wandb: WandbMode = default_wandb()

    def recipe(self) -> dict[str, Any]:
        """Return all settings as plain data, but the architecture, which the module has in a recipe."""
        return {key: value for key, value in super().recipe().items() if key != "architecture"}


def prepare(settings: TrainSettings) -> JobPlan[TrainSettings]:
    """Check the settings of a training, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, a named data set is not there, or there is a model of this name.
    """
    out = expanded_folder("out", settings.out)
    log = expanded_folder("log", settings.log)
    check_name(settings.name)
    settings.check_positive("epochs")
    settings.check_positive("start_scale", integer=False)
    seed_within(settings.seed, 0, 2**32 - 1)
    settings.check_choices(device=Device, wandb=WandbMode)
    for name in settings.kinds():
        if getattr(settings, name) is None:
            raise InputError(name, "a class path, and its arguments", "none")
    settings.check_components()
    if isinstance(settings.data, dict) and settings.data.get("class_path", "").startswith("latentopt."):
        arguments = settings.data.get("init_args") or {}
        place = arguments.get("root"), "train", arguments.get("download", False)
        try:
            check_dataset(arguments.get("dataset", "mnist"), *place)
        except InputError as error:  # of the option's name here
            expected = error.expected.replace("--download", "--data.download")
            raise InputError(error.name, expected, error.got) from error
    check_model_folder(out, settings.name)
    require_writable(log, "log")
    return JobPlan(settings, out / settings.name)


@job
def run(plan: JobPlan[TrainSettings]) -> Path:
    """Train a model, or go on after the last whole epoch; return the folder of the model.

    Raises:
        InputError: the data do not fit the module; nothing was written.
    """
    from latentopt.jobs.module_training import run_training

    return run_training(plan)


def train(*args: Any, **settings: Any) -> Path:
    """Train a model; arguments are those of `TrainSettings`."""
    return run(prepare(TrainSettings(*args, **settings)))
