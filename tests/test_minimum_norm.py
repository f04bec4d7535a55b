"""The smallest radius against closed forms, and the checks of an attack against models that are known to mislead."""

from __future__ import annotations

import pytest
import torch
from labelled import Linear, classes_of, images
from nets import mlp, near, rand, refuses
from torch import Tensor, nn

from latentopt import AttackWarning, attack, check_attack, minimum_norm


class Inside(nn.Module):
    """A linear classifier of inputs that are far from the ends of their range."""

    input_range = (-100.0, 100.0)

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_on_a_linear_classifier_the_least_radius_is_the_distance_to_the_border(norm, dual):
    model, x = Inside(), images(10)
    y = classes_of(model, x)
    W, b = model.linear.layer.weight.detach(), model.linear.layer.bias.detach()
    gaps, slopes = (x @ W.T + b)[torch.arange(10), y][:, None] - (x @ W.T + b), (W[y][:, None] - W).norm(dual, dim=2)
    exact = (gaps / slopes).nan_to_num(torch.inf).scatter(1, y[:, None], torch.inf).amin(1)
    found = minimum_norm(model, x, y, norm=norm, targets=3)
    assert found.success.all()
    assert (found.eps >= exact - 1e-9).all()
    assert (found.eps <= 1.01 * exact).all()
    near(found.eps, found.distance, 0)


def test_what_is_wrong_already_needs_no_radius_and_what_resists_tells_the_greatest_one_tried():
    x = images(3)
    y = classes_of(Linear(), x)
    y[0] = (y[0] + 1) % 4
    found = minimum_norm(Linear(), x, y, rounds=4)
    assert found.eps[0] == 0
    assert torch.equal(found.x[0], x[0])
    constant = nn.Linear(6, 3).double()
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    with pytest.warns(AttackWarning, match="gradients"):
        found = minimum_norm(constant, x, torch.zeros(3).long(), rounds=3)
    assert not found.success.any()
    assert torch.equal(found.eps, torch.ones(3).double())


def test_its_cost_is_that_of_its_attacks_and_it_is_no_larger_than_the_radius_an_attack_succeeds_at():
    network, x = mlp(6, 8, 4, seed=1), images()
    y = classes_of(network, x)
    found = minimum_norm(network, x, y)
    once = attack(network, x, y, 0.2, optimizer="pgd", loss="margin", steps=50)
    assert (found.eps[once.success] <= 0.2 + 1e-9).all()
    assert (found.backwards >= once.backwards)[~once.success].all()
    assert torch.equal(found.predicted != y, found.success)


@pytest.mark.parametrize("name", ["rounds", "eps", "start"])
def test_wrong_arguments_are_named(name):
    with refuses(name):
        minimum_norm(Linear(), images(), torch.zeros(12).long(), **{name: 0})  # pyright: ignore[reportArgumentType]


def test_a_sound_model_passes_the_checks():
    network, x = mlp(6, 8, 4, seed=1), images()
    check = check_attack(network, x, classes_of(network, x), 0.2, steps=20)
    assert check.findings == ()
    assert check.success["few steps"] <= check.success["many steps"]


class Shattered(nn.Module):
    """A linear classifier whose inputs are rounded: its gradients are those of another function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.detach().round(decimals=1) - 1e-3 * x)


def test_gradients_that_mislead_are_found():
    x = rand(30, 6, seed=3)
    model = Shattered()
    with pytest.warns(AttackWarning, match="by chance|any input|twice"):
        check = check_attack(model, x, classes_of(model, x), 0.2, steps=10)
    assert check.findings


def test_the_checks_want_one_radius():
    with refuses("eps"):
        check_attack(Linear(), images(), torch.zeros(12).long(), 0.0)
