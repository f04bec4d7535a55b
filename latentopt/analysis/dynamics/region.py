"""The linear region around each input: logits, their Jacobian, and which gates are open.

Inside a region a piecewise-linear network is ``z(x + delta) = z + J delta``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.dynamics import logits
from latentopt.analysis.dynamics.derivatives import derivative
from latentopt.classification import Loss
from latentopt.errors import InputError
from latentopt.gates import Activation, OnGates

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
    pattern: list[Tensor]  # of each gate, (B, *site)


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
        z, gates = with_pattern(network, at)
        values = logits.value(loss, z, labels)
        return Look(values.detach(), derivative(values.sum(), at), gates)


def with_pattern(network: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output, and of each switch whether it is open, of each max pooling where the maximum is; (B, *site) each."""
    gates: list[Tensor] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        gates.extend((z > 0).detach() for z in activation.switches(h))
        return real(h)

    def pool(h: Tensor, dims: int, real: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        maxima, places = real(h)
        gates.append(places)
        return maxima, places

    with OnGates(rule, len(x), None, pool):
        return network(x), gates


def flips(pattern: Sequence[Tensor], other: Sequence[Tensor], batch: int) -> Tensor:
    """How many gates (B,) differ between two patterns."""
    count = torch.zeros(batch, dtype=torch.long, device=pattern[0].device if pattern else None)
    for a, b in zip(pattern, other, strict=True):
        count = count + (a != b).flatten(1).sum(1)
    return count


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
