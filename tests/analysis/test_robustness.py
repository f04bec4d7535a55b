"""What attacks say together: against classifiers that are known to be robust, weak, masked or untrained."""

from __future__ import annotations

import pytest
import torch
from nets import refuses
from torch import nn

from latentopt import Classifier
from latentopt.analysis.robustness import robustness
from latentopt.zoo.capped import CappedReLU

QUICK = {"steps": 20, "queries": 40}


def two_classes(slope: float = 1.0, cap: float | None = None, shift: float = 0.0) -> Classifier:
    """Class 1 where the mean of the 4 pixels exceeds 1/2; behind a cap, flat wherever it is sure."""
    first = nn.Linear(4, 2)
    first.load_state_dict({"weight": torch.tensor([[-0.25], [0.25]]).repeat(1, 4), "bias": torch.tensor([0.5, -0.5])})
    with torch.no_grad():
        first.weight.mul_(slope)
        first.bias.mul_(slope).add_(shift)
    gate = nn.ReLU() if cap is None else CappedReLU(cap)
    last = nn.Linear(2, 2)
    last.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    return Classifier(nn.Sequential(nn.Flatten(), first, gate, last)).eval()


X = torch.cat([torch.full((5, 1, 2, 2), 0.35), torch.full((5, 1, 2, 2), 0.65)])
X = X + 0.04 * torch.rand(X.shape, generator=torch.Generator().manual_seed(0)) - 0.02
Y = torch.arange(2).repeat_interleave(5)


def test_a_robust_classifier_is_robust_under_all_and_nothing_is_wrong():
    found = robustness(two_classes(), X, Y, 0.05, 0.05, **QUICK)
    assert set(found.accuracy.values()) == {1.0}
    assert (found.failure, found.zero) == ("", 0.0)
    assert found.worst.all()


def test_a_weak_classifier_is_weak_under_all():
    found = robustness(two_classes(), X, Y, 0.3, 0.8, **QUICK)
    assert found.accuracy["clean"] == 1
    assert all(share == 0 for name, share in found.accuracy.items() if name != "clean")
    assert found.failure == ""
    assert not found.worst.any()


def test_gradients_that_a_cap_masks_are_found_out():
    """Both units are at the cap or at zero around every input: PGD, FGSM and a few queries cannot tell where to."""
    found = robustness(two_classes(slope=100.0, cap=1.0), X, Y, 0.3, 0.8, **QUICK)
    shares = found.accuracy
    assert found.zero == 1
    assert shares["fgsm"] == shares["pgd"] == shares["apgd"] == shares["cw-l2"] == 1
    assert shares["adr-gd"] == shares["adr-gd-l2"] == shares["pgd-straight-through"] == 0
    assert found.failure == "masked gradients"


def test_what_never_learned_is_named():
    dead = two_classes(cap=1.0, shift=-50.0)  # both units dead: one class for everything
    found = robustness(dead, X[:5], Y[5:], 0.05, **QUICK)
    assert found.failure == "vanishing gradients"
    wrong = robustness(two_classes(), X[:5], Y[5:], 0.05, **QUICK)
    assert wrong.failure == "not trained"
    assert "cw-l2" not in wrong.right


def test_a_smooth_network_has_no_gates_to_see_through():
    torch.manual_seed(0)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))).eval()
    assert not {"adr-gd", "pgd-straight-through"} & set(robustness(model, X, Y, 0.05, **QUICK).right)


@pytest.mark.parametrize(
    ("name", "settings"), [("eps", {"eps": 0.0}), ("eps_l2", {"eps_l2": -1.0}), ("queries", {"queries": 0})]
)
def test_wrong_settings_are_named(name, settings):
    with refuses(name):
        robustness(two_classes(), X, Y, **{"eps": 0.1, **settings})
