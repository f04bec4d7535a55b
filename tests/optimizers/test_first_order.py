"""The first-order methods against torch.optim, closed forms and steps written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from nets import near, path, rand, randn, ready, refuses
from test_optimizers import every_schedule, posed, quadratic
from torch import Tensor

from latentopt.noise import Noise
from latentopt.optimizers import (
    ADRGD,
    GD,
    PGD,
    RGD,
    Adagrad,
    Adam,
    Momentum,
    PerturbedGD,
    RMSProp,
    SoftGates,
)
from latentopt.optimizers.base import Schedule, scheduled
from latentopt.problem import Batch, Problem
from latentopt.sets import Box, BoxAndBall, FeasibleSet, Free, L2Ball, LinfBall
from latentopt.solver.loop import solve

NAN, INF = float("nan"), float("inf")
BOUNDS = -1 - rand(4, 3, seed=1), 1 + rand(4, 3, seed=2)


def minimising(
    objective: Callable[[Tensor], Tensor], x: Tensor, feasible: FeasibleSet | None = None, steps: int = 10
) -> Batch:
    """The problem of the least ``objective`` of an input like ``x`` (B, n)."""
    return ready(Problem(lambda y: y, objective, x.shape[1:], len(x), feasible, like=x), steps=steps)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    {
        "constant": [1, 1, 1, 1],
        "linear": [1, 0.75, 0.5, 0],
        "quadratic": [1, 0.5625, 0.25, 0],
        "cosine": [1, (1 + 0.5**0.5) / 2, 0.5, 0],
        "exponential": [1, 500**-0.25, 500**-0.5, 1 / 500],
    }.items(),
)
def test_the_schedules(schedule: Schedule, factors: Sequence[float]):
    assert [scheduled(schedule, t, 8) for t in (0, 2, 4, 8)] == pytest.approx(factors, abs=1e-15)
    assert scheduled(schedule, 20, 8) == scheduled(schedule, 8, 8)


THEIRS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    **{
        f"adam of betas {betas}": (Adam(0.05, betas, eps=1e-8), torch.optim.Adam, {"betas": betas, "eps": 1e-8})
        for betas in [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)]
    },
    "momentum": (Momentum(0.05, 0.9, normalize=False), torch.optim.SGD, {"momentum": 0.9}),
    "momentum of 0": (Momentum(0.05, 0.0, normalize=False), torch.optim.SGD, {}),
    "nesterov": (
        Momentum(0.05, 0.7, nesterov=True, normalize=False),
        torch.optim.SGD,
        {"momentum": 0.7, "nesterov": True},
    ),
    "adagrad": (Adagrad(0.05, eps=1e-8), torch.optim.Adagrad, {"eps": 1e-8}),
    "rmsprop": (RMSProp(0.05, alpha=0.9, eps=1e-8), torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-8}),
    "rmsprop of alpha 0": (RMSProp(0.05, alpha=0.0, eps=1e-8), torch.optim.RMSprop, {"alpha": 0.0, "eps": 1e-8}),
}


@every_schedule
@pytest.mark.parametrize("name", THEIRS)
def test_the_steps_are_those_of_torch(name, schedule, factor):
    method, kind, settings = THEIRS[name]
    method = replace(method, schedule=schedule)
    problem, start, network = posed(Free())
    theirs = start.clone().requires_grad_()
    reference = kind([theirs], lr=0.05, **settings)
    for t, x in enumerate(path(method, problem, start, 20 if schedule == "constant" else 10)[1:]):
        reference.zero_grad()
        reference.param_groups[0]["lr"] = 0.05 * factor(t)
        problem.loss(network(theirs), theirs).sum().backward()
        reference.step()
        near(x, theirs.detach(), 1e-12)


def test_normalized_momentum_adds_up_directions():
    problem, x = quadratic(), randn(2, 3)
    m = torch.zeros(2, 3, dtype=torch.float64)
    for after in path(Momentum(0.1, 0.8, normalize=True, schedule="constant"), problem, x, 5)[1:]:
        g = problem.gradient(x)[1]
        m = 0.8 * m + g / g.norm(dim=1, keepdim=True)
        x = x - 0.1 * m
        near(after, x, 1e-14)


@pytest.mark.parametrize("method", [Adagrad(), RMSProp()])
def test_a_coordinate_without_gradient_stays(method):
    x = randn(2, 3)
    problem = minimising(lambda y: y[:, 0], x)
    for after in path(method, problem, x, 3)[1:]:
        assert torch.equal(after[:, 1:], x[:, 1:])
        assert (after[:, 0] < x[:, 0]).all()


LINEAR: dict[str, FeasibleSet] = {
    "box": Box(-1.0, 2.0),
    "box of tensors": Box(*BOUNDS),
    "linf": LinfBall(rand(4, 3, seed=3), torch.tensor([0.1, 0.0, 1.0, 5.0])),
    "box and linf": BoxAndBall(Box(-0.5, 1.5), LinfBall(rand(4, 3, seed=3), 1.0)),
}


@pytest.mark.parametrize("feasible", LINEAR.values(), ids=LINEAR)
def test_one_step_across_the_set_ends_at_the_optimum_of_a_linear_function(feasible):
    w = randn(3)
    x = feasible.project(rand(4, 3, seed=4))
    after = path(PGD(lr=2.0), minimising(lambda y: y @ w, x, feasible), x, 1)[1]
    near(after, feasible.lmo(w.expand(4, 3)), 1e-15)


def test_on_an_l2_ball_a_step_of_the_radius_from_the_centre_is_the_optimum_of_a_linear_function():
    w, center, eps = randn(3), randn(4, 3, seed=1), torch.tensor([0.1, 0.0, 1.0, 5.0], dtype=torch.float64)
    after = path(PGD(lr=1.0), minimising(lambda y: y @ w, center, L2Ball(center, eps)), center, 1)[1]
    near(after, center - eps[:, None] * w / w.norm(), 1e-15)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_written_out(norm, relative):
    """Momentum of unit gradients first, then the sign or the unit vector, each sample by itself."""
    lr, eps, steps, center = 0.4, [0.5, 2.0], 8, 0.1 * randn(2, 3, seed=7)
    feasible = (LinfBall if norm == "linf" else L2Ball)(center, torch.tensor(eps))
    problem = quadratic(feasible, steps)
    start = center + 0.1 * randn(2, 3, seed=8)
    seen = path(PGD(lr, momentum=0.5, relative=relative), problem, start, steps)
    for sample in range(2):
        x, m = start[sample], torch.zeros(3, dtype=torch.float64)
        for t in range(steps):
            g = torch.tensor([0.5, 1.0, 3.0]).double() * x
            m = 0.5 * m + g / g.norm()
            s = m.sign() if norm == "linf" else m / m.norm()
            step = lr * (1 - t / steps) ** 2 * (eps[sample] if relative else 1)
            offset = x - step * s - center[sample]
            if norm == "linf":
                offset = offset.clamp(-eps[sample], eps[sample])
            else:
                offset = offset * min(1.0, eps[sample] / offset.norm().item())
            x = center[sample] + offset
            near(seen[t + 1][sample], x, 1e-12)


def test_pgd_scales_with_the_box():
    start, w = 0.3 * randn(4, 3), randn(3)
    small = path(PGD(), minimising(lambda y: (y @ w).sin(), start, Box(-1.0, 1.0)), start, 10)
    wide = path(PGD(), minimising(lambda y: (y / 4 @ w).sin(), start, Box(-4.0, 4.0)), 4 * start, 10)
    for a, b in zip(small, wide, strict=True):
        assert torch.equal(4 * a, b)


def test_the_reference_schedule_of_pgd():
    # Step .5 -> .001 on [-1, 1]^n, whose radius is 1: the last of many steps is .001 long.
    start = torch.zeros(1, 2, dtype=torch.float64)
    problem = minimising(lambda y: (y - 0.3).abs().sum(1), start, Box(-1.0, 1.0), steps=2000)
    seen = path(PGD(lr=0.5, momentum=0.0, schedule="exponential"), problem, start, 2000)
    assert (seen[1] - seen[0]).tolist() == [[0.5, 0.5]]
    assert (seen[-1] - seen[-2]).abs().max().item() == pytest.approx(0.001, rel=0.004)
    near(seen[-1], torch.full((1, 2), 0.3).double(), 0.001)


@pytest.mark.parametrize("feasible", [Box(0.0, INF), Box(torch.tensor([[-INF, 0.0, 0.0]]), 1.0)])
def test_relative_steps_need_a_radius(feasible):
    start = torch.full((2, 3), 0.5, dtype=torch.float64)
    problem = quadratic(feasible)
    with refuses("feasible"):
        PGD().init(problem, start)
    near(path(PGD(0.1, relative=False), problem, start, 1)[1], start - 0.1, 1e-15)


def saddle(x: Tensor) -> Tensor:
    return x[:, 0].square() - x[:, 1].square()


@pytest.mark.parametrize("normalize", [False, True])
def test_perturbed_gd_leaves_a_saddle_where_gd_stays(normalize):
    start = torch.zeros(3, 2, dtype=torch.float64)
    problem = minimising(saddle, start, Box(-1.0, 1.0), steps=100)
    assert torch.equal(path(GD(0.1, normalize), problem, start, 100)[-1], start)
    end = path(PerturbedGD(0.1, r=0.01, normalize=normalize), problem, start, 100)[-1]
    near(saddle(end), torch.full((3,), -1.0).double(), 1e-3)  # the least value in the box, at (0, +-1)


def test_the_noise_comes_when_its_clock_allows():
    start = randn(2, 3)
    problem = minimising(lambda y: 0 * y.sum(1), start, steps=12)  # no gradient anywhere
    seen = path(PerturbedGD(r=0.1, t_thres=3), problem, start, 12)
    moved = [after - before for before, after in pairwise(seen)]
    assert [t for t, step in enumerate(moved) if step.any()] == [0, 4, 8]
    assert all((step.norm(dim=1) <= 0.1).all() for step in moved)
    assert torch.cosine_similarity(moved[0], moved[4]).max() < 0.99  # another noise
    assert torch.equal(path(PerturbedGD(r=0.1, t_thres=0), problem, start, 1)[1], seen[1])


def test_the_noise_is_uniform_in_its_ball():
    start = torch.zeros(4000, 3, dtype=torch.float64)
    problem = replace(minimising(lambda y: 0 * y.sum(1), start), noise=Noise(0, torch.arange(4000)))
    noise = path(PerturbedGD(r=2.0), problem, start, 1)[1]
    volume = (noise.norm(dim=1) / 2).pow(3)
    assert volume.max() <= 1
    assert volume.mean().item() == pytest.approx(0.5, abs=0.02)
    assert volume.var().item() == pytest.approx(1 / 12, abs=0.005)
    near(noise.mean(0), torch.zeros(3).double(), 0.06)


def test_only_flat_samples_get_noise_and_each_has_its_own_clock():
    # Of gradient norms |x| the first is below the threshold from the start, the second after some steps, the third
    # never.
    start = torch.tensor([[0.05], [0.2], [4.0]], dtype=torch.float64)
    problem = minimising(lambda y: y.square().sum(1) / 2, start, steps=8)
    method = PerturbedGD(lr=0.5, r=1e-3, g_thres=0.1, t_thres=2, normalize=False, schedule="constant")
    seen = path(method, problem, start, 4)
    noisy = [[not torch.equal(after[i], before[i] / 2) for i in range(3)] for before, after in pairwise(seen)]
    assert noisy == [[True, False, False], [False, True, False], [False, False, False], [True, False, False]]


def test_normalized_perturbed_gd_measures_flatness_by_the_steepest_gradient_met():
    scale = torch.tensor([1e-6, 1e6], dtype=torch.float64)
    start = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    problem = minimising(lambda y: scale * y.square().sum(1), start, steps=20)
    seen = path(PerturbedGD(lr=0.3, g_thres=0.2, r=0.5), problem, start, 20)
    for x in seen:
        near(x[0], x[1], 1e-9)  # whatever the scale of the objective
    without = path(GD(0.3, True, schedule="cosine"), problem, start, 20)
    assert not torch.equal(seen[-1], without[-1])


def test_rgd_hides_what_the_projection_cuts_off():
    # f = (x - 3)^2 / 2 on [-1, 1]: gradients -3, then -2 as long as x = 1.
    start = torch.zeros(1, 1, dtype=torch.float64)
    problem = minimising(lambda y: (y - 3).square().sum(1) / 2, start, Box(-1.0, 1.0))
    method = RGD(lr=1.0, normalize=False, schedule="constant")
    x, state, hidden = start, method.init(problem, start), []
    for _ in range(4):
        x, state, *_ = method.step(problem, x, state)
        hidden.append(state.v.item())
        assert x.item() == 1
    assert hidden == [3, 5, 7, 9]


@every_schedule
@pytest.mark.parametrize("normalize", [False, True])
def test_rgd_on_a_linear_function_is_its_closed_form(normalize, schedule, factor):
    w, start, feasible = randn(3), 0.3 * randn(4, 3), L2Ball(torch.zeros(4, 3).double(), 0.9)
    start = feasible.project(start)
    problem = minimising(lambda y: y @ w, start, feasible)
    seen = path(RGD(0.2, normalize, schedule), problem, start, 10)
    for t, x in enumerate(seen):
        v = start - 0.2 * sum(factor(k) for k in range(t)) * (w / w.norm() if normalize else w)
        near(x, v * (0.9 / v.norm(dim=1, keepdim=True)).clamp_max(1), 1e-14)


def test_rgd_differs_from_projected_gradient_descent_once_the_set_binds():
    start = torch.zeros(1, 2, dtype=torch.float64)
    problem = minimising(lambda y: 4 * y[:, 0] + (y[:, 1] - 1).square(), start, L2Ball(start, 1.0))
    hidden, plain = (path(method, problem, start, 3) for method in (RGD(0.25, False, "constant"), GD(0.25)))
    assert torch.equal(hidden[1], plain[1])  # v = (-1, .5): outside, so x = v / |v|
    v = torch.tensor([[-1.0, 0.5]]).double()
    for t in (2, 3):
        v = v - 0.25 * torch.stack([torch.tensor(4.0), 2 * (hidden[t - 1][0, 1] - 1)])
        near(hidden[t], v / v.norm(), 1e-14)
    assert (hidden[3] - plain[3]).norm() > 0.01


def test_the_gates_of_adr_gd_may_move_by_any_of_them():
    for descent in (PGD(), Momentum(), Adagrad(), RMSProp(), PerturbedGD(), RGD()):
        problem, x, _ = posed(Box(-0.4, 0.3))
        method = ADRGD(SoftGates(), descent)
        assert len(path(method, problem, x, 3)) == 4


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
@pytest.mark.parametrize("bounded", [False, True])
def test_in_a_euclidean_ball_a_method_that_scales_coordinates_reaches_the_optimum_too(name, bounded):
    """A linear function is least at ``-eps g / |g|``; steps along ``g / |g_i|`` would end at 3/4 of that depth."""
    W = randn(1, 20, seed=4)
    center = torch.zeros(3, 20, dtype=torch.float64)
    ball = L2Ball(center, torch.tensor([0.5, 1.0, 2.0]))
    feasible = BoxAndBall(Box(-9.0, 9.0), ball) if bounded else ball
    problem = Problem(lambda x: x @ W.T, lambda value: value[:, 0], (20,), 3, feasible, like=center)
    found = solve(problem, name, steps=200, start=center)
    exact = -torch.tensor([0.5, 1.0, 2.0]).double() * W.norm()
    torch.testing.assert_close(found.value, exact, rtol=1e-6, atol=0)
