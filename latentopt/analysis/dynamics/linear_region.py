"""The linear region around each input: logits, their Jacobian, and which gates are open.

Inside a region a piecewise-linear network is ``z(x + delta) = z + J delta``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.dynamics.logit_loss import derivative, loss_value
from latentopt.analysis.regions.patterns import output_and_pattern
from latentopt.classification import Loss
from latentopt.errors import InputError

LARGEST = 2**26
"""Entries of the Jacobians in memory at a time; samples beyond it wait, a single one beyond it is refused."""


class LinearRegion(NamedTuple):
    """The affine function that the network is around each sample."""

    z: Tensor  # (B, K) logits
    J: Tensor  # (B, K, D) their Jacobian, the input flattened


class LossAtInput(NamedTuple):
    """The loss, its gradient and the activation pattern at some inputs."""

    value: Tensor  # (B,)
    gradient: Tensor  # (B, *shape)
    pattern: Tensor  # (B, U) the piece that each unit is on


def linear_region(network: Callable[[Tensor], Tensor], x: Tensor) -> LinearRegion:
    """Compute the logits and their Jacobian, by K backward passes."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = network(x)
        rows = [derivative(z[:, k].sum(), x).flatten(1) for k in range(z.shape[1])]
    return LinearRegion(z.detach(), torch.stack(rows, 1))


def loss_at_input(network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss) -> LossAtInput:
    """Compute loss, gradient and pattern, by one forward and one backward pass."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z, pattern = output_and_pattern(network, x)
        values = loss_value(loss, z, labels)
        return LossAtInput(values.detach(), derivative(values.sum(), x), pattern)


def slices_in_memory(x: Tensor, classes: int) -> Iterator[slice]:
    """Yield slices of the samples whose Jacobians fit together in `LARGEST` entries.

    Raises:
        InputError: one sample's does not.
    """
    size = classes * x[0].numel()
    if size > LARGEST:
        expected = f"a Jacobian of at most {LARGEST} numbers a sample (or method='lanczos', for the k largest)"
        raise InputError("x", expected, f"{classes} classes x {x[0].numel()} inputs = {size}")
    count = LARGEST // size
    for first in range(0, len(x), count):
        yield slice(first, first + count)
