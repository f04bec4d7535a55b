from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nets import near, rand, randn, refuses
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor, nn

import latentopt as lo
from latentopt.noise import Noise
from latentopt.sets import Box, BoxAndBall, FeasibleSet, Free, L1Ball, L2Ball, LinfBall

CENTER = 1.8 * rand(4, 3, seed=1) - 0.9
LOW, HIGH = -1 - rand(4, 3, seed=2), 1 + rand(4, 3, seed=3)
EACH = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)  # one radius a sample, times eps
NARROW = 0.3  # half the side of a box around the centre that cuts the ball


def box(x: Tensor, eps: float) -> Tensor:
    return x.abs() - 1


def wide(x: Tensor, eps: float) -> Tensor:
    return torch.maximum(LOW - x, x - HIGH)


def narrow(x: Tensor, eps: float) -> Tensor:
    return (x - CENTER).abs() - NARROW


def linf(x: Tensor, eps: float) -> Tensor:
    return (x - CENTER).abs() - eps


def linf_each(x: Tensor, eps: float) -> Tensor:
    return (x - CENTER).abs() - eps * EACH[:, None]


def l2(x: Tensor, eps: float) -> Tensor:
    return (x - CENTER).norm(dim=1) - eps


def l1(x: Tensor, eps: float) -> Tensor:
    return (x - CENTER).abs().sum(1) - eps


def l2_each(x: Tensor, eps: float) -> Tensor:
    return (x - CENTER).norm(dim=1) - eps * EACH


def cut() -> Box:
    return Box(CENTER - NARROW, CENTER + NARROW)


# Each set of radius eps, and by how much a point violates each of its constraints.
Violation = Callable[[Tensor, float], Tensor]
SETS: dict[str, tuple[Callable[[float], FeasibleSet], list[Violation]]] = {
    "free": (lambda eps: Free(), []),
    "box": (lambda eps: Box(-1.0, 1.0), [box]),
    "box of tensors": (lambda eps: Box(LOW, HIGH), [wide]),
    "linf": (lambda eps: LinfBall(CENTER, eps), [linf]),
    "linf, a radius a sample": (lambda eps: LinfBall(CENTER, eps * EACH), [linf_each]),
    "l1": (lambda eps: L1Ball(CENTER, eps), [l1]),
    "l2": (lambda eps: L2Ball(CENTER, eps), [l2]),
    "l2, a radius a sample": (lambda eps: L2Ball(CENTER, eps * EACH), [l2_each]),
    "box and linf": (lambda eps: BoxAndBall(Box(-1.0, 1.0), LinfBall(CENTER, eps)), [box, linf]),
    "box and l2": (lambda eps: BoxAndBall(Box(-1.0, 1.0), L2Ball(CENTER, eps)), [box, l2]),
    "narrow box and l2": (lambda eps: BoxAndBall(cut(), L2Ball(CENTER, eps)), [narrow, l2]),
}
BALLS = [name for name in SETS if name not in ("free", "box", "box of tensors")]

every_set = pytest.mark.parametrize("name", list(SETS))
points = arrays(np.float64, (4, 3), elements=st.floats(-4, 4, width=32)).map(torch.tensor)
radii = st.floats(0, 2)


def violation(name: str, x: Tensor, eps: float) -> float:
    return max([v(x, eps).max().item() for v in SETS[name][1]], default=0.0)


@every_set
@given(x=points, y=points, eps=radii)
def test_projection_is_idempotent_and_non_expansive_and_lands_inside(name, x, y, eps):
    feasible = SETS[name][0](eps)
    at_x, at_y = feasible.project(x), feasible.project(y)
    assert violation(name, at_x, eps) <= 1e-12
    assert torch.equal(feasible.project(at_x), at_x)
    assert ((at_x - at_y).norm(dim=1) <= (x - y).norm(dim=1) + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e3])  # far from the origin a coordinate's rounding is large beside eps
@pytest.mark.parametrize("boxed", [False, True])
def test_a_projection_on_an_l2_ball_lies_in_it_whatever_the_rounding(dtype, offset, boxed):
    center = offset + randn(2000, 50, dtype=dtype)
    eps = 10 ** (5 * rand(2000, seed=1, dtype=dtype) - 4)
    ball = L2Ball(center, eps)
    feasible = BoxAndBall(Box(center - 0.1, center + 0.1), ball) if boxed else ball
    x = center + 10 * randn(2000, 50, seed=2, dtype=dtype)
    at_x = feasible.project(x)
    distance = (at_x - center).norm(dim=1)
    assert (distance <= eps).all()
    assert torch.equal(feasible.project(at_x), at_x)
    if not boxed:
        ulp = torch.finfo(dtype).eps * center.norm(dim=1)
        assert (distance >= eps * (1 - 8 * torch.finfo(dtype).eps) - 8 * ulp).all()


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_projection_where_the_ball_just_touches_an_edge_of_the_box(stopped):
    # The box stops the first coordinates as they reach the ball: rounding leaves nothing certain for the others, so
    # small that they make no difference.
    high = 0.05 + 0.25 * rand(2000, 5)
    x = 10 ** (3 * rand(2000, 5, seed=1) - 12)
    x[:, :stopped] = 0.3 + 4 * rand(2000, stopped, seed=2)
    edge = high.clone()
    edge[:, stopped:] = 0
    for ulps in range(-4, 5):
        ball = L2Ball(torch.zeros_like(x), edge.norm(dim=1) * (1 + ulps * 1.1e-16))
        near(BoxAndBall(Box(-high, high), ball).project(x), edge, 1e-7)


@pytest.mark.parametrize("ball", [LinfBall, L2Ball, L1Ball])
def test_a_point_of_a_ball_is_left_as_it_is(ball):
    center = randn(100, 7, dtype=torch.float32)
    x = center + 0.05 * randn(100, 7, seed=1, dtype=torch.float32)
    assert torch.equal(ball(center, 1.0).project(x), x)


@every_set
@given(x=points, y=points, eps=radii)
def test_projection_is_the_nearest_point(name, x, y, eps):
    # p is nearest to x in a convex set if and only if (x - p)(q - p) <= 0 for every q of the set.
    feasible = SETS[name][0](eps)
    p, q = feasible.project(x), feasible.project(y)
    assert ((x - p) * (q - p)).sum(1).max() <= 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_projection_on_box_and_l2_ball_agrees_with_a_constrained_solver(seed):
    center, eps = CENTER[:1], 0.8
    x = 3 * randn(1, 3, seed=seed)
    found = minimize(
        lambda y: ((y - x[0].numpy()) ** 2).sum(),
        center[0].numpy(),
        bounds=[(-1, 1)] * 3,
        constraints={"type": "ineq", "fun": lambda y: eps**2 - ((y - center[0].numpy()) ** 2).sum()},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    near(BoxAndBall(Box(-1.0, 1.0), L2Ball(center, eps)).project(x), torch.tensor(found.x)[None], 1e-6)


def test_projection_on_box_and_l2_ball_where_both_bind():
    center = torch.zeros(1, 2, dtype=torch.float64)
    feasible = BoxAndBall(Box(-2.0, 0.5), L2Ball(center, 0.6))
    edge = feasible.project(torch.tensor([[0.1, 3.0]], dtype=torch.float64))  # only the box binds
    near(edge, torch.tensor([[0.1, 0.5]], dtype=torch.float64), 1e-12)
    both = feasible.project(torch.tensor([[9.0, 3.0]], dtype=torch.float64))
    near(both, torch.tensor([[0.5, 0.11**0.5]], dtype=torch.float64), 1e-12)  # .5^2 + .11 = .6^2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BALLS)
def test_a_ball_of_radius_zero_is_its_centre(name, dtype):
    feasible = SETS[name][0](0.0)
    assert torch.equal(feasible.project(5 * randn(4, 3)), CENTER)
    assert torch.equal(feasible.project(CENTER), CENTER)
    assert torch.equal(feasible.sample(CENTER, Noise(0, torch.zeros(4, dtype=torch.long))), CENTER)


@every_set
def test_random_points_lie_inside_and_differ_between_restarts(name):
    feasible = SETS[name][0](0.7)
    first, second = (feasible.sample(CENTER, Noise(0, torch.full((4,), restart))) for restart in (0, 1))
    assert max(violation(name, first, 0.7), violation(name, second, 0.7)) <= 1e-12
    assert (first - second).norm(dim=1).min() > 1e-3


def spread(feasible: FeasibleSet) -> Tensor:
    return feasible.sample(torch.empty(20_000, 3, dtype=torch.float64), Noise(0, torch.arange(20_000)))


def test_random_points_are_spread_as_documented():
    center = torch.full((1, 3), 0.25, dtype=torch.float64)
    near(spread(Free(0.2)).std(0), torch.full((3,), 0.2).double(), 0.005)
    for uniform in (spread(Box(-0.75, 1.25)), spread(LinfBall(center, 1.0))):
        near(uniform.mean(0), center[0], 0.02)
        near(uniform.var(0), torch.full((3,), 1 / 3).double(), 0.02)
    radius = (spread(L2Ball(center, 2.0)) - center).norm(dim=1)
    assert (radius / 2).pow(3).mean().item() == pytest.approx(0.5, abs=0.01)  # uniform in volume
    assert (radius / 2).pow(3).var().item() == pytest.approx(1 / 12, abs=0.005)
    radius = (spread(L1Ball(center, 2.0)) - center).abs().sum(1)
    assert (radius / 2).pow(3).mean().item() == pytest.approx(0.5, abs=0.01)


@every_set
def test_taking_rows_is_slicing(name):
    feasible, x, rows = SETS[name][0](0.7), 2 * randn(4, 3), torch.tensor([3, 0, 3])
    taken = feasible.take(rows)
    assert taken.norm == feasible.norm
    assert torch.equal(taken.project(x[rows]), feasible.project(x)[rows])
    assert torch.equal(taken.radius(x[rows]).expand(3, 3), feasible.radius(x).expand(4, 3)[rows])
    assert torch.equal(taken.steepest(x[rows]), feasible.steepest(x)[rows])
    restart = torch.tensor([5, 6, 7, 8])
    near(taken.sample(x[rows], Noise(0, restart[rows])), feasible.sample(x, Noise(0, restart))[rows], 1e-15)
    if name != "free":
        assert torch.equal(taken.lmo(x[rows]), feasible.lmo(x)[rows])


def test_a_bound_of_batch_one_serves_every_row():
    shared, rows = Box(LOW[:1], HIGH[:1]), torch.tensor([1, 0, 2])
    x = 3 * randn(3, 3)
    assert torch.equal(shared.take(rows).project(x), Box(LOW[[0] * 3], HIGH[[0] * 3]).project(x))


def test_random_points_have_the_dtype_asked_for():
    like, draws = torch.empty(4, 3, dtype=torch.float32), Noise(0, torch.zeros(4, dtype=torch.long))
    assert Box(LOW, HIGH).sample(like, draws).dtype == torch.float32


NORMS = {name: "l2" if name in ("free", "l1") or "l2" in name else "linf" for name in SETS}
BOUNDED = [name for name in SETS if name != "free"]


@every_set
@given(grad=points, other=points)
def test_the_steepest_step_has_norm_1_and_the_greatest_rise(name, grad, other):
    feasible = SETS[name][0](0.7)
    assert feasible.norm == NORMS[name]
    order, dual = (float("inf"), 1) if NORMS[name] == "linf" else (2, 2)
    step, length = feasible.steepest(grad), other.norm(order, dim=1, keepdim=True)
    assert step.norm(order, dim=1).max() <= 1 + 1e-12
    rise = (grad * step).sum(1)
    near(rise, grad.norm(dual, dim=1), 1e-12)
    assert (rise >= (grad * other / length.clamp_min(1)).sum(1) - 1e-12).all()  # any other step of norm <= 1


@pytest.mark.parametrize("name", BOUNDED)
@given(grad=points, other=points, eps=radii)
def test_the_extreme_point_is_the_least_of_all(name, grad, other, eps):
    feasible = SETS[name][0](eps)
    extreme = feasible.lmo(grad)
    assert violation(name, extreme, eps) <= 1e-12
    rows = torch.arange(4).repeat(100)
    many = feasible.take(rows).project(torch.cat([other, 3 * randn(396, 3, seed=5)]))
    assert ((grad * extreme).sum(1)[rows] <= (grad[rows] * many).sum(1) + 1e-10).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("eps", [0.3, 0.8, 1.5, 3.0])
def test_the_extreme_point_of_box_and_l2_ball_meets_its_dual_bound(seed, eps):
    # For every mu > 0 the least of <g, x> + mu / 2 (||x - c||^2 - eps^2) over the box bounds <g, x> on the set from
    # below, and the greatest bound is attained.
    c, g = CENTER[seed].numpy(), randn(3, seed=seed).numpy()

    def dual(log_mu: float) -> float:
        mu = np.exp(log_mu)
        x = np.clip(c - g / mu, -1, 1)
        return g @ x + mu / 2 * ((x - c) @ (x - c) - eps**2)

    found: Any = minimize_scalar(lambda log_mu: -dual(log_mu), bounds=(-30, 10), options={"xatol": 1e-10})
    extreme = BoxAndBall(Box(-1.0, 1.0), L2Ball(CENTER[[seed]], eps)).lmo(torch.tensor(g)[None])
    assert g @ extreme[0].numpy() == pytest.approx(-found.fun, abs=1e-9)


def test_the_extreme_points_written_out():
    grad = torch.tensor([[3.0, -4.0]])
    center = torch.tensor([[1.0, 2.0]])
    assert Box(-1.0, torch.tensor([[5.0, 6.0]])).lmo(grad).tolist() == [[-1, 6]]
    assert LinfBall(center, 0.5).lmo(grad).tolist() == [[0.5, 2.5]]
    near(L2Ball(center, 5.0).lmo(grad), torch.tensor([[-2.0, 6.0]]), 1e-6)
    assert BoxAndBall(Box(0.75, 9.0), LinfBall(center, 0.5)).lmo(grad).tolist() == [[0.75, 2.5]]
    near(BoxAndBall(Box(-9.0, 5.0), L2Ball(center, 5.0)).lmo(grad), torch.tensor([[-3.0, 5.0]]), 1e-5)


def test_the_radius_is_how_far_a_set_reaches():
    like = torch.empty(4, 3, dtype=torch.float64)
    assert Free(0.5).radius(like).item() == pytest.approx(0.5 * 3**0.5, rel=1e-15)
    assert Box(-1.0, 2.0).radius(like).item() == 1.5
    near(Box(LOW, HIGH).radius(like), (HIGH - LOW) / 2, 0)
    for ball in (LinfBall, L2Ball):
        for feasible in (ball(CENTER, EACH), BoxAndBall(Box(-1.0, 1.0), ball(CENTER, EACH))):
            assert torch.equal(feasible.radius(like), EACH[:, None])
    grad = randn(4, 3)
    for feasible in (Box(LOW, HIGH), LinfBall(CENTER, EACH)):
        reach = (feasible.lmo(-grad) - feasible.lmo(grad)) / 2
        near(reach.abs(), feasible.radius(grad).expand(4, 3), 1e-15)
    near((L2Ball(CENTER, EACH).lmo(grad) - CENTER).norm(dim=1), EACH, 1e-15)


@pytest.mark.parametrize("feasible", [Free(), Box(0.0, float("inf")), Box(torch.tensor([[0.0, -float("inf")]]), 1.0)])
def test_a_set_that_is_open_has_no_extreme_point(feasible):
    with refuses("feasible"):
        feasible.lmo(torch.ones(1, 2))


@pytest.mark.parametrize("ball", [LinfBall, L2Ball])
@pytest.mark.parametrize(
    "eps", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, -0.1, 0.1, 0.1]), torch.tensor([0.1, float("nan")])]
)
def test_a_radius_that_is_negative_or_not_finite_is_refused(ball, eps):
    with refuses("eps"):
        ball(CENTER, eps)


@pytest.mark.parametrize(
    "bounds", [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("nan")), (LOW, LOW - 1), (LOW, LOW * float("nan"))]
)
def test_an_empty_box_is_refused(bounds):
    with refuses("Box"):
        Box(*bounds)


@pytest.mark.parametrize("ball", [LinfBall, L2Ball])
def test_a_ball_whose_centre_lies_outside_the_box_is_refused(ball):
    with refuses("center"):
        BoxAndBall(Box(0.0, 1.0), ball(torch.tensor([[0.5, 1.1]]), 5.0))
    with refuses("center"):
        BoxAndBall(Box(0.0, 1.0), ball(torch.tensor([[0.5, float("nan")]]), 5.0))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "apgd", "frank-wolfe", "cma-es"])
def test_methods_find_the_nearest_point_of_an_l1_ball(optimizer):
    ball, target = L1Ball(torch.zeros(5).double(), 0.6), torch.tensor([[0.5, -0.4, 0.1, 0.05, 0.0]]).double()
    objective = lo.objectives.Fit(lo.objectives.MSE(), nn.Identity(), target)
    found = lo.solve(lo.Problem(nn.Identity(), objective, 5, 1, ball, like=target), optimizer, steps=100)
    near(found.x, torch.tensor([[0.35, -0.25, 0.0, 0.0, 0.0]]).double(), 0.02)
