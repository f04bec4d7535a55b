"""What an attack warns of, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from labelled import CLASSES as K
from labelled import INPUTS as N
from labelled import Linear, classes_of, images
from nets import linear, mlp, refuses
from torch import Tensor, nn

from latentopt import AttackWarning, attack


def dead() -> nn.Module:
    network = nn.Sequential(nn.Linear(N, 5), nn.ReLU(), nn.Linear(5, K)).double()
    with torch.no_grad():
        linear(network, 0).bias.fill_(-100)
    return network


def noisy() -> Callable[[Tensor], Tensor]:
    generator, model = torch.Generator().manual_seed(0), Linear()
    return lambda x: model(x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (dead, "gradients"),
        (lambda: nn.Sequential(Linear(), nn.Softmax(1)), "probabilities"),
        (noisy, "randomised"),
    ],
)
def test_what_makes_an_attack_doubtful_is_said(make, words):
    model, x = make(), images()
    with pytest.warns(AttackWarning) as caught:
        found = attack(model, x, classes_of(model, x), 0.1, optimizer="pgd", steps=5)
    assert {str(each.message) for each in caught} == set(found.warnings)
    assert words in found.warnings[0]


def test_a_sound_model_warns_of_nothing():
    network, x = mlp(N, 8, K, seed=1), images()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attack(network, x, classes_of(network, x), 0.1).warnings == ()


X, Y = images(), classes_of(Linear(), images())
WRONG = {
    "x integers": ("x", {"x": (X * 255).long()}),
    "x text": ("x", {"x": "mnist"}),
    "x ragged": ("x", {"x": [[0.1], [0.2, 0.3]]}),
    "x NaN": ("x", {"x": X.index_fill(0, torch.tensor([1]), float("nan"))}),
    "x out of range": ("x", {"x": 2 * X}),
    "x of no batch": ("x", {"x": X[0]}),
    "x empty": ("x", {"x": X[:0], "y": Y[:0]}),
    "y floating": ("y", {"y": Y.double()}),
    "y too long": ("y", {"y": torch.zeros(13).long()}),
    "y one-hot": ("y", {"y": torch.zeros(12, 4).long()}),
    "y too great": ("y", {"y": Y.index_fill(0, torch.tensor([2]), 4)}),
    "y negative": ("y", {"y": Y.index_fill(0, torch.tensor([2]), -1)}),
    "eps negative": ("eps", {"eps": -0.1}),
    "eps NaN": ("eps", {"eps": float("nan")}),
    "eps above the range": ("eps", {"eps": 1.5}),
    "eps l2 above the range": ("eps", {"eps": 3.0, "norm": "l2"}),
    "eps of another length": ("eps", {"eps": torch.full((3,), 0.1)}),
    "norm": ("norm", {"norm": "l1"}),
    "loss": ("loss", {"loss": "hinge", "optimizer": "pgd"}),
    "steps": ("steps", {"steps": 0, "optimizer": "pgd"}),
    "restarts": ("restarts", {"restarts": 1.5, "optimizer": "pgd"}),
    "start": ("start", {"start": "warm", "optimizer": "pgd"}),
    "start of another shape": ("start", {"start": X[:3]}),
    "targets": ("targets", {"targets": 0, "optimizer": "pgd"}),
    "targets unknown": ("targets", {"targets": "most", "optimizer": "pgd"}),
    "targets and targeted": ("targets", {"targets": "random", "targeted": True}),
    "optimizer": ("optimizer", {"optimizer": "sgd"}),
    "portfolio with steps": ("steps", {"steps": 10}),
    "portfolio with targets": ("targets", {"targets": 3}),
    "evaluations": ("evaluations", {"evaluations": 0}),
    "seconds": ("seconds", {"seconds": -1.0}),
    "batch_size": ("batch_size", {"batch_size": 0}),
    "model of no classes": ("model", {"model": lambda x: Linear()(x)[:, 0]}),
    "model of images": ("model", {"model": lambda x: x[:, :, None]}),
    "model of NaN": ("model", {"model": lambda x: Linear()(x) / 0}),
    "model in training mode": ("network", {"model": nn.Sequential(nn.BatchNorm1d(N), nn.Linear(N, K)).double()}),
}


@pytest.mark.parametrize(("name", "changes"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_named_before_any_work(name, changes):
    with refuses(name):
        attack(**{"model": Linear(), "x": X, "y": Y, "eps": 0.1, **changes})
