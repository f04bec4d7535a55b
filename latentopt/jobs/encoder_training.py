"""The training of an encoder on a generator's own samples."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from latentopt.errors import InputError
from latentopt.inverse.initializers.trained_encoder import ConvEncoder, TrainedEncoder, take_probe
from latentopt.inverse.problem import measurement_shapes
from latentopt.io import versions
from latentopt.jobs.checkpoints import LAST, Checkpoints, epochs_done
from latentopt.jobs.identity import describe_card, describe_model, digest_tensors
from latentopt.jobs.module_training import EpochTracker, fit
from latentopt.jobs.settings import JobPlan
from latentopt.jobs.tracker import Tracker
from latentopt.jobs.train_encoder import TrainEncoderSettings
from latentopt.jobs.train_folder import open_log
from latentopt.jobs.trainer import Hardware
from latentopt.networks.conditions import as_conditions
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.networks.generator_checks import finite_images
from latentopt.zoo import cards
from latentopt.zoo.modules import annealed_adam

SEED = 2_000_003
"""Added to the seed and the step; samples differ from those of pools and of targets."""
MEASURED = 256
"""Number of new samples for the quality."""
UNCHANGED = ("out", "log", "wandb", "device")
"""Settings that do not decide how an encoder turns out."""
Operator = Callable[[Tensor], Tensor]


class EncoderTraining(lightning.LightningModule):
    """Training of an encoder: the error of standardised latents, and of the measurements of their images.

    Args:
        network: the encoder.
        generator: draws the samples, and stays as it is.
        operator: measures images.
        settings: ``batch_size``, ``lr``, ``image_weight``, ``noise`` and ``seed``.
    """

    def __init__(
        self, network: ConvEncoder, generator: Generator, operator: Operator, settings: TrainEncoderSettings
    ) -> None:
        super().__init__()
        self.network, self.operator, self.settings = network, operator, settings
        self.fixed = [generator]  # in a list, so that it is no part of this module
        latents = generator.distribution
        self.mean, self.scale = latents.mean.float(), latents.scale.float()

    def on_fit_start(self) -> None:
        self.fixed = [generator.to(self.device) for generator in self.fixed]
        self.mean, self.scale = self.mean.to(self.device), self.scale.to(self.device)
        measurement = self.samples(0)[1]
        self.network.mean.copy_(measurement.mean())
        self.network.scale.copy_(measurement.std().clamp_min(1e-6))

    @torch.no_grad()
    def samples(self, number: int, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the latents (B, *latent_shape) of the batch of a number, and their measurements (B, ...)."""
        (generator,), s = self.fixed, self.settings
        z = generator.latents(count or s.batch_size, s.seed + SEED + number)
        z, images = finite_images(generator, z)
        measurement = self.operator(images).float()
        if s.noise:
            source = torch.Generator("cpu").manual_seed(s.seed + SEED + number)
            noise = torch.randn(measurement.shape, generator=source, device="cpu")
            measurement = measurement + s.noise * noise.to(measurement)
        return z, measurement

    def training_step(self, batch: int, index: int) -> Tensor:
        (generator,), weight = self.fixed, self.settings.image_weight
        z, measurement = self.samples(self.global_step)
        predicted = self.network(measurement)
        latents = F.mse_loss(predicted, (z.float() - self.mean) / self.scale)
        self.log("train/latents", latents, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        if not weight:
            return latents
        again = self.operator(generator((self.mean + self.scale * predicted).to(z))).float()
        images = F.mse_loss(again, measurement) / measurement.var(0).mean().clamp_min(1e-12)
        self.log("train/images", images, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        return latents + weight * images

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return annealed_adam(self, self.settings.lr)

    @torch.no_grad()
    def quality(self) -> dict[str, float]:
        """Measure the encoder on new samples, as shares of the variance of latents and of measurements."""
        (generator,), self.network = self.fixed, self.network.eval()
        errors, variance = list[Tensor](), list[Tensor]()
        for number in range(-(-MEASURED // self.settings.batch_size)):
            z, measurement = self.samples(-1 - number)
            predicted = self.network(measurement)
            again = self.operator(generator((self.mean + self.scale * predicted).to(z))).float()
            latents = (predicted - (z.float() - self.mean) / self.scale).square().mean()
            errors.append(torch.stack([latents, (again - measurement).square().mean()]))
            variance.append(measurement.var(0).mean())
        latents, mse = torch.stack(errors).mean(0).tolist()
        return {
            "latents_error": round(latents, 4),
            "measurement_mse": round(mse, 6),
            "measurement_variance": round(torch.stack(variance).mean().item(), 6),
        }


def run_training(plan: JobPlan[TrainEncoderSettings]) -> Path:
    """Train the encoder of a plan; return its file."""
    hardware, settings = Hardware(plan.settings.device), plan.settings.build()
    hardware.options()
    generator = cards.load_generator(settings.model).given(**as_conditions(settings.conditions or {})).fused()
    shape = measurement_shapes(generator, settings.operator)[1]
    if hasattr(settings.operator, "take"):
        raise InputError("operator", "one for all images", settings.operator)
    if (count := max(map(len, generator.conditions.values()), default=1)) > 1:
        raise InputError("conditions", "one for all samples", count)
    if settings.image_weight:
        generator.require_gradient()
    form = {"shape": shape, "latent_shape": generator.latent_shape, "width": settings.width, "hidden": settings.hidden}
    torch.manual_seed(settings.seed)
    module = EncoderTraining(ConvEncoder(**form), generator, settings.operator, settings)
    recipe = {key: value for key, value in settings.recipe().items() if key not in UNCHANGED}
    held = digest_tensors(operator=settings.operator, conditions=generator.conditions)
    described = describe_model(settings.model)
    job = {**recipe, **describe_card(settings.model), **held, "model_sha256": described.get("model_sha256")}
    log = open_log(Path(settings.log), _log_name(plan), job)
    done = epochs_done(log / LAST)
    if done:
        print(f"latentopt: goes on after epoch {done} of {settings.epochs}", file=sys.stderr)
    tracker = Tracker(log, settings.wandb, {**job, **described}, "train", kept_lines={0: done})
    checkpoints = Checkpoints(log / LAST)
    loader = DataLoader(range(settings.batches), batch_size=None)  # pyright: ignore[reportArgumentType]
    with frozen(generator):
        callbacks = [EpochTracker(tracker), checkpoints]
        fit(module, loader, settings.epochs, settings.seed, hardware, callbacks=callbacks)
        quality = module.quality()
    about: dict[str, Any] = {
        "model": cards.model_name(settings.model),
        "model_sha256": described.get("model_sha256"),
        "operator": repr(settings.operator),
        "network": form,
        "training": {**recipe, "seconds": round(checkpoints.seconds), "versions": versions()},
        "quality": quality,
    }
    probe = take_probe(generator, settings.operator)
    TrainedEncoder(module.network.eval(), module.mean, module.scale, probe, about).save(plan.folder)
    (log / LAST).unlink(missing_ok=True)
    rows = [{"figure": key, "value": value} for key, value in quality.items()]
    tracker.finish(rows, quality, [], [plan.folder])
    return plan.folder


def _log_name(plan: JobPlan[TrainEncoderSettings]) -> str:
    return plan.folder.stem if plan.settings.out else plan.folder.parent.name
