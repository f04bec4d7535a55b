"""Quality of trained models for their cards, measured on images that they have not seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentopt.attacks.attack import attack
from latentopt.inverse.reconstruct import reconstruct
from latentopt.networks.classifier import Classifier
from latentopt.networks.generator import Generator
from latentopt.zoo.data import ImageData, LabelledData

MEASURED = 64
"""Number of targets for the quality of a generator."""
ATTACKED = 200
"""Number of images that a classifier is attacked on."""


def measure_generator_quality(generator: Generator, data: ImageData) -> dict[str, Any]:
    """Measure how well a generator explains unseen images, and how often its own images are recovered.

    `latentopt.reconstruct` with its defaults and seed 0 reconstructs the first 64 test images and 64 images of the
    generator. Own images that are not recovered are tried twice more.
    """
    targets = data.images("test", MEASURED)
    held_out = reconstruct(generator, targets).value
    with torch.no_grad():
        own = generator(generator.latents(MEASURED, seed=1234))
    in_span = reconstruct(generator, own, tolerance=1e-4, retries=2).value
    return {
        "test_mse": round(held_out.mean().item(), 6),
        "test_mse_standard_error": round((held_out.std() / MEASURED**0.5).item(), 6),
        "in_span_recovered": round((in_span < 1e-4).double().mean().item(), 4),
        "protocol": "first 64 test images; 64 images of its own (MSE < 1e-4), in at most 3 rounds; "
        "latentopt.reconstruct with its defaults, seed 0",
    }


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
