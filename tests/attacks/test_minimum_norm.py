"""The smallest radius against closed forms, and the checks of an attack against models that are known to mislead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from labelled import Linear, classes_of, images
from nets import Counted, mlp, near, rand, randn, refuses
from torch import Tensor, nn

from latentopt import AttackResult, AttackWarning, Classifier, attack, check_attack, minimum_norm
from latentopt.sets import Norm


def exact_radius(model: Linear, x: Tensor, y: Tensor, norm: Norm, ends: tuple[float, float] | None = None) -> Tensor:
    """Of a linear classifier (B,): the least over the classes, by duality; in a box by bisection of its gain."""
    W, z = model.layer.weight.detach(), model(x).detach()
    gaps, slopes = z.gather(1, y[:, None]) - z, W[y][:, None] - W  # (B, K), (B, K, n)
    if ends is None:
        radii = gaps / slopes.norm(1 if norm == "linf" else 2, dim=2)
    else:  # Linf
        room = torch.where(slopes > 0, (x - ends[0])[:, None], (ends[1] - x)[:, None])
        least, most = torch.zeros_like(gaps), torch.full_like(gaps, ends[1] - ends[0])
        for _ in range(60):
            middle = (least + most) / 2
            enough = (slopes.abs() * torch.minimum(room, middle[..., None])).sum(2) >= gaps
            least, most = torch.where(enough, least, middle), torch.where(enough, middle, most)
        radii = most
    return radii.scatter(1, y[:, None], torch.inf).amin(1)


def check_radius(found: AttackResult, exact: Tensor, ratio: float) -> None:
    """Every input is broken, at most ``ratio`` times as far away as it need be."""
    assert found.success.all()
    assert (found.eps >= exact * (1 - 1e-9)).all()
    assert (found.eps <= exact * ratio).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("classes", "n"), [(2, 7), (3, 5), (10, 20)])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_of_all_classes_the_nearest_border_is_found_by_its_own_settings(classes, n, seed, norm: Norm):
    linear, x = Linear(classes, n, seed), randn(20, n, seed=seed + 7)
    y = classes_of(linear, x)
    model = Classifier(linear, input_range=(-100, 100))
    check_radius(minimum_norm(model, x, y, norm=norm, search_steps=4), exact_radius(linear, x, y, norm), 1.002)


@pytest.mark.parametrize(("settings", "ratio"), [({"search_steps": 4}, 1.002), ({"targets": 3}, 1.01)], ids=str)
def test_in_a_narrow_range_too(settings, ratio):
    linear, x = Linear(10, 20), rand(20, 20, seed=3)
    y = classes_of(linear, x)
    found = minimum_norm(linear, x, y, **settings)
    check_radius(found, exact_radius(linear, x, y, "linf", (0.0, 1.0)), ratio)
    near(found.eps, found.distance, 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_towards_a_class_it_is_the_distance_to_that_one(norm: Norm):
    linear, x = Linear(4, 6), randn(10, 6, seed=1)
    y = classes_of(linear, x)
    aim = linear(x).argsort(1, descending=True)[:, 2]
    model = Classifier(linear, input_range=(-100, 100))
    found = minimum_norm(model, x, aim, norm=norm, targeted=True)
    assert torch.equal(found.predicted, aim)
    nearest = exact_radius(linear, x, y, norm)
    assert (found.eps >= nearest * (1 - 1e-9)).all()


def test_by_its_own_settings_it_drives_soft_gates_in_l2_where_there_are_gates():
    network, x = mlp(6, 8, 4, seed=1), images(6)
    smooth = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    fifty: dict[str, Any] = {"optimizer": "adr-gd-soft-attack", "loss": "margin", "steps": 50}
    cases: list[tuple[nn.Module, Norm, dict[str, Any], int]] = [
        (network, "l2", fifty, 1),  # one forward more, to see the gates
        (network, "linf", {"optimizer": "pgd"}, 0),
        (smooth, "l2", {"optimizer": "pgd"}, 1),
    ]
    for model, norm, settings, looks in cases:
        y = classes_of(model, x)
        ours, same = (minimum_norm(model, x, y, norm=norm, search_steps=5, **more) for more in ({}, settings))
        assert torch.equal(ours.x, same.x)
        assert torch.equal(ours.forwards, same.forwards + looks)


@pytest.mark.filterwarnings("ignore::latentopt.AttackWarning")
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_flat_network_of_an_open_range_gives_nothing(norm: Norm):
    flat = Linear()
    with torch.no_grad():
        flat.layer.weight.zero_()
    model, x = Classifier(flat, input_range=(-torch.inf, torch.inf)), images(3)
    found = minimum_norm(model, x, classes_of(model, x), norm=norm, search_steps=12)
    assert not found.success.any()
    assert found.eps.isfinite().all()


def test_radii_of_what_is_wrong_already_and_of_what_resists():
    x = images(3)
    y = classes_of(Linear(), x)
    y[0] = (y[0] + 1) % 4
    found = minimum_norm(Linear(), x, y, search_steps=4)
    assert found.eps[0] == 0
    assert torch.equal(found.x[0], x[0])
    constant = nn.Linear(6, 3).double()
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    with pytest.warns(AttackWarning, match="gradients"):
        found = minimum_norm(constant, x, torch.zeros(3).long(), search_steps=3)
    assert not found.success.any()
    assert torch.equal(found.eps, torch.ones(3).double())


def test_it_costs_what_its_attacks_cost_and_is_no_larger_than_theirs():
    network, x = mlp(6, 8, 4, seed=1), images()
    y = classes_of(network, x)
    found = minimum_norm(network, x, y)
    once = attack(network, x, y, 0.2, optimizer="pgd", loss="margin", steps=50)
    assert (found.eps[once.success] <= 0.2 + 1e-9).all()
    assert (found.backwards >= once.backwards)[~once.success].all()
    assert torch.equal(found.predicted != y, found.success)
    counted = Counted(network)
    single = minimum_norm(counted, x[:1], y[:1], search_steps=3)
    assert (counted.forwards, counted.backwards) == (int(single.forwards[0]), int(single.backwards[0]))


@pytest.mark.parametrize("name", ["search_steps", "eps", "start"])
def test_wrong_arguments_are_named(name):
    with refuses(name):
        minimum_norm(Linear(), images(), torch.zeros(12).long(), **{name: 0})  # pyright: ignore[reportArgumentType]
    with refuses("eps"):
        check_attack(Linear(), images(), torch.zeros(12).long(), 0.0)


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


@pytest.mark.parametrize(("norm", "ends"), [("linf", (0.0, 1.0)), ("l2", (-1.0, 1.0))])
def test_in_half_precision_the_radius_is_that_of_single_precision(norm, ends):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)).eval().half()
    x = torch.rand(10, 6).half()
    y = network(x).argmax(1)
    half = minimum_norm(Classifier(network, input_range=ends), x, y, norm=norm)
    single = minimum_norm(Classifier(network.float(), input_range=ends), x.float(), y, norm=norm)
    assert half.success.all()
    near(half.eps.float(), single.eps, 0.05)


@pytest.mark.filterwarnings("ignore::latentopt.AttackWarning")
def test_slopes_near_zero_do_not_make_a_radius_infinite():
    torch.manual_seed(0)
    linear = nn.Linear(4, 3)
    saturated = nn.Sequential(linear, nn.Softmax(1)).eval()
    x = torch.rand(6, 4)
    with torch.no_grad():
        linear.weight *= 200
        W, z, y = linear.weight, linear(x), saturated(x).argmax(1)
    found = minimum_norm(saturated, x, y)
    least = (z.gather(1, y[:, None]) - z) / (W[y][:, None] - W).abs().sum(2)
    assert found.success.all()
    assert (found.eps >= least.scatter(1, y[:, None], torch.inf).amin(1) - 1e-5).all()
    assert (found.eps <= 1).all()
