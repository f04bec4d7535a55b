"""Attacks against exact optima: linear classifiers in closed form, small ReLU networks by enumeration."""

from __future__ import annotations

from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from labelled import CLASSES as K
from labelled import INPUTS as N
from labelled import Linear, classes_of, images
from loops import check_alone
from nets import Counted, mlp, near, rand, refuses
from scipy.optimize import linprog
from torch import Tensor, nn

import latentopt as lo
from latentopt import AttackResult, Portfolio, Stage, attack
from latentopt.classification import margin
from latentopt.optimizers import PGD
from latentopt.sets import Norm


def case(count: int = 12) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return a small network, inputs and their classes."""
    network, x = mlp(N, 8, K, seed=1), images(count)
    return network, x, classes_of(network, x)


def linear_case() -> tuple[Linear, Tensor, Tensor]:
    model, x = Linear(), images()
    return model, x, classes_of(model, x)


def greatest_sum(w: Tensor, x: Tensor, eps: float, norm: Norm) -> float:
    """The greatest ``w . d`` with ``x + d`` in [0, 1] and ``d`` in the ball."""
    if norm == "linf":
        return torch.where(w > 0, w * (x + eps).clamp(max=1), w * (x - eps).clamp(min=0)).sum().item() - (w @ x).item()
    low, high = 0.0, 1e9  # of the multiplier: d = clip(x + scale w) - x grows with the scale

    def step(scale: float) -> Tensor:
        return (x + scale * w).clamp(0, 1) - x

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if step(middle).norm() < eps else (low, middle)
    return (w @ step(low)).item()


def greatest_margin(model: Linear, x: Tensor, y: int, eps: float, norm: Norm) -> float:
    W, b = model.layer.weight.detach(), model.layer.bias.detach()
    margins = []
    for other in set(range(len(W))) - {y}:
        w = W[other] - W[y]
        margins.append((w @ x + b[other] - b[y]).item() + greatest_sum(w, x, eps, norm))
    return max(margins)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("settings", [{}, {"optimizer": "pgd", "loss": "margin", "targets": "all", "steps": 60}])
def test_on_a_linear_classifier_an_attack_succeeds_exactly_where_it_can(norm, settings):
    model, x = Linear(), images(20)
    y = classes_of(model, x)
    for eps in (0.05, 0.2):
        radius = eps if norm == "linf" else 2 * eps
        found = attack(model, x, y, radius, norm=norm, **settings)
        margins = [greatest_margin(model, *each, radius, norm) for each in zip(x, y.tolist(), strict=True)]
        best = torch.tensor(margins, dtype=torch.float64)
        assert torch.equal(found.success, best > 0)
        assert (found.margin <= best + 1e-9).all()
        lost = ~found.success
        near(found.margin[lost], best[lost], 2e-3 if settings else 2e-2)


def exact_margin(network: nn.Sequential, x: Tensor, y: int, eps: float) -> float:
    """The greatest margin in the box around ``x``, over all activation regions of a one-hidden-layer network."""
    W, b, V, c = (p.detach().numpy() for p in network.parameters())
    low, high = (x - eps).clamp(min=0).numpy(), (x + eps).clamp(max=1).numpy()
    best = -np.inf
    for pattern in product([0.0, 1.0], repeat=len(W)):
        gates = np.array(pattern)
        signs = 1 - 2 * gates  # z <= 0 where closed, -z <= 0 where open
        for other in set(range(len(V))) - {y}:
            w = ((V[other] - V[y]) * gates) @ W
            constant = ((V[other] - V[y]) * gates) @ b + c[other] - c[y]
            bounds = list(zip(low, high, strict=True))
            found = linprog(-w, A_ub=signs[:, None] * W, b_ub=-signs * b, bounds=bounds)
            if found.status == 0:
                best = max(best, -found.fun + constant)
    return best


@pytest.mark.parametrize("seed", [1, 2])
def test_on_a_small_relu_network_the_portfolio_succeeds_exactly_where_it_can(seed):
    network, x = mlp(2, 5, 3, seed=seed), rand(12, 2, seed=7)
    y = classes_of(network, x)
    margins = [exact_margin(network, a, b, 0.3) for a, b in zip(x, y.tolist(), strict=True)]
    best = torch.tensor(margins, dtype=torch.float64)
    found = attack(network, x, y, 0.3)
    assert 2 < int((best > 0).sum()) < 10
    assert torch.equal(found.success, best > 0)
    near(found.margin[~found.success], best[~found.success], 1e-3)


@pytest.mark.parametrize("optimizer", ["portfolio", "fgsm", "pgd", "apgd", "adr-gd", "adr-gd-paper", "adam"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_radius_zero_an_attack_changes_nothing(optimizer, norm):
    network, x, y = case()
    y = y.index_fill(0, torch.tensor([0, 5]), 0)
    found = attack(network, x, y, 0.0, norm=norm, optimizer=optimizer)
    assert torch.equal(found.x, x)
    assert torch.equal(found.success, classes_of(network, x) != y)
    assert torch.equal(found.distance, torch.zeros(12).double())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adr-gd", "loss": "dlr", "restarts": 3},
        {"optimizer": "apgd", "targets": 2, "start": "random"},
        {"optimizer": "pgd", "targets": "random", "norm": "l2"},
        {"optimizer": "adr-gd-paper", "steps": 12},
    ],
    ids=repr,
)
def test_a_batch_equals_its_samples_alone(settings):
    network, x = mlp(N, 8, K, seed=1), images(6)
    y, eps = classes_of(network, x), torch.linspace(0.05, 0.6, 6).double()  # some break in the first stage, some never
    settings = {"steps": 20, **settings} if settings else {}
    fields = ("success", "target", "stage", "first_success", "forwards", "backwards")

    def run(rows: Tensor, **more: Any) -> AttackResult:
        return attack(network, x[rows], y[rows], eps[rows], **settings, **more)

    alone = cache(lambda row: run(torch.tensor([row])))
    for size in (None, 4):
        solved = partial(run, batch_size=size)
        check_alone(lambda rows, solved=solved: alone(int(rows)) if len(rows) == 1 else solved(rows), 6, equal=fields)


def test_fgsm_is_one_sign_step_of_the_cross_entropy():
    network, x, y = case()
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(network(leaf), y, reduction="sum"), leaf)
    expected = (x + 0.07 * grad.sign()).clamp(0, 1)
    found = attack(network, x, y, 0.07, optimizer="fgsm")
    taken = found.stage == 0  # where the step did not raise the margin the clean input is better
    assert taken.sum() > 6
    near(found.x[taken], expected[taken], 1e-12)
    assert torch.equal(found.success, classes_of(network, expected) != y)


def test_costs_are_what_passes_through_the_model_and_budgets_hold():
    network = Counted(mlp(N, 8, K, seed=1))
    x = images()
    y = classes_of(network.module, x)
    for budget in (None, 10, 45, 46, 47, 48, 57, 300):
        network.forwards = network.backwards = 0
        found = attack(network, x, y, 0.08, evaluations=budget)
        assert (network.forwards, network.backwards) == (found.forwards.sum(), found.backwards.sum())
        assert (found.forwards + found.backwards).max() <= (budget or 10**9)
    assert found.success.any()
    assert not found.success.all()


def test_a_sample_that_is_broken_early_costs_less_and_says_when():
    network, x, y = case()
    y[0] = (y[0] + 1) % K  # wrong from the start
    found = attack(network, x, y, 0.2, optimizer="pgd", steps=40)
    assert found.first_success[0] == 0
    assert found.stage[0] == -1
    assert torch.equal(found.x[0], x[0])
    assert torch.equal(found.first_success >= 0, found.success)
    assert (found.backwards[found.success] < 40).all()
    assert (found.backwards[~found.success] == 40).all()
    assert torch.equal(found.first_success[found.success], found.backwards[found.success])


def test_targets_are_reached_where_asked():
    network, x, clean = linear_case()
    goal = (clean + 1) % K
    found = attack(network, x, goal, 0.6, targeted=True, optimizer="pgd", loss="margin")
    assert found.success.any()
    assert torch.equal(found.predicted == goal, found.success)
    assert torch.equal(found.target, goal)
    near(found.margin, -margin(found.logits, goal), 1e-12)

    least = attack(network, x, clean, 0.6, targets="least-likely", optimizer="pgd", loss="ce")
    with torch.no_grad():
        assert torch.equal(least.target, network(x).argmin(1))
    assert torch.equal(least.predicted == least.target, least.success)

    several = attack(network, x, clean, 0.1, targets=2, optimizer="pgd", loss="margin", steps=20)
    with torch.no_grad():
        order = network(x).argsort(1, descending=True)
    aimed = several.stage == 0
    assert ((several.target[:, None] == order[:, 1:3]).any(1) | ~aimed).all()
    assert torch.equal(several.predicted != clean, several.success)


def test_random_targets_follow_the_seed_and_differ_from_the_class():
    network, x, y = case(60)
    drawn = [attack(network, x, y, 0.0, targets="random", optimizer="fgsm", seed=seed).target for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert (drawn[0] != y).all()
    assert len(((drawn[0] - y) % K).unique()) == K - 1


def test_results_are_those_of_the_inputs_returned_also_of_a_loss_of_ones_own():
    network, x, y = case()
    found, own = (attack(network, x, y, 0.1, loss=loss, optimizer="pgd") for loss in ("margin", margin))
    with torch.no_grad():
        near(found.logits, network(found.x), 1e-12)
    near(found.margin, margin(found.logits, y), 1e-12)
    near(found.loss, margin(found.logits, y), 1e-12)
    assert torch.equal(found.predicted != y, found.success)
    assert torch.equal(own.x, found.x)


def test_any_shape_and_any_strides_and_inputs_outside_by_rounding():
    model = Linear()
    for shape in ((N,), (2, 3), (3, 2, 1)):
        x = images().reshape(12, *shape)
        assert attack(model, x, classes_of(model, x), 0.1, optimizer="pgd", steps=5).x.shape == x.shape
    nhwc = images().reshape(12, 3, 2, 1).permute(0, 2, 3, 1)
    y = classes_of(model, nhwc)
    near(attack(model, nhwc, y, 0.1).x, attack(model, nhwc.contiguous(), y, 0.1).x, 1e-12)
    assert attack(model, nhwc.index_fill(0, torch.tensor([0]), 1 + 5e-7), y, 0.0).x.max() == 1


def test_the_radius_is_in_the_inputs_own_units_whatever_the_normalisation():
    plain, x, y = linear_case()
    scaled = Linear()
    with torch.no_grad():
        scaled.layer.weight.mul_(0.25)
        scaled.layer.bias.add_(0.5 * plain.layer.weight.sum(1))
    wrapped = lo.Classifier(scaled, mean=0.5, std=0.25)
    near(attack(wrapped, x, y, 0.1).x, attack(plain, x, y, 0.1).x, 1e-9)
    wide = lo.Classifier(plain, input_range=(-1.0, 3.0))
    found = attack(wide, x, y, 0.8)
    assert found.x.min() < 0
    assert found.x.max() > 1


def test_the_model_is_left_as_it_was():
    network = mlp(N, 8, K, seed=1).requires_grad_(True)
    network[0].weight.requires_grad_(False)
    before = {name: p.clone() for name, p in network.named_parameters()}
    x = images()
    attack(network, x, classes_of(network, x), 0.2, optimizer="adr-gd-paper", steps=3)
    assert not network[0].weight.requires_grad
    assert network[2].weight.requires_grad
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in network.named_parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_stages_see_only_what_is_left_and_are_numbered():
    network, x = Counted(mlp(N, 8, K, seed=1)), images(30)
    y = classes_of(network.module, x)
    stages = (Stage(PGD(), steps=5), Stage("apgd", "dlr", steps=10), Stage(PGD(), "margin", steps=20, restarts=2))
    found = attack(network, x, y, 0.08, optimizer=Portfolio(stages))
    assert set(found.stage[found.success].tolist()) >= {0}
    assert (found.backwards[~found.success] == 5 + 10 + 40).all()
    first = attack(network, x, y, 0.08, optimizer=PGD(), steps=5)
    assert torch.equal(found.stage[first.success], first.stage[first.success])


def test_a_portfolio_does_without_gates_where_a_network_has_none():
    smooth = nn.Sequential(nn.Linear(N, 8), nn.Tanh(), nn.Linear(8, K)).double()
    x = images()
    y = classes_of(smooth, x)
    network = Counted(smooth)
    found = attack(network, x, y, 0.3)
    assert (network.forwards, network.backwards) == (found.forwards.sum(), found.backwards.sum())
    assert (found.backwards[~found.success] == found.backwards.max()).all()
    with refuses("model"):
        attack(smooth, x, y, 0.3, optimizer="adr-gd")


def test_it_starts_from_what_it_is_given():
    network, x, y = case()
    first = attack(network, x, y, 0.3, optimizer="pgd")
    again = attack(network, x, y, 0.3, optimizer="pgd", start=first.x)
    broken = first.success
    assert broken.any()
    assert torch.equal(again.x[broken], first.x[broken])
    assert (again.first_success[broken] <= 1).all()
