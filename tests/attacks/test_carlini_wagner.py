"""The attack of Carlini and Wagner against closed forms and bisection."""

from __future__ import annotations

import pytest
import torch
from labelled import Linear, classes_of, images
from nets import Counted, mlp, near, refuses
from torch import nn

from benchmarks.classifiers import CLASSIFIERS
from benchmarks.classifiers import test_images as labelled_images
from latentopt import Classifier, carlini_wagner, minimum_norm
from latentopt.errors import InputError

QUICK = {"binary_search_steps": 6, "steps": 80, "c": 0.1}


def narrow() -> Linear:
    """A linear classifier of two classes whose border is near the inputs, well inside their range."""
    model = Linear(classes=2)
    with torch.no_grad():
        weight, bias = model.layer.weight, model.layer.bias
        bias.copy_(-0.5 * weight.sum(1))
    return model


@pytest.mark.parametrize("targeted", [False, pytest.param(True, marks=pytest.mark.slow)])
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
    found = carlini_wagner(model, x, y, binary_search_steps=2, steps=10)
    assert found.success[0]
    assert found.eps[0] == 0
    near(found.x[0], x[0], 0)
    none = carlini_wagner(model, x, y, binary_search_steps=1, steps=1, c=1e-9)
    assert none.success.tolist() == [True, False, False]
    assert none.eps.tolist() == [0.0, 0.0, 0.0]


def test_a_step_costs_one_forward_and_one_backward():
    """For one sample: with several, `solve` checks once a solve that they are independent, at nobody's cost."""
    network = Counted(mlp(6, 8, 4, seed=1))
    x = images(1)
    found = carlini_wagner(network, x, classes_of(network.module, x), binary_search_steps=3, steps=50)
    assert network.forwards == int(found.forwards[0]) == 3 * (50 + 2) + 3
    assert network.backwards == int(found.backwards[0]) == 3 * 50 + 1


def test_wrong_settings_are_named():
    for name, value in {"c": 0.0, "lr": -1.0, "binary_search_steps": 0, "steps": 1.5, "confidence": -1.0}.items():
        with refuses(name):
            carlini_wagner(Linear(), images(2), torch.zeros(2).long(), **{name: value})


@pytest.mark.parametrize(
    ("ends", "targeted"),
    [
        ((0.0, 1.0), True),
        pytest.param((0.0, 255.0), False, marks=pytest.mark.slow),
        pytest.param((-1.0, 1.0), True, marks=pytest.mark.slow),
        ((-1e-3, 1e-3), False),
        ((-torch.inf, torch.inf), True),
        ((0.0, torch.inf), False),
    ],
    ids=str,
)
def test_it_finds_the_distance_to_the_border_in_any_range_by_its_own_settings(ends, targeted):
    low, high = ends
    width = min(high - low, 2.0) if high == torch.inf else high - low
    start = max(low, -1.0)
    linear, unit = narrow(), 0.4 + 0.2 * images(10)
    model = Classifier(linear, mean=start, std=width, input_range=ends)
    y = classes_of(linear, unit)
    W, b = linear.layer.weight.detach(), linear.layer.bias.detach()
    exact = ((unit @ W.T + b) @ torch.tensor([1.0, -1.0]).double()).abs() / (W[0] - W[1]).norm()
    found = carlini_wagner(model, start + width * unit, 1 - y if targeted else y, targeted=targeted, steps=100)
    assert found.success.all()
    assert (found.eps / width >= exact - 1e-9).all()
    assert (found.eps / width <= 1.01 * exact).all()
    assert ((found.x >= low) & (found.x <= high)).all()


@pytest.mark.parametrize(
    "dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.slow), torch.float32], ids=str
)
def test_half_precision_costs_only_its_digits(dtype):
    model, x = Classifier(mlp(6, 8, 4, seed=1)), images(8)
    y = classes_of(model, x)
    exact = carlini_wagner(model, x, y, steps=60)
    found = carlini_wagner(model.to(dtype), x.to(dtype), y, steps=60)
    same = found.success & exact.success & (found.eps > 0) & (exact.eps > 0)
    assert same.sum() >= exact.success.sum() - 1
    torch.testing.assert_close(found.eps[same].double(), exact.eps[same], rtol=8 * torch.finfo(dtype).eps, atol=2e-2)


def test_ends_of_the_range_that_half_precision_rounds_outwards_are_inputs():
    model = Classifier(mlp(6, 8, 4, seed=1), input_range=(-2.1179, 2.64)).bfloat16()
    x = torch.tensor([[-2.1179, 2.64]]).expand(3, 2).repeat(1, 3).bfloat16()
    assert x.max().item() > 2.64
    found = carlini_wagner(model, x, classes_of(model, x), binary_search_steps=3, steps=40)
    assert found.success.all()


def test_settings_that_fit_0_to_1_fit_0_to_255():
    linear, unit = narrow(), 0.4 + 0.2 * images(5)
    y, settings = classes_of(linear, unit), {"c": 0.1, "lr": 0.05, "binary_search_steps": 4, "steps": 40}
    wide = Classifier(linear, std=255.0, input_range=(0, 255))
    found = carlini_wagner(linear, unit, y, **settings)
    near(carlini_wagner(wide, 255 * unit, y, **settings).eps / 255, found.eps, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "median"), [("cnn-a-adv", 0.4708), ("mnist-clean", 1.1961)])
def test_its_own_settings_find_what_the_best_ones_of_other_libraries_find(name, median):
    """Medians of the first 32 test images that are right: foolbox 3.3.4 and adv-lib 0.2.8, 9 rounds of 200 gradients.

    Each at the best of the step sizes .01, .03, .1, which is another one on each network.
    """
    classifier = CLASSIFIERS[name]
    try:
        model, (x, y) = classifier.load(), labelled_images(classifier.images, 60)
    except InputError:
        pytest.skip("needs the weights and images")
    right = (model(x).argmax(1) == y).nonzero()[:32, 0]
    found = carlini_wagner(model, x[right], y[right])
    assert found.success.all()
    assert found.backwards.max() <= 1801
    assert found.eps.median() <= 1.03 * median


@pytest.mark.parametrize("slope", [0.0, 1e-20])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (-torch.inf, torch.inf)], ids=str)
def test_a_boundary_out_of_reach_is_no_success_and_no_error(ends, slope):
    network = nn.Linear(4, 2).eval()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[slope], [-slope]]).expand(2, 4))
        network.bias.copy_(torch.tensor([2.0, 0.0]))
    model = Classifier(network, input_range=ends)
    found = carlini_wagner(model, torch.full((2, 4), 0.5), torch.zeros(2).long(), binary_search_steps=2, steps=5)
    assert found.success.tolist() == [False, False]
    assert found.eps.tolist() == [0.0, 0.0]
    assert found.x.isfinite().all()
