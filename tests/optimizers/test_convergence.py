"""Methods that find their own steps, on problems whose optimum is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from nets import near, rand, randn, ready
from scipy.optimize import minimize
from torch import Tensor

from latentopt import APGD, CMAES, LBFGS, FrankWolfe, Problem, solve
from latentopt.optimizers.apgd import checkpoints
from latentopt.sets import Box, BoxAndBall, FeasibleSet, L2Ball, LinfBall

N = 8


def matrix() -> Tensor:
    """Symmetric, eigenvalues from 1 to 100."""
    basis = torch.linalg.qr(randn(N, N, seed=3)).Q
    return basis @ torch.diag(torch.logspace(0, 2, N, dtype=torch.float64)) @ basis.T


def quadratic(centers: Tensor, feasible: FeasibleSet | None = None) -> Problem:
    """``(x - c)' A (x - c) / 2`` of each sample."""

    class Quadratic:
        def __init__(self, c: Tensor) -> None:
            self.c = c

        def __call__(self, x: Tensor) -> Tensor:
            return (((x - self.c) @ matrix()) * (x - self.c)).sum(1) / 2

        def take(self, rows: Tensor) -> Quadratic:
            return Quadratic(self.c[rows])

    return Problem(lambda x: x, Quadratic(centers), (N,), len(centers), feasible, like=centers)


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[:, 1:] - x[:, :-1].square()).square() + (1 - x[:, :-1]).square()).sum(1)


def test_lbfgs_reaches_the_optimum_of_a_quadratic():
    centers = randn(3, N, seed=1) * torch.tensor([[1.0], [10.0], [1e3]], dtype=torch.float64)
    result = solve(quadratic(centers), LBFGS(), steps=80, start=torch.zeros(3, N).double())
    near(result.x / centers.norm(dim=1, keepdim=True), centers / centers.norm(dim=1, keepdim=True), 1e-7)


def test_lbfgs_needs_about_as_many_evaluations_as_scipy_on_rosenbrock():
    start = np.array([-1.2, 1.0])
    value_and_slope: Callable = lambda x: _numpy(rosenbrock, x)  # noqa: E731
    theirs = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-8})
    problem = Problem(lambda x: x, rosenbrock, (2,), 1, like=torch.zeros(1).double())
    result = solve(problem, LBFGS(), steps=2 * theirs.nfev, start=torch.tensor(start)[None])
    assert result.value.item() < 1e-10


def _numpy(function: Callable[[Tensor], Tensor], x: np.ndarray) -> tuple[float, np.ndarray]:
    point = torch.tensor(x)[None].requires_grad_()
    value = function(point).sum()
    return value.item(), torch.autograd.grad(value, point)[0][0].numpy()


def test_lbfgs_in_a_box_ends_at_scipys_optimum():
    centers = 2 * randn(3, N, seed=5)
    result = solve(quadratic(centers, Box(-1.0, 0.5)), LBFGS(), steps=200, start=torch.zeros(3, N).double())
    for sample in range(3):
        one = quadratic(centers[[sample]])
        theirs = minimize(
            lambda x, one=one: _numpy(one.objective, x),
            np.zeros(N),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-1.0, 0.5)] * N,
            options={"ftol": 1e-15, "gtol": 1e-10},
        )
        assert result.value[sample].item() == pytest.approx(theirs.fun, rel=1e-7)


def test_lbfgs_shortens_a_trial_that_is_not_finite():
    def barrier(x: Tensor) -> Tensor:  # least at 1; not a number below 0
        return (x - x.log()).sum(1)

    problem = Problem(lambda x: x, barrier, (1,), 1, like=torch.zeros(1).double())
    result = solve(problem, LBFGS(first=50.0), steps=60, start=torch.tensor([[6.0]]).double())
    near(result.x, torch.ones(1, 1).double(), 1e-6)
    assert result.history["loss"].isnan().any()  # it did meet some


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_frank_wolfe_falls_as_its_bound_says(momentum):
    """``f(x_t) - f* <= 2 L D^2 / (t + 2)``, L the largest eigenvalue and D the diameter (Jaggi 2013, Theorem 1)."""
    center, eps = randn(2, N, seed=6), 0.7
    problem = quadratic(center, L2Ball(torch.zeros(2, N).double(), eps))
    best = solve(problem, LBFGS(), steps=300, start=torch.zeros(2, N).double()).value
    result = solve(problem, FrankWolfe(momentum), steps=400, start=torch.zeros(2, N).double())
    gap = result.history["loss"][1:, 0] - best
    t = torch.arange(1, 400).double()[:, None]
    assert (gap > -1e-9).all()
    slack = 1 if momentum == 0 else 3
    assert (gap <= slack * 2 * 100 * (2 * eps) ** 2 / (t + 2)).all()


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_cma_es_reaches_the_optimum_without_gradients(covariance):
    center = randn(2, 4, seed=7)
    problem = Problem(lambda x: x, lambda x: (x - center[:1]).square().sum(1), (4,), 1, like=center)
    result = solve(problem, CMAES(covariance=covariance), steps=250, start=torch.zeros(1, 4).double())
    assert result.value.item() < 1e-9
    assert result.backwards.item() == 0


def test_cma_es_learns_a_covariance():
    problem = Problem(lambda x: x, rosenbrock, (4,), 1, like=torch.zeros(1).double())
    result = solve(problem, CMAES(), steps=600, start=torch.zeros(1, 4).double())
    assert result.value.item() < 1e-9


@pytest.mark.slow
def test_basin_cma_finds_the_lowest_of_many_basins_where_neither_part_does():
    """Rastrigin's function in four dimensions: a minimum at every point of a grid, the lowest at the centre."""
    center = rand(4, seed=3)

    def rastrigin(x):
        v = 4 * (x - center)
        return (v.square() - 10 * (2 * torch.pi * v).cos() + 10).sum(1)

    problem = Problem(lambda x: x, rastrigin, (4,), 1, like=center)
    seeds = range(5)
    basin = [solve(problem, CMAES(sigma=1.0, refine=10), steps=25, seed=s) for s in seeds]
    descent = [solve(problem, LBFGS(memory=10), steps=500, seed=s).value.item() for s in seeds]
    assert sum(result.value.item() < 1e-6 for result in basin) >= 4
    assert min(descent) > 1
    assert {(int(r.forwards), int(r.backwards)) for r in basin} == {(25 * 9 * 11 + 2, 25 * 9 * 10)}


def test_cma_es_finds_an_optimum_on_the_border():
    problem = Problem(lambda x: x, lambda x: x.sum(1), (5,), 1, Box(-1.0, 2.0), like=torch.zeros(1).double())
    result = solve(problem, CMAES(), steps=150)
    near(result.value, torch.tensor([-5.0]).double(), 1e-6)


def apgd_by_hand(
    gradient: Callable, project: Callable, steepest: Callable, eps: float, x: Tensor, steps: int
) -> tuple[list[Tensor], int]:
    """Algorithm 1 of arXiv 2003.01690 for one sample, minimising; also how often it halved."""
    eta, marks = 2 * eps, checkpoints(steps)
    best, best_x, last_x, values, halvings = torch.inf, x, x, [], 0
    mark_best, was_halved, path, lowered, since = torch.inf, False, [], 0, 0
    for t in range(steps):
        path.append(x)
        value, grad = gradient(x)
        lowered += bool(values) and value < values[-1]
        values.append(value)
        if value < best:
            best, best_x = value, x
        if t == 0:
            mark_best = best
        elif t in marks:
            halve = lowered < 0.75 * (t - since) or (not was_halved and best == mark_best)
            if halve:
                eta, x, halvings = eta / 2, best_x, halvings + 1
                _, grad = gradient(x)
                values[-1] = best
            was_halved, mark_best, lowered, since = halve, best, 0, t
        z = project(x - eta * steepest(grad))
        last_x, x = x, project(z if t == 0 else x + 0.75 * (z - x) + 0.25 * (x - last_x))
    return path, halvings


def value_and_gradient(problem: Problem, x: Tensor) -> tuple[float, Tensor]:
    here, grad = problem.whole().gradient(x[None])
    return here.value.item(), grad[0]


@pytest.mark.parametrize("kind", ["linf", "l2", "box and linf", "box and l2"])
def test_apgd_is_its_algorithm_written_out(kind):
    centers, eps = randn(3, N, seed=8), 0.3
    middle = 0.2 * rand(3, N, seed=9)
    ball = (LinfBall if "linf" in kind else L2Ball)(middle, eps)
    feasible = BoxAndBall(Box(-0.05, 0.25), ball) if "box" in kind else ball
    problem = ready(quadratic(centers, feasible), steps=60)
    method, x = APGD(), middle
    state, ours = method.init(problem, x), []
    for _ in range(60):
        ours.append(x)
        x, state, *_ = method.step(problem, x, state)
    halvings = 0
    for sample in range(3):
        own = feasible.take(torch.tensor([sample]))
        project: Callable = lambda x, own=own: own.project(x[None])[0]  # noqa: E731
        steepest: Callable = lambda g: g.sign() if "linf" in kind else g / g.norm()  # noqa: E731
        alone = partial(value_and_gradient, quadratic(centers[[sample]]))
        path, times = apgd_by_hand(alone, project, steepest, eps, middle[sample], 60)
        halvings += times
        near(torch.stack(ours)[:, sample], torch.stack(path), 1e-7)
    assert halvings > 0


@pytest.mark.parametrize(
    ("function", "n"), [(rosenbrock, 4), pytest.param(lambda x: x.square().sum(1), 10, marks=pytest.mark.slow)]
)
def test_cma_es_needs_about_as_many_evaluations_as_pycma(function, n):
    """Of three seeds each, the medians of what it takes from (.5, ..., .5) to 1e-8."""
    import cma

    theirs, population = [], 4 + int(3 * np.log(n))
    for seed in (1, 2, 3):
        options = {"seed": seed, "verbose": -9, "ftarget": 1e-8, "popsize": population}
        search = cma.CMAEvolutionStrategy(np.full(n, 0.5), 0.3, options)
        search.optimize(lambda x: function(torch.tensor(x)[None]).item())
        theirs.append(search.result.evaluations)
    problem = Problem(lambda x: x, function, (n,), 1, like=torch.zeros(1).double())
    start = torch.full((1, n), 0.5).double()
    losses = [solve(problem, CMAES(0.3), steps=500, start=start, seed=seed).history["loss"] for seed in range(3)]
    ours = [int((loss[:, 0] < 1e-8).nonzero()[0, 0]) * (population + 1) for loss in losses]
    assert np.median(ours) < 1.3 * np.median(theirs)
