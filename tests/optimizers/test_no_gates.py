"""What is no gate: calls on something else than activations, smooth activations, sites that do not exist."""

from __future__ import annotations

import pytest
import torch
from nets import fitting, mlp, near, pattern, plain_gradient, randn, ready, refuses, switched
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.gates import dual, preactivations, sites
from latentopt.optimizers import ADRGD, GD, FreeGates, SoftGates


class Arithmetic(nn.Module):
    """(B, 4) to (B, 3); calls of clamp, abs and relu on something else than activations, and one ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.weight = mlp(4, 5, 3, seed=2), nn.Parameter(randn(6, 5), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        low = (x - 0.5).detach()
        h = self.layers[0](torch.clamp(x, low, low + 1).clamp(min=low))
        h = F.linear(h.relu(), torch.clamp(self.weight, -1, 1)[:5] + self.weight.abs()[1:] * self.weight.relu()[:5])
        scale = torch.arange(-2, 3).abs() + torch.tensor(-0.5).abs()
        return self.layers[2](F.normalize(h * scale))


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
def test_calls_on_something_else_than_activations_are_left_alone(rows):
    network, x = Arithmetic(), randn(rows, 4)
    assert [site.kind for site in sites(network, x)] == ["relu"]
    leaf = x.clone().requires_grad_()
    both = dual(network, leaf, switched(pattern(network, x)))
    near(both.real, network(x), 1e-13)
    near(both.gated, network(x), 1e-13)
    near(torch.autograd.grad(both.gated.square().sum() / 2, leaf)[0], plain_gradient(network, x), 1e-12)


METHODS = {"default": ADRGD(), "soft": ADRGD(SoftGates(), GD()), "free": ADRGD.paper(), "reference": ADRGD.reference()}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("smooth", [nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Softplus(), nn.Identity()])
def test_a_network_of_smooth_activations_only_is_refused(method, smooth):
    network = nn.Sequential(mlp(3, 4), smooth, mlp(4, 2)).requires_grad_(False)
    problem, x = ready(fitting(network, (3,), randn(2, 2))), randn(2, 3)
    with refuses("network", "piecewise-linear activation"):
        method.step(problem, x, method.init(problem, x))


@pytest.mark.parametrize("gates", [SoftGates, FreeGates])
@pytest.mark.parametrize("layers", [[2], [1, 2], [0, 99]])
def test_layers_that_the_network_does_not_have_are_refused(gates, layers):
    problem, x = ready(fitting(mlp(3, 4, 4, 2).requires_grad_(False), (3,), randn(2, 2))), randn(2, 3)
    method = ADRGD(gates(layers=layers), GD())
    with refuses("layers", "0 to 1"):
        method.step(problem, x, method.init(problem, x))
    with refuses("layers", "0 to 1"):
        preactivations(problem.network, x, layers)


@pytest.mark.parametrize("act", [torch.relu, F.leaky_relu, F.relu6, lambda h: F.max_pool1d(h.relu(), 2)])
def test_an_activation_that_mixes_samples_is_refused(act):
    def network(x: Tensor) -> Tensor:
        return act(x.reshape(1, -1))

    with refuses("network", "batch of 2"):
        preactivations(network, torch.ones(2, 4))
