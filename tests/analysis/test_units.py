from __future__ import annotations

import pytest
import torch
from nets import randn, refuses
from torch import nn

from latentopt.analysis.regions import unit_activity
from latentopt.zoo.capped import CappedReLU


def shifted(*bias: float) -> nn.Linear:
    """``z_j = x + bias_j`` of one input."""
    layer = nn.Linear(1, len(bias)).double()
    layer.load_state_dict({"weight": torch.ones(len(bias), 1), "bias": torch.tensor(bias)})
    return layer


X = torch.tensor([[-1.0], [0.0], [1.0]]).double()


def test_dead_saturated_and_affine_units_are_counted():
    (relu,) = unit_activity(nn.Sequential(shifted(-5.0, 5.0, 0.5, 7.0), nn.ReLU()), X)
    assert (relu.kind, relu.count, relu.dead, relu.saturated, relu.affine) == ("relu", 4, 0.25, 0.0, 0.5)
    assert (relu.below, relu.above) == pytest.approx((4 / 12, 8 / 12))
    (capped,) = unit_activity(nn.Sequential(shifted(-5.0, 5.0, 0.5, 1.5), CappedReLU(3.0)), X)
    assert (capped.dead, capped.saturated, capped.affine) == (0.25, 0.25, 0.25)
    (leaky,) = unit_activity(nn.Sequential(shifted(-5.0, 5.0), nn.LeakyReLU()), X)
    assert (leaky.dead, leaky.saturated, leaky.affine) == (0.0, 0.0, 1.0)
    (step,) = unit_activity(nn.Sequential(shifted(-2.0, 2.0), nn.Hardtanh(-1.5, 1.5)), X)
    assert (step.dead, step.saturated, step.affine) == (0.0, 0.0, 0.0)


def test_every_site_of_a_convolutional_network_is_looked_at():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.PReLU(5)).double()
    sites = unit_activity(net, randn(6, 1, 4, 4))
    assert [(site.site, site.kind, site.count) for site in sites] == [(0, "relu", 12), (1, "prelu", 5)]
    z = net[0](randn(6, 1, 4, 4))
    assert sites[0].above == pytest.approx((z > 0).double().mean().item())


def test_what_has_no_units_is_refused():
    with refuses("network", "smooth"):
        unit_activity(nn.Tanh(), X)
    with refuses("x"):
        unit_activity(nn.ReLU(), X[:0])
