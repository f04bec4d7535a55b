"""Quality of trained models for their cards, measured on images that they have not seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.attacks.attack import attack
from latentopt.inverse.reconstruct import reconstruct
from latentopt.metrics import frechet_distance
from latentopt.networks.classifier import Classifier
from latentopt.networks.generator import Generator
from latentopt.zoo import cards
from latentopt.zoo.data import ImageData, LabelledData

MEASURED = 64
"""Number of targets for the quality of a generator."""
SAMPLED = 10_000
"""Number of images of a generator whose distribution is compared."""
ATTACKED = 200
"""Number of images that a classifier is attacked on."""


def measure_generator_quality(generator: Generator, data: ImageData) -> dict[str, Any]:
    """Measure how well a generator explains unseen images, and how often its own images are recovered.

    `latentopt.reconstruct` with its defaults and seed 0 reconstructs the first 64 test images and 64 images of the
    generator. Own images that are not recovered are tried twice more. Of MNIST, the Frechet distance is measured too.
    """
    targets = data.images("test", MEASURED)
    held_out = reconstruct(generator, targets).value
    with torch.no_grad():
        own = generator(generator.latents(MEASURED, seed=1234))
    in_span = reconstruct(generator, own, tolerance=1e-4, retries=2).value
    distance = {"frechet_distance": round(measure_frechet(generator, data), 2)} if data.dataset == "mnist" else {}
    return {
        "test_mse": round(held_out.mean().item(), 6),
        "test_mse_standard_error": round((held_out.std() / MEASURED**0.5).item(), 6),
        "in_span_recovered": round((in_span < 1e-4).double().mean().item(), 4),
        **distance,
        "protocol": "first 64 test images; 64 images of its own (MSE < 1e-4), in at most 3 rounds; "
        "latentopt.reconstruct with its defaults, seed 0"
        + ("; Frechet distance of 10,000 samples from the test images in mnist-cnn's 100 features" if distance else ""),
    }


@torch.no_grad()
def measure_frechet(generator: Generator, data: ImageData) -> float:
    """Return the Frechet distance of a generator's images from 10,000 test images, as FID but for digits.

    The features are the last 100 hidden values of ``mnist-cnn``; images are resized to 28 x 28.
    """
    classifier = cards.load_classifier("mnist-cnn")
    layers = classifier.module.layers
    hidden = torch.nn.Sequential(*layers[:-1], *layers[-1].layers[:-2])

    def features(images: Tensor) -> Tensor:
        small = F.interpolate(images.clamp(0, 1), (28, 28), mode="bilinear", antialias=True)
        return hidden((small - classifier.mean) / classifier.std)

    own = [features(generator(z)) for z in generator.latents(SAMPLED, seed=0).split(500)]
    real = [features(images) for images in data.images("test", SAMPLED).split(500)]
    return frechet_distance(torch.cat(own), torch.cat(real))


def measure_classifier_quality(classifier: Classifier, data: LabelledData, eps: float) -> dict[str, Any]:
    """Measure the accuracy of a classifier on all test images, and on the first 200 under attack.

    The attack is the portfolio of `latentopt.attack` in the Linf ball of radius ``eps``, seed 0.
    """
    images, labels = data.load("test")
    with torch.no_grad():
        predicted = torch.cat([classifier(batch).argmax(1) for batch in images.split(500)])
    attacked = attack(classifier, images[:ATTACKED], labels[:ATTACKED], eps)
    clean, robust = _share(predicted == labels), _share(~attacked.success)
    return {
        "test_accuracy": clean[0],
        "test_accuracy_standard_error": clean[1],
        "robust_accuracy": robust[0],
        "robust_accuracy_standard_error": robust[1],
        "robust_eps": eps,
        "protocol": f"all {len(labels)} test images; the first {len(attacked.x)} under latentopt.attack's portfolio in "
        "the Linf ball of robust_eps, seed 0",
    }


def _share(correct: Tensor) -> tuple[float, float]:
    """Return the share of True in ``correct`` (N,), and its standard error."""
    p = correct.double().mean().item()
    return round(p, 4), round((p * (1 - p) / len(correct)) ** 0.5, 4)
