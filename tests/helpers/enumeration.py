"""The exact maximum of a small chain over a box, region by region: every activation region is a polytope, kept by its
vertices, and cut by one unit's hyperplane after the other."""

from __future__ import annotations

from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from latentopt.analysis.certify.relu_chain import ReLUChain

EXACT = 1e-12
"""Pre-activations no further from zero than this, relative to the greatest, lie on the hyperplane."""


class Polytope(NamedTuple):
    """A simple polytope of n dimensions: two vertices share an edge where they lie on n - 1 common facets."""

    points: np.ndarray  # (V, n)
    facets: list[frozenset[int]]  # of each vertex, the facets that it lies on


def box(low: np.ndarray, high: np.ndarray) -> Polytope:
    corners = list(product((0, 1), repeat=len(low)))
    points = np.array([[(low, high)[side][i] for i, side in enumerate(corner)] for corner in corners])
    return Polytope(points, [frozenset(-1 - 2 * i - side for i, side in enumerate(corner)) for corner in corners])


def halves(whole: Polytope, z: np.ndarray, facet: int) -> list[tuple[Polytope, bool]]:
    """The parts where ``z`` (V,), affine and given at the vertices, is not above and not below 0, and whether above."""
    tiny = EXACT * max(np.abs(z).max(), 1e-300)
    if z.max() <= tiny or z.min() >= -tiny:
        return [(whole, bool(z.max() > tiny))]
    n, cuts, facets = whole.points.shape[1], [], []
    for a, b in combinations(range(len(z)), 2):
        common = whole.facets[a] & whole.facets[b]
        if len(common) >= n - 1 and min(z[a], z[b]) < 0 < max(z[a], z[b]):
            share = z[a] / (z[a] - z[b])
            cuts.append(whole.points[a] + share * (whole.points[b] - whole.points[a]))
            facets.append(common | {facet})
    parts = []
    for above in (False, True):
        side = [i for i, value in enumerate(z) if (value > 0) == above]
        points = np.concatenate([whole.points[side], np.array(cuts).reshape(-1, n)])
        parts.append((Polytope(points, [whole.facets[i] for i in side] + facets), above))
    return parts


def regions(chain: ReLUChain, low: np.ndarray, high: np.ndarray) -> list[tuple[Polytope, np.ndarray]]:
    """Every activation region, and the outputs (V, out) at its vertices."""
    start = box(low, high)
    polygons, facet = [(start, start.points)], 0
    for weight, bias in ((w.numpy(), b.numpy()) for w, b in chain.layers[:-1]):
        split = []
        for polytope, h in polygons:
            # Affine over the polytope: told by its vertices' values, whichever of them are cut off later.
            inputs = np.c_[polytope.points, np.ones(len(h))]
            affine = np.linalg.lstsq(inputs, h @ weight.T + bias, rcond=None)[0]
            parts = [(polytope, np.zeros(0, dtype=bool))]
            for unit in range(len(bias)):
                facet += 1
                parts = [
                    (half, np.append(gates, above))
                    for part, gates in parts
                    for half, above in halves(
                        part, np.c_[part.points, np.ones(len(part.points))] @ affine[:, unit], facet
                    )
                ]
            split += [
                (part, np.maximum((np.c_[part.points, np.ones(len(part.points))] @ affine) * gates, 0))
                for part, gates in parts
            ]
        polygons = split
    weight, bias = (part.numpy() for part in chain.layers[-1])
    return [(polytope, h @ weight.T + bias) for polytope, h in polygons]


def greatest(chain: ReLUChain, low: np.ndarray, high: np.ndarray) -> float:
    """The exact maximum of the first output, up to rounding."""
    return max(float(chain_values(chain, polytope.points).max()) for polytope, _ in regions(chain, low, high))


def chain_values(chain: ReLUChain, points: np.ndarray) -> np.ndarray:
    """The first output at points (V, n), which are vertices: a maximum over a region is at one."""
    h = points
    for weight, bias in ((w.numpy(), b.numpy()) for w, b in chain.layers[:-1]):
        h = np.maximum(h @ weight.T + bias, 0)
    weight, bias = (part.numpy() for part in chain.layers[-1])
    return (h @ weight.T + bias)[:, 0]
