"""Export of a trained module: the model, the settings of its card and its measured quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentopt import pictures
from latentopt.errors import InputError
from latentopt.jobs.quality import measure_classifier_quality, measure_generator_quality
from latentopt.networks.checks import output_shape
from latentopt.networks.classifier import Classifier
from latentopt.networks.generator import Generator
from latentopt.zoo import cards
from latentopt.zoo.classifiers import ClassifierTraining
from latentopt.zoo.data import ImageData, LabelledData
from latentopt.zoo.modules import GAN, VAE


class GeneratorExport:
    """The generator that a module trains, made before the training to check that module and data fit.

    Raises:
        InputError: the data are not images of the generator's shape, have no test images, or are fewer than a batch.
    """

    card = cards.GeneratorCard

    def __init__(self, module: VAE | GAN, data: ImageData, latent_shape: list[int] | None, start_scale: float) -> None:
        if latent_shape is None:
            raise InputError("latent_shape", "the shape of one latent", "none")
        self.data = data
        self.settings: dict[str, Any] = {
            "latent_shape": list(latent_shape),
            "output_range": module.output_range,
            "start_scale": start_scale,
        }
        self.model = Generator(module.networks()["generator"], **self.settings)
        images, _, shape = data.images("train"), data.images("test", 1), self.model.output_shape()
        if tuple(images.shape[1:]) != shape:
            raise InputError("data", f"images of the generator's shape {shape}", tuple(images.shape[1:]))
        if len(images) < data.batch_size:
            raise InputError("batch_size", f"at most the {len(images)} images there are", data.batch_size)

    def quality(self) -> dict[str, Any]:
        return measure_generator_quality(self.model, self.data)

    def draw(self, path: Path) -> None:
        """Save a sheet of 64 images of random latents."""
        with torch.no_grad():
            samples = pictures.to_pictures(self.model(self.model.latents(64, seed=0)))
        pictures.save_png(path, pictures.tile([samples], per_row=16, side=56))


class ClassifierExport:
    """The classifier that a module trains, made before the training to check that module and data fit.

    Raises:
        InputError: the data have no labels or no test images of their own, are fewer than a batch, or do not have the
            classes and the shape of the classifier.
    """

    card = cards.ClassifierCard

    def __init__(self, module: ClassifierTraining, data: ImageData) -> None:
        if not isinstance(data, LabelledData):
            raise InputError("data", "images with labels (latentopt.zoo.data.LabelledData)", type(data).__name__)
        self.data, self.eps, network = data, module.eps, module.network
        images, labels = data.training()
        test_images, _ = data.load("test")
        if len(test_images) >= len(images) and torch.equal(test_images[: len(images)], images):
            raise InputError("data", "a data set whose test images are others than its training's", data.dataset)
        (logits,) = output_shape(network, images[:1], "data")
        classes = network.classes or ()
        if not labels.max() < logits == len(classes):
            expected = f"as many as there are labels (up to {labels.max()}) and logits ({logits})"
            raise InputError("classes", expected, f"{len(classes)}")
        self.settings: dict[str, Any] = {
            "input_shape": list(images.shape[1:]),
            "mean": network.mean.tolist(),
            "std": network.std.tolist(),
            "classes": list(classes),
        }
        self.model = Classifier(network.module, **self.settings)

    def quality(self) -> dict[str, Any]:
        return measure_classifier_quality(self.model, self.data, self.eps)
