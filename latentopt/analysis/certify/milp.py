"""The maximum of a chain as a mixed-integer linear program, solved by HiGHS: a binary variable for each ReLU.

Tjeng et al. 2019 (arXiv 1711.07356): of ``z`` in [l, u] across zero, ``h = relu(z)`` is ``h >= 0``, ``h >= z``,
``h <= u a``, ``h <= z - l (1 - a)`` with a in {0, 1}.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.relaxed import Relaxed
from latentopt.analysis.certify.terms import Found, Terms

FEASIBLE = 1e-6
"""HiGHS's tolerance, by which its bound is raised, relative to its size."""


@torch.no_grad()
def milp_search(chain: Chain, low: Tensor, high: Tensor, best: Found, terms: Terms) -> Found:
    """The maximum of a chain with one output over a box, as `split_search`.

    HiGHS takes no start, and its time limit is of the wall clock. Its bound holds up to its tolerances.
    """
    from scipy.optimize import Bounds, milp

    value, x = best.value, best.x
    relaxed = Relaxed(chain, torch.maximum(low.abs(), high.abs()), steps=20, every=True)
    top = float(relaxed.upper(low[None], high[None]).bound)
    if top <= terms.floor(value) or terms.done(value):
        return Found(value, max(top, value), x, 0)
    spans = [tuple(part[0].cpu().numpy() for part in span) for span in relaxed.intervals(low[None], high[None])]
    least, greatest, integral = _variables(low.cpu().numpy(), high.cpu().numpy(), spans)
    row, offset = (part[0].cpu().numpy() for part in chain.layers[-1])
    cost = np.zeros(len(least))
    cost[-2 * len(row) : -len(row)] = -row
    gap = terms.tolerance / 2 * abs(value) / max(abs(value) + abs(float(offset)), 1e-12)  # of what has no offset
    solved = milp(
        cost,
        integrality=integral,
        bounds=Bounds(least, greatest),  # pyright: ignore[reportArgumentType]
        constraints=_constraints(chain, spans),
        options={"time_limit": max(terms.until - time.process_time(), 0.1), "mip_rel_gap": gap},
    )
    if solved.x is not None:
        point = torch.as_tensor(solved.x[: chain.inputs]).to(low).clamp(low, high)
        if float(chain(point[None])) > value:
            value, x = float(chain(point[None])), point
    dual = solved.mip_dual_bound
    if dual is not None and np.isfinite(dual):
        top = min(top, float(offset - dual) + FEASIBLE * (1 + abs(float(offset - dual))))
    return Found(value, max(top, value), x, int(solved.mip_node_count or 0))


def _variables(low: np.ndarray, high: np.ndarray, spans: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest values of x, then of each layer's h and a; and which are integers."""
    least, greatest, integral = [low], [high], [np.zeros(len(low))]
    for l, u in spans:  # noqa: E741
        least += [np.maximum(l, 0), (l >= 0).astype(float)]
        greatest += [np.maximum(u, 0), (u > 0).astype(float)]
        integral += [np.zeros(len(l)), np.ones(len(l))]
    return np.concatenate(least), np.concatenate(greatest), np.concatenate(integral)


def _constraints(chain: Chain, spans: list[Any]) -> Any:
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

    total = chain.inputs + 2 * chain.units
    rows, lower, upper, before, start = [], [], [], 0, chain.inputs
    for (weight, bias), (l, u) in zip(chain.layers[:-1], spans, strict=True):  # noqa: E741
        n, b = len(bias), bias.cpu().numpy()
        behind = csr_array((n, total - start - 2 * n))
        gap = csr_array((n, start - before - weight.shape[1]))
        z = hstack([csr_array((n, before)), csr_array(weight.cpu().numpy()), gap])
        h, none = eye_array(n), csr_array((n, n))
        rows += [
            hstack([-z, h, none, behind]),  # h >= z
            hstack([csr_array((n, start)), h, -diags_array(np.maximum(u, 0)), behind]),  # h <= u a
            hstack([-z, h, -diags_array(np.minimum(l, 0)), behind]),  # h <= z - l (1 - a)
        ]
        lower += [b, np.full(n, -np.inf), np.full(n, -np.inf)]
        upper += [np.full(n, np.inf), np.zeros(n), b - np.minimum(l, 0)]
        before, start = start, start + 2 * n
    return LinearConstraint(vstack(rows).tocsr(), np.concatenate(lower), np.concatenate(upper))  # pyright: ignore[reportArgumentType]
