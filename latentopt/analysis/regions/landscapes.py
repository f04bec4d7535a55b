"""Landscapes: objective and regions on a two-dimensional slice of an input space."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentopt.analysis.checks import require_batch, require_like
from latentopt.analysis.regions.patterns import pattern, region_keys
from latentopt.errors import InputError, positive
from latentopt.gates import Network
from latentopt.networks.freezing import frozen
from latentopt.reports import Row
from latentopt.results import ResultDisplay, rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Slice:
    """The plane ``origin + a u + b v`` of an input space; its points' coordinates are (a, b).

    Args:
        origin: (*shape).
        u: (*shape); and ``v``, not parallel.
        v: (*shape).

    Raises:
        InputError: the tensors' shapes differ, one is not finite, or u and v span no plane.
    """

    origin: Tensor
    u: Tensor
    v: Tensor

    def __post_init__(self) -> None:
        require_batch("origin", self.origin[None])
        for name, tensor in (("u", self.u), ("v", self.v)):
            require_like(name, tensor[None], self.origin[None])
        u, v = self.u.flatten(), self.v.flatten()
        sine = (1 - (u @ v) ** 2 / ((u @ u) * (v @ v))).clamp_min(0).sqrt()  # NaN where one is 0
        if not bool(sine > 1e-4):
            raise InputError("v", "a direction not parallel to u, both other than 0", f"sine of their angle {sine:.2g}")

    def points(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inputs (N, *shape) with the coordinates ``a`` and ``b``, each (N,)."""
        ones = [1] * self.origin.ndim
        return self.origin + a.reshape(-1, *ones) * self.u + b.reshape(-1, *ones) * self.v

    def coordinates(self, x: Tensor) -> Tensor:
        """Return the coordinates (N, 2) of the plane's points nearest to inputs (N, *shape)."""
        basis = torch.stack([self.u.flatten(), self.v.flatten()])  # (2, n)
        return (x - self.origin).flatten(1) @ basis.T @ torch.linalg.inv(basis @ basis.T)

    def distance(self, x: Tensor) -> Tensor:
        """Return the Euclidean distances (N,) of inputs (N, *shape) from the plane."""
        return torch.linalg.vector_norm((x - self.points(*self.coordinates(x).T)).flatten(1), dim=1)


def slice_through(origin: Tensor, first: Tensor, second: Tensor) -> Slice:
    """Return the slice through three inputs (*shape), with orthonormal axes: ``u`` points from ``origin`` to ``first``.

    Raises:
        InputError: as `Slice`; the three lie on one line.
    """
    skew = Slice(origin, first - origin, second - origin)
    u, v = skew.u, skew.v
    u = u / torch.linalg.vector_norm(u)
    v = v - (v * u).sum() * u
    return Slice(origin, u, v / torch.linalg.vector_norm(v))


@dataclass(frozen=True, repr=False)
class Landscape(ResultDisplay):
    """Objective and regions on a slice's grid: row i has the i-th coordinate b, column j the j-th coordinate a."""

    slice: Slice
    a: Tensor  # (R,)
    b: Tensor  # (R,)
    values: Tensor  # (R, R) of the objective
    regions: Tensor  # (R, R) long, numbers of the regions, from 0
    count: int  # number of the points' regions; smaller ones can lie between points

    @property
    def rows(self) -> list[Row]:
        """One row for each point of the grid: its coordinates, value and region."""
        b, a = torch.meshgrid(self.b, self.a, indexing="ij")
        columns = {"a": a, "b": b, "value": self.values, "region": self.regions}
        return rows_of({name: column.flatten() for name, column in columns.items()})

    def summary(self) -> dict[str, Any]:
        """Return the number of points and regions, and the least and greatest value, by name."""
        low, high = self.values.aminmax()
        return {"points": self.values.numel(), "regions": self.count, "least": float(low), "greatest": float(high)}

    def _draw(self, figure: Figure) -> None:
        from latentopt.analysis.regions.landscape_figure import draw_landscape

        draw_landscape(figure, self)


@torch.no_grad()
def landscape(
    network: Network,
    objective: Callable[[Tensor], Tensor],
    origin: Tensor,
    u: Tensor,
    v: Tensor,
    extent: float | Extent = 1.0,
    resolution: int = 200,
    layers: Collection[int] | None = None,
    batch_size: int = 1024,
) -> Landscape:
    """Compute objective and regions of a network on a slice of its inputs, as in Figure 1 of arXiv 2406.00494.

    Args:
        network: any with a `latentopt.analysis.regions.pattern`. Never changed.
        objective: maps outputs (N, ...) to (N,).
        origin: an input (*shape).
        u: direction of the first coordinate, (*shape).
        v: direction of the second.
        extent: greatest coordinate in units of u and v, the least is -extent; or (a low, a high, b low, b high).
        resolution: points along each coordinate, >= 2.
        layers: sites whose units define the regions, as in `pattern`; None: all. In a large network every point of the
            grid has a region of its own, but few units of the last layer change.
        batch_size: points at a time.

    Raises:
        InputError: as `Slice` and `pattern`; or the objective does not return a number for each output.
    """
    plane = Slice(origin, u, v)
    for name, size in (("resolution", resolution), ("batch_size", batch_size)):
        positive(name, size, integer=True)
    low_a, high_a, low_b, high_b = _extent(extent)
    if resolution < 2:
        raise InputError("resolution", "an integer >= 2", resolution)
    a = torch.linspace(low_a, high_a, resolution, dtype=origin.dtype, device=origin.device)
    b = torch.linspace(low_b, high_b, resolution, dtype=origin.dtype, device=origin.device)
    down, along = torch.meshgrid(b, a, indexing="ij")
    values, keys = list[Tensor](), list[Tensor]()
    for part_a, part_b in zip(along.flatten().split(batch_size), down.flatten().split(batch_size), strict=True):
        x = plane.points(part_a, part_b)
        keys.append(region_keys(pattern(network, x, layers)))
        with frozen(network):
            output = network(x)
            values.append(objective(output))
        if values[-1].shape != output.shape[:1]:
            expected = f"a number for each output, shape ({len(output)},)"
            raise InputError("objective", expected, tuple(values[-1].shape))
    regions = torch.cat(keys).unique(return_inverse=True)[1].reshape(resolution, resolution)
    return Landscape(plane, a, b, torch.cat(values).reshape(resolution, resolution), regions, int(regions.max()) + 1)


def _extent(extent: float | Extent) -> Extent:
    low_a, high_a, low_b, high_b = (-extent, extent, -extent, extent) if isinstance(extent, int | float) else extent
    if not (low_a < high_a and low_b < high_b and all(abs(e) < float("inf") for e in (low_a, high_a, low_b, high_b))):
        raise InputError("extent", "a number > 0, or finite (a low, a high, b low, b high), rising", extent)
    return low_a, high_a, low_b, high_b
