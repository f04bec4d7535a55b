"""`certify`: how far the best point known is from the true optimum, on small networks."""

from __future__ import annotations

import time
from math import isfinite
from typing import Literal, get_args

import torch
from torch import Tensor

from latentopt.analysis.certify.certificate import Certificate, Status
from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.milp import milp_search
from latentopt.analysis.certify.question import Question, question
from latentopt.analysis.certify.split import split_search
from latentopt.analysis.certify.terms import Found, Seen, Terms
from latentopt.errors import InputError, nonnegative, positive
from latentopt.optimizers import PGD
from latentopt.problem import Problem
from latentopt.solver.loop import solve
from latentopt.solver.result import Result

Method = Literal["auto", "split", "milp"]
FEW = 16
"""Inputs up to which `auto` splits them."""


def certify(
    problem: Problem,
    *,
    sample: int = 0,
    start: Tensor | Result | None = None,
    seconds: float = 60.0,
    tolerance: float = 1e-3,
    goal: float | None = None,
    method: Method = "auto",
    seed: int = 0,
    seen: Seen | None = None,
) -> Certificate:
    """The greatest value of minus a problem's objective: a point that has it, and a bound that no point exceeds.

    Args:
        problem: the network a chain of affine layers and piecewise-linear activations, the objective another such chain
            of its output (`latentopt.objectives.Unit`, minus a critic's value, a hinge) or minus the margin of a class
            (`latentopt.classification.Misclassify` with the loss ``margin``), the set a box or an l-infinity ball.
        sample: which of its batch.
        start: the best point known, (*shape) or (1, *shape), or a result; None: 32 restarts of 200 steps of PGD.
        seconds: of CPU, > 0, that the search may take; it looks at the clock after each batch of boxes.
        tolerance: the gap at which it ends, relative to the value, >= 0. HiGHS's own tolerances, up to 1e-4 of the
            value, and rounding come on top.
        goal: asks only whether the maximum exceeds it.
        method: ``split`` the inputs, right where they are few; ``milp``, a mixed-integer program, where units are few;
            ``auto`` chooses by the number of inputs.
        seed: of the restarts.
        seen: told value, bound and number of boxes as the search goes.

    Raises:
        InputError: an argument is not as described.

    >>> import torch
    >>> from latentopt.objectives import Unit
    >>> from latentopt.sets import Box
    >>> peak = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> for parameter, values in zip(peak.parameters(), ([[1.0], [1.0]], [0.0, -0.5], [[1.0, -2.0]], [0.0])):
    ...     parameter.data = torch.tensor(values)
    >>> found = certify(Problem(peak, Unit(), (1,), 1, Box(-1.0, 1.0)))
    >>> f"{found.value:.3f} {found.status}"
    '0.500 OPTIMAL'
    """
    positive("seconds", seconds)
    nonnegative("tolerance", tolerance)
    if goal is not None and not isfinite(goal):
        raise InputError("goal", "a finite number", goal)
    if method not in get_args(Method):
        raise InputError("method", f"one of {', '.join(get_args(Method))}", repr(method))
    begun = time.process_time()
    asked = question(problem, sample)
    x = _start(problem, sample, start, seed, asked)
    unit = asked.unit
    terms = Terms(begun + seconds, tolerance, None if goal is None else goal / unit)
    watch = seen and (lambda value, bound, boxes: seen(unit * value, unit * bound, boxes))
    found, used = _answered(asked, x, terms, method, watch)
    with torch.no_grad():
        asked.check(found.x[None])
    value, bound, point = unit * found.value, unit * found.bound, found.x.reshape(asked.shape)
    return Certificate(value, bound, point, _status(found, terms), used, found.boxes, time.process_time() - begun)


def _start(problem: Problem, sample: int, start: Tensor | Result | None, seed: int, asked: Question) -> Tensor:
    """The point to begin with, (n,) float64, in the box."""
    if start is None:
        start = solve(problem, PGD(), steps=200, restarts=32, seed=seed)
    if isinstance(start, Result):
        start = start.x[sample]
    if tuple(start.shape) not in (asked.shape, (1, *asked.shape)) or not bool(start.isfinite().all()):
        raise InputError("start", f"a finite point of shape {asked.shape}", f"shape {tuple(start.shape)}")
    return start.detach().flatten().to(asked.low).clamp(asked.low, asked.high)


def _answered(asked: Question, x: Tensor, terms: Terms, method: Method, seen: Seen | None) -> tuple[Found, str]:
    """The maximum over the rows of a question, each in its share of the time that is left."""
    free = asked.high > asked.low
    used = method if method != "auto" else "split" if int(free.sum()) <= FEW else "milp"
    found = Found(float(asked.value(x[None])), -torch.inf, x, 0)
    for at, chain in enumerate(asked.chains):
        now = time.process_time()
        share = terms._replace(until=now + (terms.until - now) / (len(asked.chains) - at))
        row = _over_free(chain, asked, free, found, share, used, seen)
        found = Found(row.value, max(found.bound, row.bound), row.x, found.boxes + row.boxes, row.slack)
    return found._replace(bound=max(found.bound, found.value)), used


def _over_free(
    chain: Chain, asked: Question, free: Tensor, best: Found, terms: Terms, method: str, seen: Seen | None
) -> Found:
    """The maximum of one row, the inputs whose sides have no length being constants."""
    if not bool(free.any()):
        return best._replace(bound=best.value, boxes=0)
    low, high, inner = asked.low[free], asked.high[free], best._replace(x=best.x[free])
    if method == "split":
        found = split_search(chain.at(best.x, free), low, high, inner, terms, seen)
    else:
        found = milp_search(chain.at(best.x, free), low, high, inner, terms)
    return found._replace(x=best.x.masked_scatter(free, found.x))


def _status(found: Found, terms: Terms) -> Status:
    if terms.goal is not None:
        return Status.ABOVE if found.value > terms.goal else Status.BELOW if found.bound <= terms.goal else Status.TIME
    return Status.OPTIMAL if found.bound <= terms.limit(found.value, found.slack) else Status.TIME
