"""`certify` and `certify_robustness`: exact maxima of small networks, or bounds on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isfinite
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.analysis.certify.branch_and_bound import search_by_splitting
from latentopt.analysis.certify.certificate import Certificate, CertificateStatus
from latentopt.analysis.certify.chain_problem import ChainProblem, read_problem
from latentopt.analysis.certify.milp import search_by_milp
from latentopt.analysis.certify.relu_chain import ReLUChain
from latentopt.analysis.certify.search_state import Incumbent, SearchCallback, StoppingRule
from latentopt.arguments import Values, as_tensor, checked
from latentopt.attacks.attack import attack
from latentopt.attacks.checks import attack_set
from latentopt.autodiff import outside_inference_mode
from latentopt.classification import Misclassify
from latentopt.errors import InputError, nonnegative, positive
from latentopt.networks.outputs import adapt
from latentopt.optimizers import PGD
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.solver.loop import solve
from latentopt.solver.result import Result

CertifyMethod = Literal["auto", "branch-and-bound", "milp"]
FEW_INPUTS = 16
"""Greatest number of inputs that `auto` splits."""


@renamed_keywords(seen="callback", method={"split": "branch-and-bound"})
@outside_inference_mode
@checked
def certify(
    problem: Problem,
    *,
    sample: int = 0,
    start: Values | Result | None = None,
    seconds: float = 60.0,
    tolerance: float = 1e-3,
    goal: float | None = None,
    method: CertifyMethod = "auto",
    seed: int = 0,
    callback: SearchCallback | None = None,
) -> Certificate:
    """Bound the greatest value of a problem's negated objective, and find a point that attains it.

    Args:
        problem: the network is a chain of affine layers and piecewise-linear activations; the objective is another such
            chain of its output (`latentopt.objectives.Unit`, a negated critic, a hinge) or the negated margin of a
            class (`latentopt.classification.Misclassify` with the loss ``margin``); the set is a box or an l-infinity
            ball.
        sample: index in the problem's batch.
        start: the best known point, (*shape) or (1, *shape), or a result. Default: 32 restarts of 200 steps of PGD.
        seconds: wall-clock time of the search, > 0, checked after each batch of boxes.
        tolerance: gap at which the search ends, relative to the value, >= 0. HiGHS's own tolerances, up to 1e-4 of the
            value, and rounding come on top.
        goal: only decide whether the maximum exceeds this value.
        method: ``branch-and-bound`` splits the inputs, suited to few inputs; ``milp``, a mixed-integer program, is
            suited to few units; ``auto`` chooses by the number of inputs.
        seed: of the restarts.
        callback: called with value, bound and number of boxes during the search.

    Returns:
        A certificate with value, bound and best point (*shape).

    Raises:
        InputError: an argument is not as described.

    >>> import torch
    >>> from latentopt.objectives import Unit
    >>> from latentopt.sets import Box
    >>> peak = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> weights = [[1.0], [1.0]], [0.0, -0.5], [[1.0, -2.0]], [0.0]
    >>> for parameter, values in zip(peak.parameters(), weights):
    ...     parameter.data = torch.tensor(values)
    >>> certificate = certify(Problem(peak, Unit(), (1,), 1, Box(-1.0, 1.0)))
    >>> f"{certificate.value:.3f} {certificate.status}"
    '0.500 OPTIMAL'
    """
    positive("seconds", seconds)
    nonnegative("tolerance", tolerance)
    if goal is not None and not isfinite(goal):
        raise InputError("goal", "a finite number", goal)
    if method not in get_args(CertifyMethod):
        raise InputError("method", f"one of {', '.join(get_args(CertifyMethod))}", repr(method))
    start_time = time.perf_counter()
    chains = read_problem(problem, sample)
    scale = chains.scale
    x = _starting_point(problem, sample, start, seed, chains)
    stopping = StoppingRule(start_time + seconds, tolerance, None if goal is None else goal / scale)

    def report(value: float, bound: float, boxes: int) -> None:
        line.update(boxes - line.done, f"value {scale * value:.4g}, bound {scale * bound:.4g}")
        if callback:
            callback(scale * value, scale * bound, boxes)

    free = chains.high > chains.low
    if method == "auto":
        method = "branch-and-bound" if int(free.sum()) <= FEW_INPUTS else "milp"
    with ProgressLine("certify", None, "box") as line:
        best = _maximize(chains, x, free, stopping, method, report)
    with torch.no_grad():
        chains.check(best.x[None])
    point, elapsed = best.x.reshape(chains.shape), time.perf_counter() - start_time
    return Certificate(
        scale * best.value, scale * best.bound, point, _status(best, stopping), method, best.boxes, elapsed
    )


def _starting_point(
    problem: Problem, sample: int, start: Values | Result | None, seed: int, chains: ChainProblem
) -> Tensor:
    """Return the first point, (n,) float64, in the box."""
    if start is None:
        start = solve(problem, PGD(), steps=200, restarts=32, seed=seed)
    if isinstance(start, Result):
        start = start.x[sample]
    start = as_tensor("start", start, chains.low)
    if tuple(start.shape) not in (chains.shape, (1, *chains.shape)) or not bool(start.isfinite().all()):
        raise InputError("start", f"a finite point of shape {chains.shape}", f"shape {tuple(start.shape)}")
    return start.flatten().clamp(chains.low, chains.high)


def _maximize(
    chains: ChainProblem, x: Tensor, free: Tensor, stopping: StoppingRule, method: str, callback: SearchCallback | None
) -> Incumbent:
    """Maximise the chains one after the other, each within its share of the time that is left."""
    best = Incumbent(float(chains.value(x[None])), -torch.inf, x, 0)
    for index, chain in enumerate(chains.chains):
        now = time.perf_counter()
        share = stopping._replace(deadline=now + (stopping.deadline - now) / (len(chains.chains) - index))
        incumbent = _maximize_chain(chain, chains, free, best, share, method, callback)
        bound, boxes = max(best.bound, incumbent.bound), best.boxes + incumbent.boxes
        best = incumbent._replace(bound=bound, boxes=boxes)
    return best._replace(bound=max(best.bound, best.value))


def _maximize_chain(
    chain: ReLUChain,
    chains: ChainProblem,
    free: Tensor,
    best: Incumbent,
    stopping: StoppingRule,
    method: str,
    callback: SearchCallback | None,
) -> Incumbent:
    """Maximise one chain over its ``free`` (n,) inputs; the others are constants."""
    if not bool(free.any()):
        return best._replace(bound=best.value, boxes=0)
    part, low, high, inner = chain.restrict(best.x, free), chains.low[free], chains.high[free], best.x[free]
    if method == "branch-and-bound":
        incumbent = search_by_splitting(part, low, high, best._replace(x=inner), stopping, callback)
    else:
        incumbent = search_by_milp(part, low, high, best._replace(x=inner), stopping)
    return incumbent._replace(x=best.x.masked_scatter(free, incumbent.x))


def _status(best: Incumbent, stopping: StoppingRule) -> CertificateStatus:
    if stopping.goal is None:
        is_closed = best.bound <= stopping.limit(best.value, best.slack)
        return CertificateStatus.OPTIMAL if is_closed else CertificateStatus.TIME
    if best.value > stopping.goal:
        return CertificateStatus.ABOVE
    return CertificateStatus.BELOW if best.bound <= stopping.goal else CertificateStatus.TIME


@renamed_keywords(method={"split": "branch-and-bound"})
@outside_inference_mode
@checked
def certify_robustness(
    model: Callable[[Tensor], Any],
    x: Values,
    y: Values,
    eps: Values,
    *,
    seconds: float = 60.0,
    method: CertifyMethod = "auto",
    seed: int = 0,
) -> list[Certificate]:
    """Decide for each image whether another class's logit exceeds the label's within ``eps`` of it.

    Args:
        model: as in `latentopt.attack`, and a chain as in `certify`.
        x: inputs (B, *shape) in the model's range.
        y: their classes (B,) long.
        eps: radius of the l-infinity ball, >= 0: a number, one a sample (B,), or one for each feature, as in
            `latentopt.attack`.
        seconds: wall-clock time for each image, > 0.
        method: as in `certify`.
        seed: of the attack.

    Returns:
        A certificate of the margin for each of the B images. Its status is ABOVE where an adversarial input exists
        (``x`` is one), BELOW where none exists (at most a tie), and TIME where neither is known.

    Raises:
        InputError: as `latentopt.attack` and `certify`.
    """
    attacked = attack(model, x, y, eps, optimizer="apgd", loss="margin", restarts=4, steps=50, seed=seed)
    x = attacked.clean
    ball = attack_set(model, x, eps if isinstance(eps, int | float) else attacked.eps, "linf")
    network = adapt(model, "model", is_classifier=True)
    problem = Problem(network, Misclassify("margin", attacked.labels), x.shape[1:], len(x), ball, like=x)
    with ProgressLine("certify_robustness", len(x), "image") as line:
        return [
            certify(problem, sample=index, start=start, seconds=seconds, goal=0.0, method=method)
            for index, start in line.over(enumerate(attacked.x))
        ]
