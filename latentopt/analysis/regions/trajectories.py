"""What a trajectory does to the units: flips a step, regions visited, boundaries crossed on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.analysis.regions.checks import require_batch
from latentopt.analysis.regions.patterns import flips, pattern, region_keys
from latentopt.analysis.regions.walks import walk
from latentopt.errors import InputError, positive
from latentopt.gates import Network


@dataclass(frozen=True)
class Travel:
    """A trajectory of T iterates, for each of B samples."""

    flips: Tensor  # (T - 1, B) long, units on another piece than at the iterate before
    regions: Tensor  # (B,) long, different regions that the iterates lie in
    crossings: Tensor | None  # (T - 1, B) long, boundaries crossed on the straight way of a step; None: not asked for
    complete: Tensor | None  # (T - 1, B) bool, whether a step's walk reached its end


def travel(network: Network, x: Tensor, crossings: bool = True, limit: int = 10_000, batch_size: int = 64) -> Travel:
    """What the units do along a trajectory (`latentopt.solver.callbacks.Trajectory.stacked` keeps one).

    Args:
        network: as in `latentopt.analysis.regions.boundary`; with max pooling only where ``crossings`` is False.
        x: iterates (T, B, *shape), T >= 1.
        crossings: walk along every step (`latentopt.analysis.regions.walk`), which costs two passes a crossing.
        limit: crossings after which the walk of one step stops.
        batch_size: inputs, or steps, at a time.

    Raises:
        InputError: ``x`` is not as described; or as `latentopt.analysis.regions.walk` and ``pattern``.

    >>> x = torch.tensor([[[3.0, -2.0]], [[-1.0, 2.0]], [[-1.0, 3.0]]])
    >>> found = travel(torch.nn.ReLU(), x)
    >>> found.flips[:, 0], found.regions, found.crossings[:, 0]
    (tensor([2, 0]), tensor([2]), tensor([2, 0]))
    """
    require_batch("x", x)
    if x.ndim < 3 or not len(x):
        raise InputError("x", "iterates (T, B, *shape), T >= 1", tuple(x.shape))
    positive("batch_size", batch_size, integer=True)
    walked = _walked(network, x, limit, batch_size) if crossings else (None, None)
    return Travel(*_flipped(network, x, batch_size), *walked)


def _flipped(network: Network, x: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Flips (T - 1, B) and regions (B,), with the patterns of two iterates at a time in memory."""
    counts, keys, before = list[Tensor](), list[Tensor](), None
    for iterate in x:
        now = torch.cat([pattern(network, part) for part in iterate.split(batch_size)])
        keys.append(region_keys(now))
        if before is not None:
            counts.append(flips(torch.stack([before, now])))
        before = now
    regions = [len(of_sample.unique()) for of_sample in torch.stack(keys, 1)]
    none = torch.zeros(0, x.shape[1], dtype=torch.long, device=x.device)
    return torch.cat([none, *counts]), torch.tensor(regions, device=x.device)


def _walked(network: Network, x: Tensor, limit: int, batch_size: int) -> tuple[Tensor, Tensor]:
    pairs = zip(x[:-1].flatten(0, 1).split(batch_size), x[1:].flatten(0, 1).split(batch_size), strict=True)
    walks = [walk(network, start, end, limit) for start, end in pairs if len(start)]
    steps, counts = (len(x) - 1, x.shape[1]), torch.zeros(0, dtype=torch.long, device=x.device)
    crossed = torch.cat([counts, *(one.crossings for one in walks)]).reshape(steps)
    complete = torch.cat([counts.bool(), *(one.complete for one in walks)]).reshape(steps)
    return crossed, complete
