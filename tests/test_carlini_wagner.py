"""The attack of Carlini and Wagner against closed forms and bisection."""

from __future__ import annotations

import pytest
import torch
from labelled import Linear, classes_of, images
from nets import Counted, mlp, near, refuses

from latentopt import carlini_wagner, minimum_norm

QUICK = {"rounds": 6, "steps": 80, "c": 0.1}


def narrow() -> Linear:
    """A linear classifier of two classes whose border is near the inputs, well inside their range."""
    model = Linear(classes=2)
    with torch.no_grad():
        weight, bias = model.layer.weight, model.layer.bias
        bias.copy_(-0.5 * weight.sum(1))
    return model


def test_on_a_linear_classifier_it_finds_the_distance_to_the_border():
    model, x = narrow(), 0.4 + 0.2 * images(10)
    y = classes_of(model, x)
    W, b = model.layer.weight.detach(), model.layer.bias.detach()
    exact = ((x @ W.T + b) @ torch.tensor([1.0, -1.0]).double()).abs() / (W[0] - W[1]).norm()
    found = carlini_wagner(model, x, y, **QUICK)
    assert found.success.all()
    assert (found.eps >= exact - 1e-9).all()
    assert (found.eps <= 1.03 * exact).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_it_agrees_with_bisection_and_tells_the_truth(targeted):
    model, x = mlp(6, 8, 4, seed=1), images(8)
    y = classes_of(model, x)
    wanted = model(x).topk(2).indices[:, 1] if targeted else y
    found = carlini_wagner(model, x, wanted, targeted=targeted, **QUICK)
    radius = minimum_norm(model, x, wanted, norm="l2", targeted=targeted)
    assert torch.equal(found.success, radius.success)
    assert found.success.any()
    ratio = (found.eps / radius.eps)[found.success]
    assert (ratio <= 1.25).all()
    assert ratio.median() <= 1.02
    near(found.distance, (found.x - x).norm(dim=1), 1e-9)
    near(found.logits, model(found.x), 1e-9)
    assert torch.equal(found.predicted == wanted, found.success == targeted)
    assert ((found.x >= 0) & (found.x <= 1)).all()


def test_confidence_is_a_margin():
    model, x = narrow(), 0.4 + 0.2 * images(6)
    y = classes_of(model, x)
    found = carlini_wagner(model, x, y, confidence=0.2, **QUICK)
    assert (found.margin[found.success] >= 0.2).all()
    assert (found.eps > carlini_wagner(model, x, y, **QUICK).eps).all()


def test_what_is_wrong_already_stays_and_what_cannot_be_found_is_told():
    model, x = Linear(), images(3)
    y = classes_of(model, x)
    y[0] = (y[0] + 1) % 4
    found = carlini_wagner(model, x, y, rounds=2, steps=10)
    assert found.success[0]
    assert found.eps[0] == 0
    near(found.x[0], x[0], 0)
    none = carlini_wagner(model, x, y, rounds=1, steps=1, c=1e-9)
    assert none.success.tolist() == [True, False, False]
    assert none.eps.tolist() == [0.0, 0.0, 0.0]


def test_its_cost_is_counted():
    network = Counted(mlp(6, 8, 4, seed=1))
    x = images(2)
    found = carlini_wagner(network, x, classes_of(network.module, x), rounds=3, steps=5)
    assert network.forwards == 2 * int(found.forwards[0])
    assert network.backwards == 2 * int(found.backwards[0])


@pytest.mark.parametrize(
    ("name", "value"), [("c", 0.0), ("lr", -1.0), ("rounds", 0), ("steps", 1.5), ("confidence", -1.0)]
)
def test_wrong_settings_are_named(name, value):
    with refuses(name):
        carlini_wagner(Linear(), images(2), torch.zeros(2).long(), **{name: value})
