"""Tiny trainings: recipes on a data set in the format of MNIST."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentopt.inverse.reconstruct import reconstruct
from latentopt.zoo.modules import GAN, VAE

ARCHITECTURES, DATA = "latentopt.zoo.architectures", "latentopt.zoo.data"
DECODER = {
    "class_path": f"{ARCHITECTURES}.MLP",
    "init_args": {"sizes": [4, 24, 784], "shape": [1, 28, 28], "sigmoid": True},
}
ENCODER = {"class_path": f"{ARCHITECTURES}.MLP", "init_args": {"sizes": [784, 24, 8]}}
GENERATOR = {"class_path": f"{ARCHITECTURES}.ConvGenerator", "init_args": {"latent": 5, "channels": [6, 4]}}
DISCRIMINATOR = {"class_path": f"{ARCHITECTURES}.ConvDiscriminator", "init_args": {"channels": [4, 6]}}
CLASSIFIER = {
    "class_path": f"{ARCHITECTURES}.ConvClassifier",
    "init_args": {"shape": [1, 28, 28], "channels": [2], "hidden": [8], "classes": 2},
}


def measure_few(patch: pytest.MonkeyPatch, attacked: bool = False) -> None:
    """Measure the quality of models on few images in few steps, of classifiers where they are attacked too."""
    patch.setattr("latentopt.jobs.quality.reconstruct", partial(reconstruct, steps=20, start="random"))
    for name in ("MEASURED", *(["ATTACKED"] if attacked else [])):
        patch.setattr(f"latentopt.jobs.quality.{name}", 4)


def vae_recipe(mnist: Path, path: Path, **changes: Any) -> Path:
    """Write the recipe of a VAE; ``changes`` replace fields of it."""
    content = {
        "job": "train",
        "name": "tiny",
        "summary": "a test",
        "latent_shape": [4],
        "epochs": 1,
        "device": "cpu",
        "wandb": "disabled",
        "log": str(path.parent / "logs"),
        "data": _part(f"{DATA}.ImageData", dataset="mnist", root=str(mnist), batch_size=64),
        "module": _part(VAE, decoder=DECODER, encoder=ENCODER),
    }
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def gan_recipe(mnist: Path, path: Path, **changes: Any) -> Path:
    networks = {"generator": GENERATOR, "discriminator": DISCRIMINATOR, "latent": 5, "ema": 0.9}
    return vae_recipe(mnist, path, latent_shape=[5], module=_part(GAN, **networks), **changes)


def classifier_recipe(
    mnist: Path, path: Path, adversary: dict[str, Any] | None, data: dict[str, Any], **changes: Any
) -> Path:
    """Write the recipe of a classifier; ``data`` are further arguments of its data."""
    settings = {"classes": ["left", "right"], "eps": 0.02, "lr": 0.01, "adversary": adversary}
    labelled = _part(f"{DATA}.LabelledData", dataset="mnist", root=str(mnist), validation=64, **data)
    module = _part("latentopt.zoo.classifiers.ClassifierTraining", **settings, classifier=CLASSIFIER)
    return vae_recipe(mnist, path, latent_shape=None, data=labelled, module=module, **changes)


def _part(kind: type | str, **arguments: Any) -> dict[str, Any]:
    path = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return {"class_path": path, "init_args": arguments}
