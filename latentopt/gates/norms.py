"""Norms of the rows of a network's affine map at fixed gates."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.gates.activations import Activation
from latentopt.gates.mode import Network, OnGates, require_gates


class Norms(NamedTuple):
    """Norms of the rows of a network's affine maps at fixed gates."""

    switches: list[Tensor]  # ||P_j|| of each switch (B, *site)
    output: Tensor  # (B, *out) the same of the output
    forwards: int  # cost of each sample


@torch.no_grad()
def row_norms(
    network: Network,
    x: Tensor,
    gate: Callable[[int, Tensor], Tensor],
    directions: Tensor,
    exact: bool,
    layers: Collection[int] | None = None,
    most: int = 256,
) -> Norms:
    """Compute norms ``||P_j||`` of the rows of the affine map from the input to each switch's pre-activation.

    At fixed gates the network is affine, so ``z_j(x + v) - z_j(x) = P_j v``: orthonormal directions give the norm
    exactly, K standard normal ones estimate it (relative error about ``.7 / sqrt(K)``).

    Args:
        network: maps (B, *features) to (B, *out).
        x: (B, *features).
        gate: maps ``(index, z)`` to the gate of a switch (B, *site); z (B, *site) is its pre-activation at ``x`` in
            the network with these gates.
        directions: (K, B, *features), the vectors v.
        exact: the directions are an orthonormal basis, so sum; else average.
        layers: sites whose switches ``gate`` is for; the others' gates are the pattern at ``x``, without norms.
        most: directions in one pass. Each pass costs one more forward.

    Returns:
        The norms of the switches' rows (B, *site) and of the output's (B, *out), and their cost.
    """
    parts = [_squares(network, x, gate, part, layers) for part in directions.split(most)]
    total = [torch.stack(squares).sum(0) for squares in zip(*parts, strict=True)]
    roots = [torch.sqrt(square if exact else square / len(directions)) for square in total]
    return Norms(roots[:-1], roots[-1], len(directions) + len(parts))


def _squares(network: Network, x: Tensor, gate, directions: Tensor, layers: Collection[int] | None) -> list[Tensor]:
    """Return the sums of ``(P_j v)^2`` over the directions, of each switch and of the output."""
    copies, squares = len(directions) + 1, []

    def square(moved: Tensor) -> Tensor:  # (copies, B, *shape)
        return (moved[1:] - moved[0]).square().sum(0)

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        h = h.unflatten(0, (copies, len(x)))
        switched = []
        for z in activation.switches(h):
            if layers is None or site in layers:
                switched.append(gate(len(squares), z[0]) * z)
                squares.append(square(h))
            else:
                switched.append((z[0] > 0) * z)
        return activation.join(h, switched).flatten(0, 1)

    def pool(h: Tensor, dims: int, real: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        place = real(h[: len(x)])[1].repeat(copies, *[1] * (h.ndim - 1))
        return h.flatten(-dims).gather(-1, place.flatten(-dims)).reshape(place.shape), place

    with OnGates(rule, copies * len(x), None, pool) as mode:
        output = network(torch.cat([x[None], x + directions]).flatten(0, 1))
    require_gates(mode, network)
    return [*squares, square(output.unflatten(0, (copies, len(x))))]
