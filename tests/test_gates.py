from __future__ import annotations

from collections.abc import Callable
from math import exp

import pytest
import torch
from nets import conv, linear, mlp, near, pattern, rand, randn, refuses
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.gates import OnReLU, dual, preactivations, soft_backward


def statement(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The ReLU called for its effect, its result ignored."""

    def act(h: Tensor) -> Tensor:
        change(h)
        return h

    return act


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda h: F.relu(h, inplace=True),
    "F.relu in place by position": lambda h: F.relu(h, True),
    "F.relu by keyword": lambda h: F.relu(input=h),
    "torch.relu": torch.relu,
    "torch.relu by keyword": lambda h: torch.relu(input=h),
    "method": lambda h: h.relu(),
    "method in place": statement(lambda h: h.relu_()),
    "torch.relu_": statement(torch.relu_),
    "F.relu_": statement(F.relu_),
}


class Net(nn.Module):
    """(B, 4) to (B, 3); one ReLU, used twice."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.relu, self.layers = relu, mlp(4, 6, 5, 3, seed=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.layers[0](x))
        return self.layers[4](self.relu(self.layers[2](h)))


class PreActivationBlock(nn.Module):
    """The residual branch holds the tensor that the ReLU changes in place."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.relu, self.layers = relu, mlp(4, 5, 5, 3, seed=2)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.layers[0](x)
        return self.layers[4](self.layers[2](self.relu(skip)) + skip)


def plain_gradient(network: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(network(x).square().sum(), x)[0]


every_relu = pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)


@every_relu
@pytest.mark.parametrize(("make", "sites"), [(Net, 2), (PreActivationBlock, 1)])
def test_the_true_pattern_reproduces_the_network_and_its_gradient(make, sites, relu):
    network, x = make(relu), randn(7, 4)
    gates = pattern(network, x)
    assert len(gates) == sites
    leaf = x.clone().requires_grad_()
    both = dual(network, leaf, gates)
    near(both.real, network(x), 1e-13)
    near(both.gated, network(x), 1e-13)
    near(torch.autograd.grad(both.gated.square().sum(), leaf)[0], plain_gradient(network, x), 1e-12)


@every_relu
def test_preactivations_are_what_the_layers_return(relu):
    network, x = Net(relu), randn(7, 4)
    first, second = preactivations(network, x)
    near(first, network.layers[0](x), 1e-13)
    near(second, network.layers[:3](x), 1e-13)


def test_recorded_preactivations_survive_a_later_change_in_place():
    layers = mlp(4, 5, 3)

    def network(x: Tensor) -> Tensor:
        h = layers[0](x)
        out = F.relu(h)
        h += 100
        return layers[2](out)

    x = randn(6, 4)
    near(preactivations(network, x)[0], layers[0](x), 1e-13)
    near(dual(network, x, [rand(6, 5)]).h[0], layers[0](x), 1e-13)


def test_gradients_of_the_dual_are_those_of_the_surrogate_written_out():
    network, x = Net(nn.ReLU(inplace=True)), randn(7, 4).requires_grad_()
    gates = [rand(7, 6, seed=1).requires_grad_(), rand(7, 5, seed=2).requires_grad_()]
    first, second, last = (linear(network.layers, i) for i in (0, 2, 4))
    h1 = x @ first.weight.T + first.bias
    h2 = (gates[0] * h1) @ second.weight.T + second.bias
    surrogate = (gates[1] * h2) @ last.weight.T + last.bias  # eq. 6
    real = h1.relu() @ second.weight.T + second.bias

    both = dual(network, x, gates)
    near(both.gated, surrogate, 1e-12)
    weight = randn(7, 3, seed=5)
    expected = torch.autograd.grad((weight * surrogate).sum() + real.square().sum(), [x, *gates])
    actual = torch.autograd.grad((weight * both.gated).sum() + both.h[1].square().sum(), [x, *gates])
    for a, e in zip(actual, expected, strict=True):
        near(a, e, 1e-11)


def test_soft_backward_leaves_the_forward_pass_as_it_is():
    network, x = conv(), randn(4, 1, 5, 5)
    with soft_backward(1.0) as mode:
        output = network(x)
    assert mode.sites == 2
    assert torch.equal(output, network(x))


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_soft_backward_passes_the_gates_worked_out_by_hand(tau):
    x = torch.tensor([[3.0, -4.0], [0.1, 0.1]], dtype=torch.float64, requires_grad=True)
    with soft_backward(tau):
        output = torch.relu(x) @ torch.tensor([2.0, 5.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad(output.sum(), x)
    rms = 12.5**0.5  # of (3, -4); that of (.1, .1) is .1
    gates = [1 / (1 + exp(-3 / (tau * rms))), 1 / (1 + exp(4 / (tau * rms))), 1 / (1 + exp(-1 / tau))]
    expected = [[2 * gates[0], 5 * gates[1]], [2 * gates[2], 5 * gates[2]]]
    near(grad, torch.tensor(expected, dtype=torch.float64), 1e-14)


@pytest.mark.parametrize("relu", ["nn.ReLU", "nn.ReLU in place", "torch.relu_"])
@pytest.mark.parametrize("make", [Net, PreActivationBlock])
def test_as_tau_falls_the_soft_gradient_becomes_the_gradient(make, relu):
    network, x = make(RELUS[relu]), randn(7, 4)
    with soft_backward(1e-7):
        soft = plain_gradient(network, x)
    near(soft, plain_gradient(network, x), 1e-12)


def test_soft_gates_are_half_open_where_every_preactivation_is_zero():
    x = torch.zeros(2, 3, requires_grad=True)
    with soft_backward(0.01):
        output = torch.relu(x)
    assert torch.equal(torch.autograd.grad(output.sum(), x)[0], torch.full((2, 3), 0.5))


def test_a_network_without_relu_is_refused():
    with refuses("network"):
        preactivations(nn.Linear(3, 2), torch.zeros(1, 3))


def test_a_relu_that_mixes_samples_is_refused():
    with refuses("network"):
        preactivations(lambda x: x.flatten().relu(), torch.ones(2, 3))


def test_the_mode_ends_with_its_block_even_on_an_error():
    def fail(site: int, h: Tensor) -> Tensor:
        raise KeyError(site)

    with pytest.raises(KeyError), OnReLU(fail):
        torch.relu(torch.ones(1))
    assert torch.relu(torch.tensor(-1.0)) == 0


def test_a_resnet18_has_17_sites_and_is_left_as_it_was():
    from torchvision.models import resnet18

    network, x = resnet18(weights=None).eval(), torch.rand(2, 3, 32, 32)
    before, weights = network(x), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    sites = preactivations(network, x)
    assert len(sites) == 17
    assert sites[0].shape == (2, 64, 16, 16)
    both = dual(network, x, pattern(network, x))
    near(both.real, before, 1e-5)
    near(both.gated, before, 1e-5)
    assert torch.equal(network(x), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
