"""The maximum of a chain as a mixed-integer linear program, solved by HiGHS: a binary variable for each ReLU.

Tjeng et al. 2019 (arXiv 1711.07356): of ``z`` in [l, u] across zero, ``h = relu(z)`` is ``h >= 0``, ``h >= z``,
``h <= u a``, ``h <= z - l (1 - a)`` with a in {0, 1}.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.relaxed import Relaxed
from latentopt.analysis.certify.terms import Found, Terms

FLAT = 1e-4
"""A unit is scaled by no less than this share of how far below 0 it can be, lest coefficients be large."""
FEASIBLE, PRUNED = 1e-6, 1e-6
"""HiGHS's tolerance, and the gap to the best point below which it prunes; all that it works on is scaled to 1."""


@torch.no_grad()
def milp_search(chain: Chain, low: Tensor, high: Tensor, best: Found, terms: Terms) -> Found:
    """The maximum of a chain with one output over a box, as `split_search`.

    HiGHS takes no start, and its time limit is of the wall clock. Its bound is raised by more than its tolerances.
    """
    relaxed = Relaxed(chain, torch.maximum(low.abs(), high.abs()), steps=20, every=True)
    top = float(relaxed.upper(low[None], high[None]).bound)
    slack = max(best.slack, 4 * relaxed.rounding[-1])
    found = best._replace(bound=max(top, best.value), boxes=0, slack=slack)
    if top <= terms.floor(best.value) or terms.done(best.value):
        return found
    program = _program(
        chain, low, high, [(least[0], most[0]) for least, most in relaxed.intervals(low[None], high[None])]
    )
    while True:
        allowed = terms.allowance(found.value)
        found = _solved(program, found, allowed, max(terms.until - time.process_time(), 0.1))
        closed = found.bound <= terms.floor(found.value) + found.slack
        if closed or terms.done(found.value) or terms.allowance(found.value) >= allowed:
            return found  # else the better value allows a lesser gap


class _Program(NamedTuple):
    """A chain over a box, its inputs in [-1, 1], its units at most 1; minus its output is ``size`` times the cost."""

    chain: Chain
    low: Tensor  # (n,)
    high: Tensor  # (n,)
    layers: list[tuple[np.ndarray, np.ndarray]]  # scaled weight and bias of each hidden layer
    spans: list[tuple[np.ndarray, np.ndarray]]  # of the scaled pre-activations
    cost: np.ndarray  # of the inputs, and each layer's h and a
    size: float
    offset: float  # the output without its row


def _program(chain: Chain, low: Tensor, high: Tensor, spans: list[tuple[Tensor, Tensor]]) -> _Program:
    middle, behind = (low + high) / 2, ((high - low) / 2).cpu().numpy()
    first, *rest = chain.layers
    biases = [first.bias + first.weight @ middle, *(layer.bias for layer in rest)]
    layers, scaled = list[tuple[np.ndarray, np.ndarray]](), list[tuple[np.ndarray, np.ndarray]]()
    for layer, bias, span in zip(chain.layers, biases, spans, strict=False):
        least, most = (end.cpu().numpy() for end in span)
        scale = np.where(most > 0, np.maximum(most, -FLAT * least), 1.0)
        layers.append((layer.weight.cpu().numpy() * behind / scale[:, None], bias.cpu().numpy() / scale))
        scaled.append((least / scale, most / scale))
        behind = scale
    row = chain.layers[-1].weight[0].cpu().numpy() * behind
    size = max(float(np.abs(row).max()), np.finfo(float).tiny)
    cost = np.zeros(chain.inputs + 2 * chain.units)
    cost[-2 * len(row) : -len(row)] = -row / size
    return _Program(chain, low, high, layers, scaled, cost, size, float(biases[-1][0]))


def _solved(program: _Program, best: Found, allowed: float, seconds: float) -> Found:
    """What HiGHS finds, and proves up to a gap ``allowed`` in units of the output."""
    from scipy.optimize import Bounds, milp

    offset, size = program.offset, program.size
    most = max(abs(best.value - offset), abs(best.bound - offset), FEASIBLE * size)  # HiGHS knows of no offset
    gap = allowed / 2 / most
    least, greatest, integral = _variables(program.chain.inputs, program.spans)
    solved = milp(
        program.cost,
        integrality=integral,
        bounds=Bounds(least, greatest),  # pyright: ignore[reportArgumentType]
        constraints=_constraints(program.layers, program.spans),
        options={"time_limit": seconds, "mip_rel_gap": gap},
    )
    value, x, bound, slack = best.value, best.x, best.bound, best.slack
    if solved.x is not None:
        t = torch.as_tensor(solved.x[: program.chain.inputs]).to(x)
        middle, reach = (program.low + program.high) / 2, (program.high - program.low) / 2
        point = (middle + reach * t).clamp(program.low, program.high)
        if (reached := float(program.chain(point[None]))) > value:
            value, x = reached, point
    dual = solved.mip_dual_bound
    if dual is not None and np.isfinite(dual):
        # What it prunes is within its gaps of its best point, and its bound says nothing of that.
        pruned = np.inf if solved.fun is None else solved.fun - max(gap * abs(solved.fun), PRUNED)
        bound = min(bound, float(offset - size * (min(dual, pruned) - FEASIBLE * (1 + abs(dual)))))
        slack = max(slack, size * (PRUNED + FEASIBLE * (1 + abs(dual))))
    return Found(value, max(bound, value), x, best.boxes + int(solved.mip_node_count or 0), slack)


def _variables(inputs: int, spans: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest values of x, then of each layer's h and a; and which are integers."""
    least, greatest, integral = [-np.ones(inputs)], [np.ones(inputs)], [np.zeros(inputs)]
    for l, u in spans:  # noqa: E741
        least += [np.maximum(l, 0), (l >= 0).astype(float)]
        greatest += [np.maximum(u, 0), (u > 0).astype(float)]
        integral += [np.zeros(len(l)), np.ones(len(l))]
    return np.concatenate(least), np.concatenate(greatest), np.concatenate(integral)


def _constraints(layers: list[tuple[np.ndarray, np.ndarray]], spans: list[Any]) -> Any:
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array, diags_array, eye_array, hstack, vstack

    start = layers[0][0].shape[1]
    total = start + 2 * sum(len(bias) for _, bias in layers)
    rows, lower, upper, before = [], [], [], 0
    for (weight, b), (l, u) in zip(layers, spans, strict=True):  # noqa: E741
        n = len(b)
        behind = csr_array((n, total - start - 2 * n))
        gap = csr_array((n, start - before - weight.shape[1]))
        z = hstack([csr_array((n, before)), csr_array(weight), gap])
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
