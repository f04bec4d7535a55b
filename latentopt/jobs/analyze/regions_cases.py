"""What `latentopt analyze regions` looks at: a problem, its starts, and what its landscape shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.classification import Misclassify, margin
from latentopt.errors import InputError, positive
from latentopt.gates import Network
from latentopt.networks.checks import output_shape
from latentopt.networks.classifier import Classifier
from latentopt.objectives import Unit
from latentopt.optimizers import ADRGD, GD, Optimizer, SoftGates, method
from latentopt.problem import Problem
from latentopt.sets import Box, bounded_ball
from latentopt.zoo.random_nets import random_net

RANDOM = "random-2d"
STEP = 0.05
"""Of the random network, whose box is [-1, 1]^2."""


@dataclass(frozen=True, eq=False)
class Case:
    """A problem of B samples, in double precision."""

    title: str
    picture: str  # title of the landscape
    network: Network
    problem: Problem
    start: Tensor  # (B, *shape)
    inputs: Tensor  # (N, *shape), over which units are dead or saturated
    shown: Callable[[Tensor], Tensor]  # outputs (N, ...) of the first sample to (N,): the landscape's values
    says: str  # what the values are
    level: float | None  # of the values, drawn as a thick line; None: none


def random_2d(widths: str, seed: int) -> Case:
    """A random network of two inputs whose output is maximised over [-1, 1]^2, from 0."""
    try:
        sizes = [int(width) for width in widths.split("-")]
    except ValueError as error:
        raise InputError("widths", "whole numbers between dashes, such as 2-16-16-1", repr(widths)) from error
    for size in sizes:
        positive("widths", size, integer=True)
    if len(sizes) < 3 or sizes[0] != 2 or sizes[-1] != 1:
        raise InputError("widths", "2 inputs, at least one hidden layer and 1 output, such as 2-16-16-1", widths)
    network, start = random_net(sizes, seed, torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    problem = Problem(network, Unit(0), (2,), 1, Box(-1.0, 1.0), like=start)
    inputs = torch.rand(1000, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    name = f"Random network {widths}, seed {seed}"
    title = f"{name}: its output, maximised over [-1, 1]^2 from 0"
    return Case(title, name, network, problem, start, inputs, lambda output: output[:, 0], "output, maximised", None)


def classified(name: str, classifier: Classifier, images: Tensor, labels: Tensor, eps: float) -> Case:
    """Images (B, C, H, W) whose cross-entropy is raised within ``eps``, l-infinity; no step is left out once it is
    misclassified."""
    positive("eps", eps)
    shape = output_shape(classifier, images[:1], "data")
    if len(shape) != 1 or shape[0] <= int(labels.max()):
        raise InputError("data", f"labels of the model's outputs {shape}", int(labels.max()))
    low, high = classifier.input_range
    feasible = bounded_ball(images, eps, "linf", low, high)
    problem = Problem(classifier, Misclassify("ce", labels), images.shape[1:], len(images), feasible, like=images)
    title = f"{name}: cross-entropy raised within eps = {eps:g} (l-infinity) of {len(images)} images"

    def beyond(logits: Tensor) -> Tensor:
        return margin(logits, labels[:1].expand(len(logits)))

    says = "best other logit - the label's (thick: 0, the decision boundary)"
    picture = f"{name}, first image; borders of the last hidden layer"
    return Case(title, picture, classifier, problem, images, images, beyond, says, 0.0)


def optimizer_of(name: str, step: float | None) -> Optimizer:
    """An optimiser by its name; with ``step``, one whose steps have this Euclidean length, without a schedule."""
    if step is None:
        return method(name)
    positive("step", step)
    plain = GD(lr=step, normalize=True)
    chosen: dict[str, Callable[[], Optimizer]] = {
        "gd": lambda: plain,
        "adr-gd": lambda: ADRGD(SoftGates(), plain),
        "adr-gd-paper": lambda: ADRGD.paper(a_x=step),
        "adr-gd-reference": lambda: ADRGD.reference(a_x=step),
    }
    if name not in chosen:
        raise InputError("optimizers", f"where there is a step some of {', '.join(chosen)}", repr(name))
    return chosen[name]()
