"""The job that trains an encoder for any generator from its own samples, as the start of reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from latentopt.errors import InputError, nonnegative, seed_within
from latentopt.jobs.experiment import expanded_folder, require_writable
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import (
    Component,
    Device,
    JobPlan,
    JobSettings,
    ModelSource,
    WandbMode,
    component,
    default_wandb,
)
from latentopt.zoo.card import TRAINED_ENCODER, GeneratorCard, find, model_name, names, require_card


@dataclass(frozen=True)
class TrainEncoderSettings(JobSettings):
    """Train an encoder from measurements of a generator's own samples to their latents, as a start of `reconstruct`.

    Args:
        model: the generator: name of a shipped one; a folder with a card and weights; or in a recipe class_path,
            init_args, weights, latent_shape, output_range and start_scale.
        operator: measurement operator that the encoder is for, e.g. downsample, gaussian (compressed sensing).
        noise: standard deviation of Gaussian noise on the measurements, >= 0.
        conditions: conditions of the generator by name, one for all samples.
        epochs: number of epochs, after each of which a stopped training goes on.
        batches: batches of each epoch; each has new samples.
        batch_size: samples of a batch.
        lr: learning rate of Adam, annealed to 0 by a cosine over the training.
        image_weight: weight of the error of the measurements of the images that the predicted latents give, through the
            frozen generator; 0 for generators without gradient.
        width: channels of the first convolution.
        hidden: width of the hidden layer.
        seed: seed of every random number.
        out: file for the encoder (.safetensors); default encoder.safetensors beside the generator's card, where
            `reconstruct` finds it.
        device: auto, cpu, cuda or mps.
        log: folder to which one of the model's name is added (or name-2, ...), with metrics.jsonl, W&B's run and, until
            the training is done, a checkpoint.
        wandb: online, offline or disabled.
    """

    job: ClassVar[str] = "train-encoder"

    model: ModelSource
    operator: Component = component("operator", "identity")
    noise: float = 0.0
    conditions: dict[str, Any] | None = None
    epochs: int = 10
    batches: int = 200
    batch_size: int = 64
    lr: float = 1e-3
    image_weight: float = 1.0
    width: int = 32
    hidden: int = 512
    seed: int = 0
    out: str | None = None
    device: Device = "auto"
    log: str = "runs/train-encoder"
    wandb: WandbMode = default_wandb()


def prepare(settings: TrainEncoderSettings) -> JobPlan[TrainEncoderSettings]:
    """Check the settings of a training, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, there is no such generator, or the file exists or has no place.
    """
    log = expanded_folder("log", settings.log)
    settings.check_positive("epochs", "batches", "batch_size", "width", "hidden")
    settings.check_positive("lr", integer=False)
    nonnegative("noise", settings.noise)
    nonnegative("image_weight", settings.image_weight)
    seed_within(settings.seed, 0, 2**31)
    settings.check_choices(device=Device, wandb=WandbMode)
    settings.check_components()
    if settings.batch_size < 2:
        raise InputError("batch_size", "at least 2, which BatchNorm needs", settings.batch_size)
    require_card(settings.model, GeneratorCard)
    out = _output_file(settings)
    if out.exists():
        raise InputError("out", "a new file", f"{out}")
    require_writable(out.parent)
    require_writable(log, "log")
    return JobPlan(settings, out)


def _output_file(settings: TrainEncoderSettings) -> Path:
    """Return the path of the file to write.

    Raises:
        InputError: the path is no name of a safetensors file, or there is none and the generator has no folder.
    """
    if settings.out is not None:
        out = expanded_folder("out", settings.out)
        if out.suffix != ".safetensors":
            raise InputError("out", "a file NAME.safetensors", repr(settings.out))
        return out
    name = model_name(settings.model)
    if not isinstance(settings.model, str) or name in names() or not Path(name).is_dir():
        raise InputError("out", "a file NAME.safetensors, as the generator has no folder of yours", name)
    return find(name) / TRAINED_ENCODER


@job
def run(plan: JobPlan[TrainEncoderSettings]) -> Path:
    """Train an encoder, or go on after the last whole epoch; return its file.

    Raises:
        InputError: the operator does not fit the generator; nothing was written.
    """
    from latentopt.jobs.encoder_training import run_training

    return run_training(plan)


def train_encoder(*args: Any, **settings: Any) -> Path:
    """Train an encoder; arguments are those of `TrainEncoderSettings`."""
    return run(prepare(TrainEncoderSettings(*args, **settings)))
