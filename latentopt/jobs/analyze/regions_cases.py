"""The problems of `latentopt analyze regions`: a random network of two inputs, and images of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.classification import Misclassify, margin
from latentopt.errors import InputError
from latentopt.gates import Network
from latentopt.jobs.analyze.regions import parse_widths
from latentopt.networks.checks import output_shape
from latentopt.networks.classifier import Classifier, range_for
from latentopt.objectives import Unit
from latentopt.optimizers import ADRGD, GD, Optimizer, SoftGates
from latentopt.optimizers.registry import method
from latentopt.problem import Problem
from latentopt.sets import Box, FeasibleSet, bounded_ball
from latentopt.zoo.random_nets import random_net


@dataclass(frozen=True, eq=False)
class RegionsCase:
    """A problem of B samples, in double precision."""

    title: str
    picture_title: str  # of the landscape
    network: Network
    problem: Problem
    start: Tensor  # (B, *shape)
    inputs: Tensor  # (N, *shape), for the activity of the units
    value: Callable[[Tensor], Tensor]  # outputs (N, ...) of the first sample to (N,): the landscape's values
    value_label: str
    level: float | None  # value drawn as a thick line; None: none


def random_case(widths: str, seed: int) -> RegionsCase:
    """Return a random network of two inputs whose output is maximised over [-1, 1]^2, from 0."""
    network, start = random_net(parse_widths(widths), seed, torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    problem = Problem(network, Unit(0), (2,), 1, Box(-1.0, 1.0), like=start)
    inputs = torch.rand(1000, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    name = f"Random network {widths}, seed {seed}"
    title = f"{name}: its output, maximised over [-1, 1]^2 from 0"
    label = "output, maximised"
    return RegionsCase(title, name, network, problem, start, inputs, lambda output: output[:, 0], label, None)


def classifier_case(name: str, classifier: Classifier, images: Tensor, labels: Tensor, eps: float) -> RegionsCase:
    """Return the cross-entropy of images (B, C, H, W), raised within ``eps``, l-infinity, also once misclassified."""
    shape = output_shape(classifier, images[:1], "data")
    if len(shape) != 1 or shape[0] <= int(labels.max()):
        raise InputError("data", f"labels of the model's outputs {shape}", int(labels.max()))
    feasible = bounded_ball(images, eps, "linf", *range_for(classifier, images))
    problem = Problem(classifier, Misclassify("ce", labels), images.shape[1:], len(images), feasible, like=images)
    title = f"{name}: cross-entropy raised within eps = {eps:g} (l-infinity) of {len(images)} images"

    def value(logits: Tensor) -> Tensor:
        return margin(logits, labels[:1].expand(len(logits)))

    label = "best other logit - the label's (thick: 0, the decision boundary)"
    picture_title = f"{name}, first image; borders of the last hidden layer"
    return RegionsCase(title, picture_title, classifier, problem, images, images, value, label, 0.0)


def method_by_name(name: str, step: float | None, feasible: FeasibleSet | None = None) -> Optimizer:
    """Return a method of the registry; with ``step``, one whose steps have this Euclidean length, without a schedule.

    Raises:
        KeyError: the method has no such form (`latentopt.jobs.analyze.regions.STEP_METHODS` do).
    """
    if step is None:
        return method(name, feasible)
    plain = GD(lr=step, normalize=True)
    forms: dict[str, Callable[[], Optimizer]] = {
        "gd": lambda: plain,
        "adr-gd": lambda: ADRGD(SoftGates(), plain),
        "adr-gd-paper": lambda: ADRGD.paper(a_x=step),
        "adr-gd-reference": lambda: ADRGD.reference(a_x=step),
    }
    return forms[name]()
