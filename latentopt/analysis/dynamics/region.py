"""The linear region around each input: logits, their Jacobian, and which gates are open.

Inside a region a piecewise-linear network is ``z(x + delta) = z + J delta``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.dynamics import logits
from latentopt.analysis.dynamics.derivatives import derivative
from latentopt.analysis.regions.patterns import with_pattern
from latentopt.classification import Loss
from latentopt.errors import InputError

LARGEST = 2**26
"""Numbers in the Jacobians that are held at a time; samples beyond it wait, a single one beyond it is refused."""


class Region(NamedTuple):
    """The network around each sample."""

    z: Tensor  # (B, K) logits
    J: Tensor  # (B, K, D) their Jacobian, the input flattened


class Look(NamedTuple):
    """The loss at some inputs."""

    value: Tensor  # (B,)
    gradient: Tensor  # (B, *shape)
    pattern: Tensor  # (B, U) the piece that each unit is on


def region(network: Callable[[Tensor], Tensor], x: Tensor) -> Region:
    """By K backward passes."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        z = network(at)
        rows = [derivative(z[:, k].sum(), at).flatten(1) for k in range(z.shape[1])]
    return Region(z.detach(), torch.stack(rows, 1))


def look(network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, loss: Loss) -> Look:
    """Loss, gradient and pattern, by one forward and one backward pass."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        z, pattern = with_pattern(network, at)
        values = logits.value(loss, z, labels)
        return Look(values.detach(), derivative(values.sum(), at), pattern)


def pieces(x: Tensor, classes: int) -> Iterator[slice]:
    """Samples whose Jacobians fit together in `LARGEST` numbers.

    Raises:
        InputError: one sample's does not.
    """
    each = classes * x[0].numel()
    if each > LARGEST:
        expected = f"a Jacobian of at most {LARGEST} numbers a sample (or method='lanczos', for the k largest)"
        raise InputError("x", expected, f"{classes} classes x {x[0].numel()} inputs = {each}")
    most = LARGEST // each
    for first in range(0, len(x), most):
        yield slice(first, first + most)
