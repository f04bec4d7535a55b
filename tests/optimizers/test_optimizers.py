from __future__ import annotations

import copy
from collections.abc import Callable
from math import cos, pi

import pytest
import torch
from loops import METHODS as NAMED
from loops import same
from nets import Counted, fitting, mlp, near, pays, rand, randn, ready, refuses, tensors
from torch import Tensor

from latentopt.optimizers import (
    ADRGD,
    CMAES,
    GD,
    LBFGS,
    PGD,
    RGD,
    Adam,
    FrankWolfe,
    FreeGates,
    LevenbergMarquardt,
    Momentum,
    Optimizer,
    PerturbedGD,
    RowNorms,
    SoftGates,
    method,
    registry,
)
from latentopt.optimizers.base import State
from latentopt.problem import Batch, Problem
from latentopt.sets import Box, BoxAndBall, FeasibleSet, Free, L2Ball, LinfBall, Sphere
from latentopt.solver.loop import solve

BUSY = FreeGates(alpha=8.0, T_p=0, delta=10.0, row_norms=RowNorms(refresh=2))  # noise at every step
METHODS: dict[str, Optimizer] = {
    **NAMED,
    "gd normalized": GD(lr=0.3, normalize=True),
    "gd linear": GD(lr=0.2, schedule="linear"),
    "adam constant": Adam(lr=0.05, schedule="constant"),
    "pgd absolute": PGD(lr=0.1, momentum=0.0, schedule="exponential", relative=False),
    "momentum raw": Momentum(lr=0.05, normalize=False, schedule="constant"),
    "nesterov": Momentum(lr=0.05, nesterov=True),
    "perturbed gd, noise often": PerturbedGD(lr=0.2, g_thres=0.9, t_thres=1),
    "perturbed gd raw": PerturbedGD(lr=0.1, g_thres=0.5, t_thres=0, normalize=False),
    "lbfgs, long first trial": LBFGS(memory=2, c1=0.4, first=5.0),
    "lm undamped": LevenbergMarquardt(damping=0.0),
    "lm without jacobian": LevenbergMarquardt(cg_above=0, cg_steps=2),
    "frank-wolfe classical": FrankWolfe(momentum=0.0),
    "basin-cma": CMAES(population=3, refine=2),
    "cma-es diagonal": CMAES(population=3, covariance="diagonal"),
    "rgd raw": RGD(lr=0.1, normalize=False, schedule="constant"),
    "adr-gd without phase": ADRGD(SoftGates(tau=0.5, phase=1.0), GD(lr=0.2)),
    "adr-gd probes and noise": ADRGD(BUSY, GD(lr=0.1, normalize=True)),
    "adr-gd exact norms": ADRGD(FreeGates(alpha=8.0, row_norms=RowNorms("exact", refresh=2)), Adam()),
}
BOX, EPS = Box(-0.4, 0.3), torch.tensor([0.0, 0.2, 0.3, 1.0])  # a radius a sample


def center(dtype: torch.dtype) -> Tensor:
    return 0.2 * rand(4, 3, seed=5, dtype=dtype) - 0.1


FEASIBLE: dict[str, Callable[[torch.dtype], FeasibleSet]] = {
    "free": lambda dtype: Free(),
    "box": lambda dtype: BOX,
    "linf": lambda dtype: LinfBall(center(dtype), EPS),
    "l2": lambda dtype: L2Ball(center(dtype), EPS),
    "box and linf": lambda dtype: BoxAndBall(BOX, LinfBall(center(dtype), EPS)),
    "box and l2": lambda dtype: BoxAndBall(BOX, L2Ball(center(dtype), EPS)),
}

PAIRS = [  # quick ones: each method in two sets, each set with a third of the methods
    pytest.param(method, in_set, id=f"{name}-{kind}", marks=[pytest.mark.slow] * ((number - place) % 3 > 0))
    for number, (name, method) in enumerate(METHODS.items())
    for place, (kind, in_set) in enumerate(FEASIBLE.items())
    if not (isinstance(method, FrankWolfe) and kind == "free")  # needs a set that ends
]
every_method_and_set = pytest.mark.parametrize(("method", "in_set"), PAIRS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def posed(feasible: FeasibleSet, dtype: torch.dtype = torch.float64) -> tuple[Batch, Tensor, Counted]:
    """A problem of 4 samples, their starts, and its network."""
    network = Counted(mlp(3, 6, 5, 2, dtype=dtype).requires_grad_(False))
    problem = ready(fitting(network, (3,), randn(4, 2, seed=1, dtype=dtype), feasible))
    return problem, feasible.project(0.2 * rand(4, 3, seed=2, dtype=dtype) - 0.1), network


@every_method_and_set
def test_a_step_is_pure(method, in_set):
    problem, x, _ = posed(in_set(torch.float64))
    state = method.init(problem, x)
    for _ in range(3):
        x_before, state_before = x.clone(), copy.deepcopy(state)
        first, second = method.step(problem, x, state), method.step(problem, x, state)
        assert torch.equal(x, x_before)
        for a, b in [(state, state_before), (first, second)]:
            assert all(same(u, v) for u, v in zip(tensors(a), tensors(b), strict=True))
        x, state = first.x, first.state


@every_method_and_set
def test_a_step_reports_the_real_network_where_it_began_and_stays_in_the_set(method, in_set):
    dtype = torch.float32
    problem, start, network = posed(in_set(dtype), dtype)
    feasible = problem.feasible
    may_move = (feasible.radius(start).expand(4, 3) > 0).any(1)
    x, state = start, method.init(problem, start)
    for _ in range(8):
        step = method.step(problem, x, state)
        near(step.evaluation.output, network(x), 1e-5)
        assert torch.equal(step.evaluation.value, problem.loss(step.evaluation.output, x))
        assert torch.equal(feasible.project(step.x), step.x)
        assert torch.equal(step.x[~may_move], start[~may_move])
        assert step.x.dtype == dtype
        assert all(values.shape == (4,) for values in step.info.values())
        assert not any(t.requires_grad for t in [step.x, *step.evaluation, *step.info.values(), *tensors(step.state)])
        x, state = step.x, step.state
    assert torch.equal((x != start).any(1), may_move)


@every_method_and_set
def test_a_batch_equals_its_samples_alone(method, in_set):
    def path(batch: Batch, x: Tensor) -> list[Tensor]:
        state, seen = method.init(batch, x), []
        for _ in range(5):
            step = method.step(batch, x, state)
            x, state = step.x, step.state
            seen += [
                step.x,
                step.evaluation.value,
                *(step.info[name] for name in step.info if name != "gain"),
            ]  # that is 0 / 0 at a minimum
        return seen

    problem, start, _ = posed(in_set(torch.float64))
    together = path(problem, start)
    for sample in range(4):
        alone = path(problem.take(torch.tensor([sample])), start[[sample]])
        for a, b in zip(together, alone, strict=True):
            near(a[[sample]], b, 1e-9)


def rows_of(state: State, rows: Tensor) -> State:
    if isinstance(state, Tensor):
        return state[rows]
    if not isinstance(state, tuple):
        return state
    parts = [rows_of(part, rows) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


@every_method_and_set
@every_dtype
def test_rows_may_leave_between_two_steps(method, in_set, dtype):
    problem, start, _ = posed(in_set(dtype), dtype)
    _, state, *_ = method.step(problem, start, method.init(problem, start))
    x, rows = problem.feasible.project(start + 0.01), torch.tensor([1, 3])
    whole, part = method.step(problem, x, state), method.step(problem.take(rows), x[rows], rows_of(state, rows))
    near(part.x, whole.x[rows], 1e-4 if dtype == torch.float32 else 1e-9)
    for a, b in zip(tensors(rows_of(whole.state, rows)), tensors(part.state), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype


@every_method_and_set
def test_the_cost_is_what_passes_through_the_network(method, in_set):
    problem, x, network = posed(in_set(torch.float64))
    state, forwards, backwards = method.init(problem, x), 0, 0
    for _ in range(6):
        step = method.step(problem, x, state)
        x, state = step.x, step.state
        forwards, backwards = forwards + step.cost.forwards, backwards + step.cost.backwards
        assert pays(method, 4 * forwards, 4 * backwards, network)


SCHEDULES: dict[str, Callable[[int], float]] = {  # over 10 steps
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t / 10,
    "quadratic": lambda t: (1 - t / 10) ** 2,
    "cosine": lambda t: (1 + cos(pi * t / 10)) / 2,
    "exponential": lambda t: 500 ** (-t / 10),
}
every_schedule = pytest.mark.parametrize(("schedule", "factor"), SCHEDULES.items())


def curvature() -> Tensor:
    return torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)


def quadratic(feasible: FeasibleSet | None = None, steps: int = 10) -> Batch:
    """Half the sum of curvature times x squared."""
    like = torch.empty(0, dtype=torch.float64)
    objective: Callable[[Tensor], Tensor] = lambda x: (curvature() * x.square()).sum(1) / 2  # noqa: E731
    return ready(Problem(lambda x: x, objective, (3,), 2, feasible, like=like), steps=steps)


@every_schedule
def test_gd_on_a_quadratic_is_its_closed_form(schedule, factor):
    problem, start = quadratic(), randn(2, 3)
    method, x, expected = GD(lr=0.2, schedule=schedule), start, start
    state = method.init(problem, x)
    for t in range(10):
        x, state, *_ = method.step(problem, x, state)
        expected = expected * (1 - 0.2 * factor(t) * curvature())
        near(x, expected, 1e-14)


def test_normalized_gd_moves_each_sample_by_its_step_size():
    problem, start = quadratic(), randn(2, 3)
    method = GD(lr=0.25, normalize=True)
    moved = method.step(problem, start, method.init(problem, start)).x - start
    gradient = curvature() * start
    near(moved, -0.25 * gradient / gradient.norm(dim=1, keepdim=True), 1e-14)
    still = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(method.step(problem, still, method.init(problem, still)).x, still)


def test_projected_gd_ends_at_the_constrained_optimum():
    feasible = Box(torch.tensor([[-1.0, 0.5, -2.0]]).double(), torch.tensor([[1.0, 2.0, -0.25]]).double())
    problem = quadratic(feasible)
    method, x = GD(lr=0.3), feasible.project(randn(2, 3))
    state = method.init(problem, x)
    for _ in range(200):
        x, state, *_ = method.step(problem, x, state)
    near(x, torch.tensor([[0.0, 0.5, -0.25]] * 2).double(), 1e-12)


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_name_stands_for_its_preset(name):
    assert isinstance(method(name), Optimizer)
    assert method(name) == (registry.METHODS["adr-gd-latent"] if name == "adr-gd" else registry.METHODS[name])()


def test_an_optimizer_stands_for_itself_and_an_unknown_name_is_refused():
    assert method(GD(lr=3)) == GD(lr=3)
    for unknown in ("sgd", GD, None):
        with refuses("optimizer"):
            method(unknown)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", [*FEASIBLE, "open box", "sphere"])
def test_adr_gd_follows_the_feasible_set(kind):
    more = {"open box": Box(0.0, torch.inf), "sphere": Sphere(2.0)}
    feasible = more[kind] if kind in more else FEASIBLE[kind](torch.float64)
    expected = ADRGD() if kind in ("free", *more) else ADRGD(SoftGates(0.25, steps=15, share=2 / 3), PGD())
    assert method("adr-gd", feasible) == expected
    if kind == "open box":  # has no radius to measure steps in
        return
    problem, x = fitting(mlp(3, 6, 5, 2), (3,), randn(4, 2, seed=1), feasible), posed(feasible)[1]
    assert torch.equal(solve(problem, "adr-gd", steps=3, start=x).x, solve(problem, expected, steps=3, start=x).x)
