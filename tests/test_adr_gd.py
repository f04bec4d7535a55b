"""ADR-GD with free gates, against the paper's formulas (arXiv 2406.00494) written out with explicit weights."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from nets import conv, fitting, linear, mlp, near, rand, randn, ready, refuses
from torch import Tensor, nn
from torch.nn.functional import relu

from latentopt.draws import Draws
from latentopt.optimizers import ADRGD, GD, Adam, FreeGates, SoftGates
from latentopt.optimizers.adr_gd import ADRGDState, FreeState
from latentopt.optimizers.gd import GDState

NAN = float("nan")
ALPHA, A_X, A_ETA, A_BETA, GAMMA = 4.0, 0.1, 0.2, 0.05, 0.03


class Point(NamedTuple):
    x: Tensor  # (3,)
    eta: list[Tensor]  # (6,), (5,)
    beta: Tensor  # ()


def network() -> nn.Sequential:
    return mlp(3, 6, 5, 2, seed=3)


def paper_step(x: Tensor, eta: list[Tensor], beta: Tensor, target: Tensor, delta_beta: float) -> tuple[Point, Tensor]:
    """One step of Algorithm 1 for one sample, without noise; also the constraint before it."""
    layers = network()
    W1, b1, W2, b2, W3, b3 = (p.detach() for p in layers.parameters())
    x, eta = x.clone().requires_grad_(), [e.clone().requires_grad_() for e in eta]
    beta = beta.clone().requires_grad_()
    s = [torch.sigmoid(ALPHA * (e - 0.5)) for e in eta]

    h1 = W1 @ x + b1  # of the real network
    h2 = W2 @ relu(h1) + b2
    h1_ = W1 @ x + b1  # of the surrogate, eq. 6
    h2_ = W2 @ torch.diag(s[0]) @ h1_ + b2
    f_ = W3 @ torch.diag(s[1]) @ h2_ + b3

    P = [W1, W2 @ torch.diag(s[0]).detach() @ W1]
    L = torch.zeros((), dtype=torch.float64)
    for h, P_i, e in zip([h1, h2], P, eta, strict=True):  # eq. 8
        for j in range(len(h)):
            distance = h[j] / P_i[j].norm()
            L = L + relu(distance * (0.5 - e[j])) + relu(-distance * (e[j] - 0.5))
    J = -(f_ - target).square().mean()
    (-J + beta * L).backward()  # eq. 9

    g_x, g_beta = x.grad, beta.grad
    g_eta = [e.grad for e in eta]
    assert g_x is not None
    assert g_beta is not None
    moved = [(e - A_ETA * g / g.norm()).detach() for e, g in zip(eta, g_eta, strict=True) if g is not None]
    new_beta = beta - GAMMA if g_beta < delta_beta else beta + A_BETA * g_beta
    return Point((x - A_X * g_x / g_x.norm()).detach(), moved, new_beta.detach()), L.detach()


@pytest.mark.parametrize("delta_beta", [0.0, 1e6])  # the constraint is never met; it is always met
def test_free_gates_follow_the_paper(delta_beta):
    x, target = randn(4, 3, seed=1), randn(4, 2, seed=2)
    eta = (0.2 + 0.6 * rand(4, 6, seed=3), 0.2 + 0.6 * rand(4, 5, seed=4))  # off the pattern
    beta = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    points = [Point(x[i], [e[i] for e in eta], beta[i]) for i in range(4)]

    gates = FreeGates(
        alpha=ALPHA, a_eta=A_ETA, a_beta=A_BETA, gamma=GAMMA, delta_beta=delta_beta, r=0.0, refresh=1, probes=0
    )
    method = ADRGD(gates, GD(lr=A_X, normalize=True))
    problem = ready(fitting(network().requires_grad_(False), (3,), target))
    noisy = torch.zeros(4, 2, dtype=torch.long)
    state = ADRGDState(FreeState(0, eta, beta, noisy, tuple(torch.ones_like(e) for e in eta)), GDState(0))
    for _ in range(3):
        step = method.step(problem, x, state)
        steps = [paper_step(*point, target[i], delta_beta) for i, point in enumerate(points)]
        points = [point for point, _ in steps]
        x, state = step.x, step.state
        near(step.info["constraint"], torch.stack([L for _, L in steps]), 1e-9)
        near(x, torch.stack([p.x for p in points]), 1e-9)
        near(state.gates.beta, torch.stack([p.beta for p in points]), 1e-9)
        for site in range(2):
            near(state.gates.eta[site], torch.stack([p.eta[site] for p in points]), 1e-9)


def test_the_input_descends_along_the_gradient_of_the_paper_also_unnormalized():
    """Where the gates are the pattern and alpha is large, that gradient is the network's own."""
    net, x = conv().requires_grad_(False), randn(3, 1, 5, 5)
    problem = ready(fitting(net, (1, 5, 5), randn(3, 3, seed=1)))
    method = ADRGD(FreeGates(), GD(lr=1.0))
    step = method.step(problem, x, method.init(problem, x))
    near(x - step.x, problem.gradient(x)[1], 1e-11)
    assert step.info["flips"].tolist() == [0, 0, 0]
    assert step.info["constraint"].tolist() == [0, 0, 0]


def test_eta_starts_at_the_true_pattern_and_beta_at_beta0():
    net, x = network().requires_grad_(False), randn(4, 3)
    state = FreeGates(beta0=0.7).init(ready(fitting(net, (3,), randn(4, 2))), x)
    assert torch.equal(state.eta[0], (net[0](x) > 0).double())
    assert torch.equal(state.eta[1], (net[:3](x) > 0).double())
    assert state.beta.tolist() == [0.7] * 4


def test_noise_comes_only_where_eta_has_no_gradient_and_some_steps_after_the_last():
    # A network that is constant in x: at the pattern the constraint and its gradient are zero, so only noise moves eta.
    net = network().requires_grad_(False)
    linear(net, 0).weight.zero_()
    problem, x = ready(fitting(net, (3,), randn(2, 2)), steps=12), randn(2, 3)
    gates = FreeGates(T_p=3, r=0.01, refresh=100)
    state, moved = gates.init(problem, x), []
    for t in range(1, 13):
        after = gates.look(problem, x, state).state
        change = [b - a for a, b in zip(state.eta, after.eta, strict=True)]
        if any(c.any() for c in change):
            moved.append(t)
            for site, c in enumerate(change):
                near(c, 0.01 * problem.draws.normal(c, "eta", t, site), 1e-12)
        state = after
    assert moved == [4, 8, 12]

    still = FreeGates(T_p=3, r=0.01, delta=0.0).look(problem, x, state._replace(t=20)).state  # no norm is under 0
    assert all(torch.equal(a, b) for a, b in zip(state.eta, still.eta, strict=True))


def test_beta_never_falls_below_zero():
    problem, x = ready(fitting(network().requires_grad_(False), (3,), randn(2, 2))), randn(2, 3)
    gates = FreeGates(beta0=0.01, gamma=0.03)
    assert gates.look(problem, x, gates.init(problem, x)).state.beta.tolist() == [0, 0]


def test_the_norms_are_refreshed_on_schedule_only():
    problem, x = ready(fitting(network().requires_grad_(False), (3,), randn(2, 2))), randn(2, 3)
    gates = FreeGates(alpha=4.0, refresh=3, probes=5)
    state, costs = gates.init(problem, x), []
    for _ in range(7):
        look = gates.look(problem, x, state)
        state, costs = look.state, [*costs, look.cost.forwards]
    assert costs == [3 + 6, 2, 2, 2 + 6, 2, 2, 2 + 6]


@pytest.mark.parametrize("method", [ADRGD(), ADRGD.paper()])
def test_a_network_without_relu_is_refused(method):
    problem, x = ready(fitting(mlp(3, 2).requires_grad_(False), (3,), randn(2, 2))), randn(2, 3)
    with refuses("network"):
        method.step(problem, x, method.init(problem, x))


@pytest.mark.parametrize("method", [ADRGD(), ADRGD.paper()])
def test_a_relu_of_one_number_a_sample_is_a_site_like_any_other(method):
    net = nn.Sequential(mlp(3, 4, 1), nn.Flatten(0), nn.ReLU(), nn.Unflatten(0, (-1, 1))).requires_grad_(False)
    problem, x = ready(fitting(net, (3,), randn(2, 1))), randn(2, 3)
    step = method.step(problem, x, method.init(problem, x))
    near(step.here.output, net(x), 1e-12)


def test_the_papers_settings_go_by_the_names_of_its_table():
    method = ADRGD.paper(a_x=0.5, a_eta=0.25, a_beta=0.001, r=0.2, delta=0.001, delta_beta=0.05, T_p=5, beta0=2)
    assert method.descent == GD(lr=0.5, normalize=True, schedule="constant")
    assert method.gates == FreeGates(2000.0, 2, 0.25, 0.001, 0.01, 0.2, 0.001, 5, 0.05)


HYPERPARAMETERS = [
    *[("GD.lr", GD, {"lr": lr}) for lr in (0, -1, NAN, float("inf"))],
    *[("Adam.lr", Adam, {"lr": lr}) for lr in (0, -1, NAN, float("inf"))],
    *[("schedule", method, {"schedule": "step"}) for method in (GD, Adam)],
    *[("Adam.betas", Adam, {"betas": betas}) for betas in [(1.0, 0.999), (0.9, 1.0), (-0.1, 0.9), (0.9, NAN)]],
    *[("Adam.eps", Adam, {"eps": eps}) for eps in (-1e-8, NAN)],
    *[("SoftGates.tau", SoftGates, {"tau": tau}) for tau in (0, -1, NAN)],
    *[("SoftGates.phase", SoftGates, {"phase": phase}) for phase in (0, 1.5, NAN)],
    *[(f"FreeGates.{name}", FreeGates, {name: 0}) for name in ("alpha", "a_eta", "refresh")],
    *[
        (f"FreeGates.{name}", FreeGates, {name: wrong})
        for name in ("beta0", "a_beta", "gamma", "r", "delta", "delta_beta")
        for wrong in (-1, NAN)
    ],
    *[(f"FreeGates.{name}", FreeGates, {name: wrong}) for name in ("T_p", "probes") for wrong in (-1, 2.5)],
]


@pytest.mark.parametrize(("name", "method", "settings"), HYPERPARAMETERS)
def test_wrong_hyperparameters_are_refused(name, method, settings):
    with refuses(name):
        method(**settings)


def test_the_start_draws_and_the_noise_are_independent():
    like = torch.empty(1, 6, dtype=torch.float64)
    draws = Draws(0, torch.zeros(1, dtype=torch.long))
    assert not torch.equal(draws.normal(like, "start"), draws.normal(like, "eta", 1, 0))
