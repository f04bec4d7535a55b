from __future__ import annotations

import pytest
import torch
from ascents import Y, inputs, net
from nets import mlp, refill, refuses
from torch import nn

import latentopt as lo
from latentopt.analysis.dynamics import (
    amplification,
    compare_dynamics,
    hessian_vector,
    input_hessian_eigs,
    linear_region,
    predict_perturbation,
)
from latentopt.sets import Box, LinfBall


@pytest.mark.parametrize("smooth", [nn.GELU(), nn.Tanh(), nn.SiLU(), nn.Softmax(1), nn.Hardswish(), nn.Hardsigmoid()])
def test_networks_that_are_curved_are_refused(smooth):
    network = refill(nn.Sequential(nn.Linear(6, 5), smooth, nn.ReLU(), nn.Linear(5, 3)), 0)
    for call in (input_hessian_eigs, hessian_vector):
        with refuses("network", "piecewise-linear"):
            call(network, inputs(), Y)
    for call in (predict_perturbation, compare_dynamics, amplification):
        with refuses("network", "piecewise-linear"):
            call(network, inputs(), Y, 0.1, 2)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"network": nn.Unflatten(1, (6, 1))}, "network", "K >= 2"),
        ({"network": mlp(6, 4, 1)}, "labels", "from 0 to 1"),
        ({"network": nn.Sequential(nn.Linear(6, 3).double(), nn.Unflatten(1, (3, 1)))}, "network", "logits (B, K)"),
        (
            {"network": nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))},
            "network",
            "BatchNorm",
        ),
        ({"x": inputs().masked_fill(inputs() > 1, torch.nan)}, "x", "finite"),
        ({"x": inputs().long()}, "x", "floating-point"),
        ({"x": inputs()[:, :5]}, "x", "shape"),
        ({"x": inputs().float()}, "x", "shape"),
        ({"x": inputs()[:0]}, "x", "batch"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, "labels", "from 0 to 2"),
        ({"labels": torch.tensor([0, 1, 2, -1])}, "labels", "from 0 to 2"),
        ({"labels": Y[:3]}, "labels", "4 whole numbers"),
        ({"labels": Y.double()}, "labels", "4 whole numbers"),
        ({"loss": "cw"}, "loss", "one of"),
        ({"loss": lambda z, y: z.sum()}, "loss", "one a sample"),
        ({"loss": lambda z, y: z[:, 0] / 0}, "loss", "finite"),
        ({"step": -0.1}, "step", ">= 0"),
        ({"step": torch.tensor([0.1, -0.1, 0.1, 0.1])}, "step", ">= 0"),
        ({"step": torch.tensor([0.1, 0.1])}, "step", "4 of them"),
        ({"step": float("inf")}, "step", "finite"),
        ({"steps": -1}, "steps", "integer"),
        ({"steps": 1.5}, "steps", "integer"),
    ],
)
def test_bad_input_is_refused(changes, name, words):
    arguments = {"network": net(), "x": inputs(), "labels": Y, "step": 0.1, "steps": 3, "loss": "ce", **changes}
    for call in (predict_perturbation, compare_dynamics, amplification):
        with refuses(name, words):
            call(**arguments)
    rest = {key: value for key, value in arguments.items() if key not in ("step", "steps")}
    if name not in ("step", "steps"):
        for call in (input_hessian_eigs, hessian_vector):
            with refuses(name, words):
                call(**rest)


def test_bad_settings_of_the_eigenpairs_and_the_formulas_are_refused(monkeypatch):
    network, x = net(), inputs()
    for changes, name in [
        ({"k": 0}, "k"),
        ({"k": 7}, "k"),
        ({"method": "arnoldi"}, "method"),
        ({"method": "lanczos", "tolerance": 0.0}, "tolerance"),
        ({"method": "lanczos", "iterations": 0}, "iterations"),
        ({"method": "lanczos", "k": 3, "iterations": 2}, "iterations"),
    ]:
        with refuses(name):
            input_hessian_eigs(network, x, Y, **changes)
    with refuses("method", "first-order"):
        predict_perturbation(network, x, Y, 0.1, 2, "second-order")  # pyright: ignore
    with refuses("methods", "some of"):
        compare_dynamics(network, x, Y, 0.1, 2, methods=())
    with refuses("pairs", "4 samples"):
        predict_perturbation(network, x, Y, 0.1, 2, pairs=input_hessian_eigs(network, x[:2], Y[:2]))
    with refuses("steps", "finite"):
        predict_perturbation(network, 1e-3 * x, Y, 1e5, 200)
    with refuses("network", "Module"):
        amplification(lambda v: v, x, Y, 0.1, 2)  # pyright: ignore
    monkeypatch.setattr(linear_region, "LARGEST", 17)
    with refuses("x", "lanczos"):
        input_hessian_eigs(network, x, Y)
    assert input_hessian_eigs(network, x, Y, method="lanczos", k=1).values.shape == (4, 1)


@pytest.mark.parametrize(
    "optimizer",
    [
        "pgd",
        "gd",
        "adam",
        "apgd",
        lo.PGD(),
        lo.GD(0.1, normalize=True),
        lo.GD(0.1, clip=1.0),
        lo.GD(0.1, schedule="cosine"),
    ],
)
def test_only_raw_gradient_ascent_is_covered(optimizer):
    with refuses("optimizer", "raw gradient ascent"):
        compare_dynamics(net(), inputs(), Y, 0.1, 2, optimizer=optimizer)


def test_raw_gradient_ascent_by_its_name_is_the_default():
    one, other = (compare_dynamics(net(), inputs(), Y, 0.1, 2, optimizer=each) for each in (None, lo.GD(0.1)))
    assert torch.equal(one.delta, other.delta)
    with refuses("step", "0.2"):
        compare_dynamics(net(), inputs(), Y, 0.1, 2, optimizer=lo.GD(0.2))


def test_a_set_may_not_bind_and_the_message_says_where(monkeypatch):
    network, x, a = net(), inputs(), 0.2
    free = compare_dynamics(network, x, Y, a, 4)
    high = free.delta.abs().flatten(1).amax(1)
    assert torch.equal(compare_dynamics(network, x, Y, a, 4, feasible=LinfBall(x, 2 * high)).delta, free.delta)
    assert torch.equal(compare_dynamics(network, x, Y, a, 4, feasible=Box(-99.0, 99.0)).delta, free.delta)
    eps = 2 * high
    eps[2] = 0.9 * high[2]
    steps = [compare_dynamics(network, x, Y, a, m).delta[2].abs().max() > eps[2] for m in (1, 2, 3, 4)]
    with refuses("feasible", f"sample 2, which leaves it at step {1 + [bool(out) for out in steps].index(True)}"):
        compare_dynamics(network, x, Y, a, 4, feasible=LinfBall(x, eps))
    monkeypatch.setattr(linear_region, "LARGEST", 18)  # a sample at a time
    with refuses("feasible", "sample 2,"):
        compare_dynamics(network, x, Y, a, 4, feasible=LinfBall(x, eps))


def test_an_ascent_that_goes_to_infinity_is_refused():
    loss = lambda z, y: z.square().sum(1)  # noqa: E731
    with refuses("step", "at step"):
        compare_dynamics(net(), inputs(), Y, 1e30, 40, loss)
