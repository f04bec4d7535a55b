"""Statistics of a trajectory's units: flips of each step, regions visited, boundaries crossed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.analysis.checks import require_batch
from latentopt.analysis.regions.boundaries import walk
from latentopt.analysis.regions.patterns import flips, pattern, region_keys
from latentopt.arguments import Values
from latentopt.errors import InputError, positive
from latentopt.gates import Network
from latentopt.results import SavedResult


@dataclass(frozen=True, repr=False)
class TrajectoryStatistics(SavedResult):
    """The units along a trajectory of T iterates of B samples."""

    flips: Tensor  # (T - 1, B) long, units on another piece than at the iterate before
    regions: Tensor  # (B,) long, number of different regions of the iterates
    crossings: Tensor | None  # (T - 1, B) long, boundaries crossed on a step's straight segment; None: not counted
    complete: Tensor | None  # (T - 1, B) bool, whether a step's walk reached its end


def trajectory_statistics(
    network: Network, x: Values, crossings: bool = True, limit: int = 10_000, batch_size: int = 64
) -> TrajectoryStatistics:
    """Count flips, regions and crossings along a trajectory, such as `latentopt.solver.callbacks.Trajectory` records.

    Args:
        network: as in `latentopt.analysis.regions.boundary`; with max pooling only where ``crossings`` is False.
        x: iterates (T, B, *shape), T >= 1.
        crossings: walk along every step (`latentopt.analysis.regions.walk`), which costs two passes a crossing.
        limit: crossings after which the walk of one step stops.
        batch_size: inputs, or steps, at a time.

    Raises:
        InputError: ``x`` is not as described; or as `latentopt.analysis.regions.walk` and ``pattern``.

    >>> x = torch.tensor([[[3.0, -2.0]], [[-1.0, 2.0]], [[-1.0, 3.0]]])
    >>> statistics = trajectory_statistics(torch.nn.ReLU(), x)
    >>> statistics.flips[:, 0], statistics.regions, statistics.crossings[:, 0]
    (tensor([2, 0]), tensor([2]), tensor([2, 0]))
    """
    x = require_batch("x", x)
    if x.ndim < 3 or not len(x):
        raise InputError("x", "iterates (T, B, *shape), T >= 1", tuple(x.shape))
    positive("batch_size", batch_size, integer=True)
    counts = _count_crossings(network, x, limit, batch_size) if crossings else (None, None)
    return TrajectoryStatistics(*_count_flips(network, x, batch_size), *counts)


def _count_flips(network: Network, x: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return flips (T - 1, B) and regions (B,), with the patterns of two iterates at a time in memory."""
    counts, keys, previous = [torch.zeros(0, x.shape[1], dtype=torch.long, device=x.device)], list[Tensor](), None
    for iterate in x:
        current = torch.cat([pattern(network, part) for part in iterate.split(batch_size)])
        keys.append(region_keys(current))
        if previous is not None:
            counts.append(flips(torch.stack([previous, current])))
        previous = current
    regions = [len(of_sample.unique()) for of_sample in torch.stack(keys, 1)]
    return torch.cat(counts), torch.tensor(regions, device=x.device)


def _count_crossings(network: Network, x: Tensor, limit: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return crossings and completeness (T - 1, B) of every step's walk."""
    pairs = zip(x[:-1].flatten(0, 1).split(batch_size), x[1:].flatten(0, 1).split(batch_size), strict=True)
    walks = [walk(network, start, end, limit) for start, end in pairs if len(start)]
    shape, empty = (len(x) - 1, x.shape[1]), torch.zeros(0, dtype=torch.long, device=x.device)
    crossings = torch.cat([empty, *(part.crossings for part in walks)]).reshape(shape)
    return crossings, torch.cat([empty.bool(), *(part.complete for part in walks)]).reshape(shape)
