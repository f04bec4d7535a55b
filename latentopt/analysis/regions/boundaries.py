"""Boundaries of activation regions: the nearest one along a direction, and all along a segment.

Within a region every pre-activation is affine: ``z(x + t d) = z + t s``, with the slopes ``s`` by forward-mode
differentiation at the gates of the region. A boundary is where a switch reaches z = 0 in the direction out of its side.
There its gate is switched by hand, whatever the rounding of z, and the walk continues with the slopes of the next
region: it needs no step length and no tolerance, and skips no region.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.checks import require_batch, require_like
from latentopt.arguments import Values
from latentopt.autodiff import jvp
from latentopt.batch_math import per_sample, sample_norm
from latentopt.errors import InputError, positive
from latentopt.gates import Activation, Network, OnGates, require_gates
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.results import SavedResult


class SwitchIndex(NamedTuple):
    """The positions of switches in the network."""

    site: Tensor  # (...) long, number of the site (`latentopt.gates.sites`); -1 for none
    unit: Tensor  # (...) long, number of the unit in the flattened site; -1 for none


@dataclass(frozen=True, repr=False)
class Boundary(SavedResult):
    """The nearest boundary of each sample along its direction."""

    distance: Tensor  # (B,) Euclidean; infinity where the ray stays in its region
    site: Tensor  # (B,) long, of the unit that changes its piece there; -1: none
    unit: Tensor  # (B,) long, its number in the flattened site; -1: none


@dataclass(frozen=True, repr=False)
class Walk(SavedResult):
    """The boundaries on each segment, in order, K at most."""

    crossings: Tensor  # (B,) long, changes of a unit's piece
    complete: Tensor  # (B,) bool; False: `limit` was reached before the end
    t: Tensor  # (B, K) positions in [0, 1]; infinity after the last
    site: Tensor  # (B, K) long; -1 after the last
    unit: Tensor  # (B, K) long; -1 after the last


@torch.no_grad()
def boundary(network: Network, x: Values, direction: Values) -> Boundary:
    """Find the nearest boundary of the region of ``x`` along ``direction``, and the unit that it belongs to.

    Computed in the dtype of ``x``: in float32 a distance is off by about 1e-6 of the pre-activations' size over their
    slope, in float64 by 1e-15 of it. A closed ReLU at z = 0 exactly that is about to open is at distance 0.

    Args:
        network: a piecewise-linear module or function of (B, *shape), without max pooling. Never changed.
        x: (B, *shape).
        direction: the same shape, of any length > 0.

    Raises:
        InputError: the tensors are not as described; or the network is smooth somewhere, or has max pooling, whose
            boundaries are not followed.

    >>> nearest = boundary(torch.nn.ReLU(), torch.tensor([[3.0, -2.0]]), torch.tensor([[0.0, 5.0]]))
    >>> nearest.distance, nearest.unit
    (tensor([2.]), tensor([1]))
    """
    network, x = adapt(network), require_batch("x", x)
    direction = require_like("direction", direction, x)
    length = sample_norm(direction)
    if not bool((length > 0).all()):
        raise InputError("direction", "directions other than 0", "0")
    with frozen(network):
        gates = _read_gates(network, x, direction)
        t, switch = _exit(network, x, direction, gates)
        index = _switch_index(network, x[:1])
    site, unit = (torch.where(t.isfinite(), column[switch], -1) for column in index)
    return Boundary(t * length, site, unit)


@torch.no_grad()
def walk(network: Network, x: Values, end: Values, limit: int = 10_000) -> Walk:
    """Find every boundary on the segment from ``x`` to ``end``, exactly, each by one pass through the network.

    Counts changes of the `pattern`: units that change at the same point, such as those with equal weights, count one by
    one. Rounding can swap crossings that are closer than `boundary`'s error, and move a crossing that is as close to an
    end to its other side; in float64 this hardly occurs.

    Args:
        network: as in `boundary`.
        x: the segments' starts, (B, *shape).
        end: their ends, the same shape; a segment of length 0 crosses nothing.
        limit: crossings of one segment after which its walk stops, >= 1.

    Raises:
        InputError: as `boundary`.

    >>> crossed = walk(torch.nn.ReLU(), torch.tensor([[3.0, -2.0]]), torch.tensor([[-1.0, 2.0]]))
    >>> crossed.crossings, crossed.t
    (tensor([2]), tensor([[0.5000, 0.7500]]))
    """
    network, x = adapt(network), require_batch("x", x)
    end = require_like("end", end, x)
    positive("limit", limit, integer=True)
    direction, events = end - x, list[tuple[Tensor, Tensor]]()
    with frozen(network):
        gates, index = _read_gates(network, x, direction), _switch_index(network, x[:1])
        t, rows = torch.zeros_like(sample_norm(x)), torch.arange(len(x), device=x.device)
        while len(rows):
            point = torch.lerp(x[rows], end[rows], per_sample(t[rows], x))
            distance, switch = _exit(network, point, direction[rows], gates[rows])
            t[rows] += distance
            rows, switch = _crossing_rows(t, gates, rows, switch)
            if len(events) == limit:
                break
            gates[rows, switch] = ~gates[rows, switch]
            events.append(_event(t, rows, switch))
    return _collect(events, rows, index)


def _crossing_rows(t: Tensor, gates: Tensor, rows: Tensor, switch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows whose switch changes on the segment: a gate is open where z > 0, so closing at the end counts."""
    closes = gates[rows, switch]
    inside = (t[rows] < 1) | (closes & (t[rows] == 1))
    return rows[inside], switch[inside]


def _event(t: Tensor, rows: Tensor, switch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position (B,) of each row's crossing, infinity for none, and its switch (B,)."""
    positions, switches = torch.full_like(t, torch.inf), torch.zeros_like(t, dtype=torch.long)
    positions[rows], switches[rows] = t[rows], switch
    return positions, switches


def _collect(events: list[tuple[Tensor, Tensor]], cut: Tensor, index: SwitchIndex) -> Walk:
    """Return the walk of these events; the rows ``cut`` (long) have more."""
    times, switches = (torch.stack(list(column), 1) for column in zip(*events, strict=True))
    crossed = times.isfinite()
    longest = int(crossed.sum(1).max())
    complete = torch.ones_like(crossed[:, 0])
    complete[cut] = False
    site, unit = (torch.where(crossed, column[switches], -1)[:, :longest] for column in index)
    return Walk(crossed.sum(1), complete, times[:, :longest], site, unit)


def _exit(network: Network, x: Tensor, direction: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the extent (B,) of each region in units of ``direction``, and the switch (B,) that ends it.

    Of several switches at that point it is the first in the order of calls, as later ones depend on it.
    """
    z, slope = _affine(network, x, direction, gates)
    leaves = (slope != 0) & ((slope > 0) != gates)
    distance = torch.where(leaves, (-z / slope).clamp_min(0), torch.inf)
    nearest = distance.amin(1)
    return nearest, (distance == nearest[:, None]).int().argmax(1)


def _affine(network: Network, x: Tensor, direction: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Return all switches' pre-activations and slopes along ``direction``, each (B, S), at fixed gates (B, S)."""

    def fixed(x: Tensor) -> Tensor:
        collected: list[Tensor] = []

        def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
            switched = []
            for z in activation.switches(h):
                first = sum(part.shape[1] for part in collected)
                gate = gates[:, first : first + z[0].numel()].reshape(z.shape)
                switched.append(torch.where(gate, z, 0))
                collected.append(z.flatten(1))
            return activation.join(h, switched)

        with OnGates(rule, len(x), None, _refuse_pool) as mode:
            network(x)
        require_gates(mode)
        return torch.cat(collected, 1)

    return jvp(fixed, x, direction)


def _refuse_pool(h: Tensor, dims: int, real: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    raise InputError(
        "network", "one without max pooling, whose boundaries are not followed", f"one over {dims}-d planes"
    )


def _read_gates(network: Network, x: Tensor, direction: Tensor) -> Tensor:
    """Return the gates (B, S) at ``x``.

    Raises:
        InputError: the network is not affine at these gates, so it is smooth somewhere.
    """
    collected: list[Tensor] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        collected.extend(z.flatten(1) > 0 for z in activation.switches(h))
        return real(h)

    with OnGates(rule, len(x), None, _refuse_pool) as mode:
        network(x)
    require_gates(mode)
    gates = torch.cat(collected, 1)
    # A third of the way: at both ends of a segment through the origin, odd functions such as tanh have one slope.
    (_, here), (_, there) = (_affine(network, point, direction, gates) for point in (x, x + direction / 3))
    error = (here - there).abs().amax(1)
    if bool((error > torch.finfo(x.dtype).eps ** 0.5 * here.abs().amax(1)).any()):
        got = f"slopes that differ by {float(error.max()):.2g} within a region"
        raise InputError("network", "a piecewise-linear one (no tanh, softmax, normalisation by the sample)", got)
    return gates


def _switch_index(network: Network, x: Tensor) -> SwitchIndex:
    """Return each switch's site and unit (S,), by a pass over ``x`` (1, *shape)."""
    units: list[Tensor] = []
    sites: list[Tensor] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        for _ in activation.kinks:
            units.append(torch.arange(h[0].numel(), device=h.device))
            sites.append(torch.full_like(units[-1], site))
        return real(h)

    with OnGates(rule, 1):
        network(x)
    return SwitchIndex(torch.cat(sites), torch.cat(units))
