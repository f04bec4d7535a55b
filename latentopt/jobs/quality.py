"""What a model's card says about it: figures measured on images that it has not seen."""

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
"""Targets that a generator's quality is measured on."""
ATTACKED = 200
"""Images that a classifier is attacked on."""


def generator_quality(generator: Generator, data: ImageData) -> dict[str, Any]:
    """How well a generator explains images it has not seen, and how often the search finds its own images again.

    The first 64 test images and 64 images of its own, by `latentopt.reconstruct` as it is, seed 0; of its own, those
    not found are tried again, twice.
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


def classifier_quality(classifier: Classifier, data: LabelledData, eps: float) -> dict[str, Any]:
    """Share of the test images that a classifier gets right: all as they are, and the first 200 under attack.

    The attack is the portfolio of `latentopt.attack` in the Linf ball of radius ``eps``, seed 0.
    """
    images, labels = data.load("test")
    with torch.no_grad():
        predicted = torch.cat([classifier(batch).argmax(1) for batch in images.split(500)])
    found = attack(classifier, images[:ATTACKED], labels[:ATTACKED], eps)
    clean, robust = _share(predicted == labels), _share(~found.success)
    return {
        "test_accuracy": clean[0],
        "test_accuracy_standard_error": clean[1],
        "robust_accuracy": robust[0],
        "robust_accuracy_standard_error": robust[1],
        "robust_eps": eps,
        "protocol": f"all {len(labels)} test images; the first {len(found.x)} under latentopt.attack's portfolio in "
        "the Linf ball of robust_eps, seed 0",
    }


def _share(right: Tensor) -> tuple[float, float]:
    """The share of True (N,), and its standard error."""
    p = right.double().mean().item()
    return round(p, 4), round((p * (1 - p) / len(right)) ** 0.5, 4)
