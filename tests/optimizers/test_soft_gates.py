"""Soft gates, and two methods in a row: the parts of ADR-GD's default."""

from __future__ import annotations

import pytest
import torch
from nets import fitting, mlp, near, path, randn, ready, refuses

from latentopt.optimizers import (
    ADRGD,
    APGD,
    CMAES,
    GD,
    LBFGS,
    PGD,
    Adam,
    EarlyGates,
    LevenbergMarquardt,
    SoftGates,
    TwoPhase,
)
from latentopt.sets import Box
from latentopt.solver.loop import solve

TARGET = randn(4, 2, seed=2)


def two_layers():
    return mlp(3, 6, 5, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("gates", "span", "soft"),
    [
        (SoftGates(0.7, steps=4, share=2 / 3), 4, (True, False)),
        (SoftGates(0.7, steps=4, layers=(1,)), 4, (False, True)),
        (SoftGates(0.7, phase=0.5), 5, (True, True)),
        (SoftGates(0.7, phase=1.0), 10, (True, True)),
    ],
)
def test_the_gradient_passes_through_soft_gates_that_harden_linearly(gates, span, soft):
    net, x, lr = two_layers(), randn(4, 3), 0.1
    problem = ready(fitting(net, (3,), TARGET), steps=10)
    method = ADRGD(gates, GD(lr=lr))
    state = method.init(problem, x)
    for t in range(10):
        h1 = net[0](x)
        h2 = net[2](h1.relu())
        tau = 0.7 * max(1 - t / span, 0)
        first, second = (
            torch.sigmoid(h / (tau * h.square().mean(1, keepdim=True).sqrt())) if tau and is_soft else (h > 0).double()
            for h, is_soft in zip((h1, h2), soft, strict=True)
        )
        off = net[4](h2.relu()) - TARGET
        back = 2 * off / off.shape[1] @ net[4].weight * second @ net[2].weight * first @ net[0].weight
        step = method.step(problem, x, state)
        near(step.evaluation.value, off.square().mean(1), 1e-12)
        near(step.x, x - lr * back, 1e-12)
        assert step.cost == ((2, 1) if t == 0 and gates.share else (1, 1))
        x, state = step.x, step.state


@pytest.mark.parametrize(
    ("depth", "share", "early"),
    [(1, 2 / 3, 1), (2, 2 / 3, 1), (3, 2 / 3, 2), (4, 2 / 3, 2), (6, 2 / 3, 4), (3, 0.1, 1), (3, 1.0, 3)],
)
def test_the_share_of_early_layers_is_rounded_down(depth, share, early):
    net, x = mlp(3, *[4] * depth, 2).requires_grad_(False), randn(4, 3)
    problem = ready(fitting(net, (3,), TARGET))
    by_share, by_layers = (
        ADRGD(gates, GD(lr=0.1)) for gates in (SoftGates(1.0, share=share), SoftGates(1.0, layers=list(range(early))))
    )
    first, second = (method.step(problem, x, method.init(problem, x)).x for method in (by_share, by_layers))
    near(first, second, 1e-14)


def test_an_opening_is_the_first_method_with_its_own_schedule_and_then_the_other_from_its_end():
    net, x, box = two_layers(), 0.5 * randn(4, 3), Box(-2.0, 2.0)
    problem = ready(fitting(net, (3,), TARGET, box), steps=50)
    seen = path(TwoPhase(PGD(), 5, LBFGS(memory=4)), problem, x, 12)
    first = path(PGD(), ready(fitting(net, (3,), TARGET, box), steps=5), x, 5)
    then = path(LBFGS(memory=4), problem, first[-1], 7)
    near(torch.stack(seen), torch.stack([*first, *then[1:]]), 0)


def test_with_hard_gates_it_is_its_descent():
    problem, x = ready(fitting(two_layers(), (3,), TARGET)), randn(4, 3)
    hard = ADRGD(SoftGates(1e-300, share=2 / 3), TwoPhase())
    first, second = (torch.stack(path(method, problem, x, 30)) for method in (hard, TwoPhase()))
    near(first, second, 1e-12)


@pytest.mark.parametrize("descent", [LBFGS(), Adam(), APGD(), TwoPhase(Adam(), 3, APGD())])
def test_any_method_of_one_gradient_a_step_descends(descent):
    problem = fitting(two_layers(), (3,), TARGET, Box(-3.0, 3.0))
    result = solve(problem, ADRGD(SoftGates(1.0, steps=5, share=2 / 3), descent), steps=40, restarts=2)
    assert result.backwards.tolist() == [80] * 4
    assert (result.value < result.history["loss"][0].amin(0)).all()


@pytest.mark.parametrize("descent", [LevenbergMarquardt(), CMAES()])
def test_a_method_that_asks_for_more_is_refused(descent):
    with refuses("descent", "one gradient a step"):
        solve(fitting(two_layers(), (3,), TARGET), ADRGD(descent=descent), steps=2)


def test_early_gates_are_an_old_name():
    with pytest.warns(DeprecationWarning, match="SoftGates"):
        assert EarlyGates(0.25) == SoftGates(0.25, steps=15, share=2 / 3)
