"""The training job: a LightningModule on a data module, exported as a model with its card and measured quality."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
import torch

from latentopt.errors import InputError, positive
from latentopt.jobs import pictures
from latentopt.jobs.specs import describe
from latentopt.jobs.trainer import accelerator_of, quiet_trainer
from latentopt.networks import Generator
from latentopt.result import versions
from latentopt.solve import solve
from latentopt.tasks.reconstruct import Reconstruction
from latentopt.zoo import cards
from latentopt.zoo.data import ImageData
from latentopt.zoo.modules import GAN, VAE

MEASURED = 64
"""Targets that the card's quality is measured on."""


def train(
    name: str,
    summary: str,
    module: VAE | GAN,
    data: ImageData,
    architecture: dict[str, Any],
    latent_shape: list[int],
    start_scale: float = 1.0,
    epochs: int = 20,
    seed: int = 0,
    out: str = "models",
    device: str = "auto",
) -> Path:
    """Train a generator and write ``out/name/`` with its card, its weights and a sheet of samples.

    Args:
        name: the model's name.
        summary: one line for the card.
        module: what trains (`latentopt.zoo.modules`).
        data: on what.
        architecture: of each network of the module, by argument name, its class path and arguments.
        latent_shape: of one latent.
        start_scale: standard deviation of the latents that a search starts from.
        epochs: passes over the data.
        seed: of every random number.
        out: folder to which the model's own is added.
        device: auto, cpu, cuda or mps.
    """
    positive("epochs", epochs, integer=True)
    accelerator = accelerator_of(device)
    folder = Path(out) / name
    if folder.exists() and any(folder.iterdir()):
        raise InputError("out", "a folder without this model", f"{folder}")
    if Path(out).exists() and not Path(out).is_dir():
        raise InputError("out", "a folder", f"the file {out}")
    networks, settings = module.networks(), {"output_range": module.output_range, "start_scale": start_scale}
    generator = Generator(networks["generator"], latent_shape=latent_shape, **settings)
    _check_data(data, generator)
    begun = time.perf_counter()
    _fit(module, data, epochs, seed, accelerator)
    generator.eval()
    card = cards.Card(
        name=name,
        summary=summary,
        architecture={part: architecture[argument] for part, argument in module.exported.items()},
        latent_shape=list(latent_shape),
        output_range=module.output_range,
        start_scale=start_scale,
        weights_sha256="",
        training={
            "recipe": f"latentopt train train-{name}",
            "module": f"{type(module).__module__}.{type(module).__qualname__}",
            "data": describe(data)["init_args"]["dataset"],
            "epochs": epochs,
            "seed": seed,
            "seconds": round(time.perf_counter() - begun),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        },
        quality=measure(generator, data),
    )
    cards.save_model(folder, card, networks)
    with torch.no_grad():
        samples = pictures.as_bytes(generator(generator.latents(64, seed=0)))
    pictures.save_png(folder / "samples.png", pictures.tile([samples], per_row=16, side=56))
    return folder


def _check_data(data: ImageData, generator: Generator) -> None:
    images, shape = data.images("train"), generator.output_shape()
    if tuple(images.shape[1:]) != shape:
        raise InputError("data", f"images of the generator's shape {shape}", tuple(images.shape[1:]))
    if len(images) < data.batch_size:
        raise InputError("batch_size", f"at most the {len(images)} images there are", data.batch_size)


def _fit(module: lightning.LightningModule, data: ImageData, epochs: int, seed: int, accelerator: str) -> None:
    lightning.seed_everything(seed, verbose=False)
    with quiet_trainer(accelerator, max_epochs=epochs, enable_checkpointing=False) as trainer:
        trainer.fit(module, data)


def measure(generator: Generator, data: ImageData) -> dict[str, Any]:
    """How well the generator explains images it has not seen, and how often the search finds its own images again.

    The first 64 test images, best of 4 starts; 64 images of its own, best of 8 starts; 300 steps, `ADRGD`, seed 0.
    """
    targets = data.images("test", MEASURED)
    held_out = solve(Reconstruction(generator, targets), "adr-gd", steps=300, restarts=4).value
    with torch.no_grad():
        own = generator(generator.latents(MEASURED, seed=1234))
    in_span = solve(Reconstruction(generator, own), "adr-gd", steps=300, restarts=8).value
    return {
        "test_mse": round(held_out.mean().item(), 6),
        "test_mse_standard_error": round((held_out.std() / MEASURED**0.5).item(), 6),
        "in_span_recovered": round((in_span < 1e-4).double().mean().item(), 4),
        "protocol": "first 64 test images, best of 4 starts by the objective; 64 images of its own (MSE < 1e-4), "
        "best of 8 starts; 300 steps of adr-gd, seed 0",
    }
