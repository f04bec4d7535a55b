"""From region to region along a segment, and the nearest boundary along a direction.

Within a region every pre-activation is affine: ``z(x + t d) = z + t s``, with the slopes ``s`` by forward-mode
differentiation at the gates of the region. A boundary is where a switch reaches z = 0 in the direction out of its side.
There its gate is turned by hand, whatever rounding makes of z, and the walk goes on with the slopes of the next region:
no step length, no tolerance, and no way to pass a region by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.regions.checks import require_batch, require_like
from latentopt.autodiff import jvp
from latentopt.batch_math import per_sample, sample_norm
from latentopt.errors import InputError, positive
from latentopt.gates import Activation, Network, OnGates, require_gates
from latentopt.networks.freezing import frozen


class Place(NamedTuple):
    """Where switches are in the network; one entry each."""

    site: Tensor  # (...) long, number of the site (`latentopt.gates.sites`); -1 for none
    unit: Tensor  # (...) long, number of the unit in the flattened site; -1 for none


@dataclass(frozen=True)
class Boundary:
    """The nearest boundary of each sample along its direction."""

    distance: Tensor  # (B,) Euclidean; infinity where the ray leaves its region nowhere
    site: Tensor  # (B,) long, of the unit that changes its piece there; -1 where there is none
    unit: Tensor  # (B,) long, its number in the flattened site; -1 where there is none


@dataclass(frozen=True)
class Walk:
    """The boundaries between the two ends of each segment, in order. K is the largest number of them."""

    crossings: Tensor  # (B,) long, units that change their piece, each as often as it does
    complete: Tensor  # (B,) bool; False: `limit` was reached before the end, and there are more
    t: Tensor  # (B, K) where, in [0, 1]; infinity behind the last
    site: Tensor  # (B, K) long; -1 behind the last
    unit: Tensor  # (B, K) long; -1 behind the last


@torch.no_grad()
def boundary(network: Network, x: Tensor, direction: Tensor) -> Boundary:
    """How far it is from ``x`` to the nearest boundary of its region along ``direction``, and whose boundary that is.

    Computed in the dtype of ``x``: in float32 a distance is off by about 1e-6 of the pre-activations' size over their
    slope, in float64 by 1e-15 of it. A closed ReLU at z = 0 exactly that is about to open is at distance 0.

    Args:
        network: a piecewise-linear module or function of (B, *shape), without max pooling. Never changed.
        x: (B, *shape).
        direction: the same shape, of any length > 0.

    Raises:
        InputError: the tensors are not as described; or the network is smooth somewhere, or has max pooling, whose
            boundaries are not followed.

    >>> found = boundary(torch.nn.ReLU(), torch.tensor([[3.0, -2.0]]), torch.tensor([[0.0, 5.0]]))
    >>> found.distance, found.unit
    (tensor([2.]), tensor([1]))
    """
    require_batch("x", x)
    require_like("direction", direction, x)
    length = sample_norm(direction)
    if not bool((length > 0).all()):
        raise InputError("direction", "directions other than 0", "0")
    with frozen(network):
        gates = _opened(network, x, direction)
        t, switch = _exit(network, x, direction, gates)
        places = _places(network, x[:1])
    site, unit = (torch.where(t.isfinite(), of[switch], -1) for of in places)
    return Boundary(t * length, site, unit)


@torch.no_grad()
def walk(network: Network, x: Tensor, end: Tensor, limit: int = 10_000) -> Walk:
    """Every boundary on the straight way from ``x`` to ``end``, exactly, each by one pass through the network.

    What is counted are changes of the `pattern`: units that change at the same point, as those with equal weights do,
    count one by one. Rounding can swap crossings that lie nearer to each other than `boundary`'s error, and a crossing
    that near to an end can fall to either side of it; float64 leaves as good as none of these.

    Args:
        network: as in `boundary`.
        x: where the segments start, (B, *shape).
        end: where they end, the same shape; a segment of length 0 crosses nothing.
        limit: crossings of one segment after which its walk stops, >= 1.

    Raises:
        InputError: as `boundary`.

    >>> found = walk(torch.nn.ReLU(), torch.tensor([[3.0, -2.0]]), torch.tensor([[-1.0, 2.0]]))
    >>> found.crossings, found.t
    (tensor([2]), tensor([[0.5000, 0.7500]]))
    """
    require_batch("x", x)
    require_like("end", end, x)
    positive("limit", limit, integer=True)
    direction, events = end - x, list[tuple[Tensor, Tensor]]()
    with frozen(network):
        gates, places = _opened(network, x, direction), _places(network, x[:1])
        t, rows = torch.zeros_like(sample_norm(x)), torch.arange(len(x), device=x.device)
        while len(rows):
            here = torch.lerp(x[rows], end[rows], per_sample(t[rows], x))
            ahead, switch = _exit(network, here, direction[rows], gates[rows])
            t[rows] += ahead
            rows, switch = _before_the_end(t, gates, rows, switch)
            if len(events) == limit:
                break
            gates[rows, switch] = ~gates[rows, switch]
            events.append(_event(t, rows, switch))
    return _walked(events, rows, places)


def _before_the_end(t: Tensor, gates: Tensor, rows: Tensor, switch: Tensor) -> tuple[Tensor, Tensor]:
    """The rows whose switch changes on the segment: a gate is open where z > 0, so closing at the end counts."""
    closes = gates[rows, switch]
    inside = (t[rows] < 1) | (closes & (t[rows] == 1))
    return rows[inside], switch[inside]


def _event(t: Tensor, rows: Tensor, switch: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row (B,) crosses (infinity: it does not), and which switch."""
    at, which = torch.full_like(t, torch.inf), torch.zeros_like(t, dtype=torch.long)
    at[rows], which[rows] = t[rows], switch
    return at, which


def _walked(events: list[tuple[Tensor, Tensor]], cut: Tensor, places: Place) -> Walk:
    """The walk of these events; the rows ``cut`` (long) have more."""
    times, switches = (torch.stack(list(column), 1) for column in zip(*events, strict=True))
    crossed = times.isfinite()
    most = int(crossed.sum(1).max())
    complete = torch.ones_like(crossed[:, 0])
    complete[cut] = False
    site, unit = (torch.where(crossed, of[switches], -1)[:, :most] for of in places)
    return Walk(crossed.sum(1), complete, times[:, :most], site, unit)


def _exit(network: Network, x: Tensor, direction: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """How far in units of ``direction`` each region reaches (B,), and the switch (B,) that ends it.

    Of switches that end it at the same point it is the first in the order of calls, which those behind it depend on.
    """
    z, slope = _affine(network, x, direction, gates)
    leaves = (slope != 0) & ((slope > 0) != gates)
    ahead = torch.where(leaves, (-z / slope).clamp_min(0), torch.inf)
    nearest = ahead.amin(1)
    return nearest, (ahead == nearest[:, None]).int().argmax(1)


def _affine(network: Network, x: Tensor, direction: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Pre-activations of all switches and their slopes along ``direction``, each (B, S), at fixed gates (B, S)."""

    def fixed(x: Tensor) -> Tensor:
        collected: list[Tensor] = []

        def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
            switched = []
            for z in activation.switches(h):
                at = sum(part.shape[1] for part in collected)
                gate = gates[:, at : at + z[0].numel()].reshape(z.shape)
                switched.append(torch.where(gate, z, 0))
                collected.append(z.flatten(1))
            return activation.joined(h, switched)

        with OnGates(rule, len(x), None, _refused) as mode:
            network(x)
        require_gates(mode)
        return torch.cat(collected, 1)

    return jvp(fixed, x, direction)


def _refused(h: Tensor, dims: int, real: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    raise InputError(
        "network", "one without max pooling, whose boundaries are not followed", f"one over {dims}-d planes"
    )


def _opened(network: Network, x: Tensor, direction: Tensor) -> Tensor:
    """The gates (B, S) at ``x``.

    Raises:
        InputError: at these gates the network is not affine, so it is smooth somewhere.
    """
    collected: list[Tensor] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        collected.extend(z.flatten(1) > 0 for z in activation.switches(h))
        return real(h)

    with OnGates(rule, len(x), None, _refused) as mode:
        network(x)
    require_gates(mode)
    gates = torch.cat(collected, 1)
    # A third of the way: at both ends of a segment through the origin, odd functions such as tanh have one slope.
    (_, here), (_, there) = (_affine(network, at, direction, gates) for at in (x, x + direction / 3))
    error = (here - there).abs().amax(1)
    if bool((error > torch.finfo(x.dtype).eps ** 0.5 * here.abs().amax(1)).any()):
        came = f"slopes that differ by {float(error.max()):.2g} within a region"
        raise InputError("network", "a piecewise-linear one (no tanh, softmax, normalisation by the sample)", came)
    return gates


def _places(network: Network, x: Tensor) -> Place:
    """Of each switch (S,) its site and its unit, found by a pass over ``x`` (1, *shape)."""
    found: list[Tensor] = []
    numbers: list[int] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        found.extend(torch.arange(h[0].numel(), device=h.device) for _ in activation.kinks)
        numbers.extend(site for _ in activation.kinks)
        return real(h)

    with OnGates(rule, 1):
        network(x)
    sites = torch.cat([torch.full_like(units, site) for site, units in zip(numbers, found, strict=True)])
    return Place(sites, torch.cat(found))
