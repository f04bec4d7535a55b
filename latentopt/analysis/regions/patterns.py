"""Activation patterns: the linear piece that every unit is on. Inputs with the same pattern lie in one region."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from latentopt.analysis.checks import require_batch
from latentopt.arguments import Values
from latentopt.errors import InputError
from latentopt.gates import Activation, Network, OnGates, require_gates
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt


@torch.no_grad()
def pattern(network: Network, x: Values, layers: Collection[int] | None = None) -> Tensor:
    """Return the piece that each unit is on at ``x`` (B, *shape): (B, U) int32, sites in the order of their calls.

    A ReLU's piece is 0 where it is closed (z <= 0) and 1 where it is open; a unit with two kinks, such as a capped
    ReLU, has pieces 0, 1, 2 from left to right. A unit of a max pooling has the index of its maximum in the
    pooled plane; the first among equal values.

    Args:
        network: a module or function of (B, *shape). Never changed.
        x: inputs, in its dtype.
        layers: numbers of the sites to include (`latentopt.gates.sites`), without max pooling; None: all, with pooling.

    Raises:
        InputError: ``x`` is not as described, the network has no units with pieces, or there are no such sites.

    >>> pattern(torch.nn.ReLU(), torch.tensor([[-1.0, 2.0]]))
    tensor([[0, 1]], dtype=torch.int32)
    """
    x, network = require_batch("x", x), adapt(network)
    with frozen(network):
        _, pieces = output_and_pattern(network, x, layers)
    if not pieces.shape[1]:
        got = "a network without (are its activations smooth?)"
        raise InputError("network", "at least one piecewise-linear activation or max pooling", got)
    return pieces


def output_and_pattern(network: Network, x: Tensor, layers: Collection[int] | None = None) -> tuple[Tensor, Tensor]:
    """Return the output at ``x`` (B, *shape), differentiable, and the `pattern` (B, U); U may be 0.

    Raises:
        InputError: there are no such sites.
    """
    parts = [torch.empty(len(x), 0, dtype=torch.int32, device=x.device)]

    def record(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        piece = torch.stack([z > 0 for z in activation.switches(h.detach())]).sum(0)
        parts.append(piece.flatten(1).int())
        return real(h)

    def pool(h: Tensor, dims: int, real: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        maxima, indices = real(h)
        parts.append(indices.flatten(1).int())
        return maxima, indices

    with OnGates(record, len(x), layers, pool if layers is None else None) as mode:
        output = network(x)
    if layers is not None:
        require_gates(mode)
    return output, torch.cat(parts, 1)


@torch.no_grad()
def has_max_pooling(network: Network, x: Tensor) -> bool:
    """Return whether a network calls max pooling at ``x`` (B, *shape): patterns include it, walks do not follow it."""
    calls: list[int] = []

    def pool(h: Tensor, dims: int, real: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        calls.append(dims)
        return real(h)

    with frozen(network), OnGates(lambda site, h, activation, real: real(h), len(x), None, pool):
        network(x)
    return bool(calls)


def flips(patterns: Tensor) -> Tensor:
    """Count the units that are on another piece than a step before: (T, B, U) to (T - 1, B).

    Raises:
        InputError: there are no patterns of at least one iterate.

    >>> flips(torch.tensor([[[0, 0, 1]], [[0, 1, 0]], [[0, 1, 0]]]))
    tensor([[2],
            [0]])
    """
    if not isinstance(patterns, Tensor) or patterns.ndim != 3 or not len(patterns):
        got = tuple(patterns.shape) if isinstance(patterns, Tensor) else type(patterns).__name__
        raise InputError("patterns", "patterns (T, B, U) of T >= 1 iterates", got)
    return (patterns[1:] != patterns[:-1]).sum(2)


def region_keys(patterns: Tensor) -> Tensor:
    """Hash patterns, (..., U) to (...) int64: equal patterns have equal keys.

    Random weights modulo 2^64: two of n regions share a key with a probability of about n^2 / 2^65.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(
        -(2**63), 2**63 - 1, patterns.shape[-1:], generator=generator, dtype=torch.int64, device="cpu"
    )
    return (patterns.long() * weights.to(patterns.device)).sum(-1)
