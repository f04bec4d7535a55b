"""Maximises a chain as a mixed-integer linear program, solved by HiGHS: one binary variable for each ReLU.

Tjeng et al. 2019 (arXiv 1711.07356): for ``z`` in [l, u] across zero, ``h = relu(z)`` is ``h >= 0``, ``h >= z``,
``h <= u a``, ``h <= z - l (1 - a)`` with a in {0, 1}.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentopt.analysis.certify.crown import Crown
from latentopt.analysis.certify.highs_output import STDOUT
from latentopt.analysis.certify.relu_chain import ReLUChain
from latentopt.analysis.certify.search_state import Incumbent, StoppingRule

FLAT = 1e-4
"""A unit is scaled by at least this share of its least pre-activation, to avoid large coefficients."""
FEASIBLE, PRUNED = 1e-6, 1e-6
"""HiGHS's tolerance, and the gap to the best point below which it prunes; its variables are scaled to 1."""


@torch.no_grad()
def search_by_milp(chain: ReLUChain, low: Tensor, high: Tensor, best: Incumbent, stopping: StoppingRule) -> Incumbent:
    """Maximise a chain with one output over a box, as `search_by_splitting`.

    HiGHS takes no start. Its bound is raised by more than its tolerances.
    """
    crown = Crown(chain, torch.maximum(low.abs(), high.abs()), steps=20, every=True)
    bound = float(crown.bound(low[None], high[None]).bound)
    slack = max(best.slack, 4 * crown.rounding[-1])
    incumbent = best._replace(bound=max(bound, best.value), boxes=0, slack=slack)
    if bound <= stopping.floor(best.value) or stopping.is_over(best.value):
        return incumbent
    program = _formulate(chain, low, high, crown)
    while True:
        gap = stopping.allowed_gap(incumbent.value)
        incumbent = _solve(program, incumbent, gap, max(stopping.deadline - time.perf_counter(), 0.1))
        is_closed = incumbent.bound <= stopping.limit(incumbent.value, incumbent.slack)
        if is_closed or stopping.is_over(incumbent.value) or stopping.allowed_gap(incumbent.value) >= gap:
            return incumbent  # else the better value allows a lesser gap


class _MixedIntegerProgram(NamedTuple):
    """A chain over a box as ``offset - size * cost @ v``.

    v holds x scaled to [-1, 1], then each undecided ReLU's h scaled to at most 1, then a gate for each of these.
    """

    chain: ReLUChain
    low: Tensor  # (n,)
    high: Tensor  # (n,)
    z: np.ndarray  # (units, n + units) pre-activations as functions of x and earlier units, over their scales
    bias: np.ndarray  # (units,)
    least: np.ndarray  # (units,) < 0, of z
    most: np.ndarray  # (units,) > 0
    cost: np.ndarray  # (n + 2 units,)
    size: float
    offset: float
    rounding: float  # upper bound on the rounding of these sums


def _formulate(chain: ReLUChain, low: Tensor, high: Tensor, crown: Crown) -> _MixedIntegerProgram:
    """Formulate the program of the undecided units; the others are affine in earlier ones, or 0."""
    middle, radius = ((high + low) / 2).cpu().numpy(), ((high - low) / 2).cpu().numpy()
    spans = [
        (lower[0].cpu().numpy(), upper[0].cpu().numpy()) for lower, upper in crown.intervals(low[None], high[None])
    ]
    opened = [(lower < 0) & (upper > 0) for lower, upper in spans]
    count, width = len(middle), len(middle) + sum(int(split.sum()) for split in opened)
    slope, offset = np.diag(radius), middle  # of the last layer's h by x and the units so far
    slope = np.pad(slope, ((0, 0), (0, width - count)))
    parts = list[tuple[np.ndarray, ...]]()
    for layer, (lower, upper), split in zip(chain.layers, spans, opened, strict=False):
        weight, bias = (part.cpu().numpy() for part in layer)
        slope, offset = weight @ slope, weight @ offset + bias
        scale = np.maximum(upper, -FLAT * lower)[split]
        parts.append((slope[split] / scale[:, None], *(part[split] / scale for part in (offset, lower, upper))))
        on = lower >= 0
        slope, offset = np.where(on[:, None], slope, 0.0), np.where(on, offset, 0.0)
        slope[split, np.arange(count, count + len(scale))] = scale
        count += len(scale)
    weight, bias = (part[0].cpu().numpy() for part in chain.layers[-1])
    row = weight @ slope
    size = max(float(np.abs(row).max()), np.finfo(float).tiny)
    cost = np.pad(-row / size, (0, width - len(middle)))
    z, known, lower, upper = (np.concatenate(part) for part in zip(*parts, strict=True))
    constant = float(weight @ offset + bias)
    return _MixedIntegerProgram(chain, low, high, z, known, lower, upper, cost, size, constant, crown.rounding[-1])


def _solve(program: _MixedIntegerProgram, best: Incumbent, allowed: float, seconds: float) -> Incumbent:
    """Run HiGHS up to a gap ``allowed`` in units of the output."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    offset, size, n = program.offset, program.size, program.chain.inputs
    scale = max(abs(best.value - offset), abs(best.bound - offset), FEASIBLE * size)  # HiGHS knows no offset
    gap, units = allowed / 2 / scale, len(program.most)
    ends = (np.r_[-np.ones(n), np.zeros(2 * units)], np.r_[np.ones(n), program.most, np.ones(units)])
    with STDOUT.filtered():
        solution = milp(
            program.cost,
            integrality=np.r_[np.zeros(n + units), np.ones(units)],
            bounds=Bounds(*ends),  # pyright: ignore[reportArgumentType]
            constraints=LinearConstraint(*_constraints(program)) if units else (),  # pyright: ignore[reportArgumentType]
            options={"time_limit": seconds, "mip_rel_gap": gap},
        )
    value, x, bound, slack = best.value, best.x, best.bound, best.slack
    if solution.x is not None:
        t = torch.as_tensor(solution.x[:n]).to(x)
        middle, radius = (program.low + program.high) / 2, (program.high - program.low) / 2
        point = (middle + radius * t).clamp(program.low, program.high)
        if (reached := float(program.chain(point[None]))) > value:
            value, x = reached, point
    dual = solution.mip_dual_bound
    if dual is not None and np.isfinite(dual):
        # It prunes nodes within its gaps of its best point, and its bound ignores them.
        pruned = np.inf if solution.fun is None else solution.fun - max(gap * abs(solution.fun), PRUNED)
        raised = size * FEASIBLE * (1 + abs(dual)) + program.rounding
        bound = min(bound, offset - size * min(dual, pruned) + raised)
        slack = max(slack, size * PRUNED + raised)
    return Incumbent(value, max(bound, value), x, best.boxes + int(solution.mip_node_count or 0), slack)


def _constraints(program: _MixedIntegerProgram) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return rows, least and greatest values of ``h >= z``, ``h <= u a``, ``h <= z - l (1 - a)``."""
    from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

    bias, lower, upper = program.bias, program.least, program.most
    units = len(upper)
    h = hstack([csr_array((units, program.chain.inputs)), eye_array(units)])
    above = h - csr_array(program.z)
    rows = [
        hstack([above, csr_array((units, units))]),
        hstack([h, -diags_array(upper)]),
        hstack([above, -diags_array(lower)]),
    ]
    infinite = np.full(units, np.inf)
    return vstack(rows).tocsr(), np.r_[bias, -infinite, -infinite], np.r_[infinite, np.zeros(units), bias - lower]
