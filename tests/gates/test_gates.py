from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from nets import conv, linear, mlp, near, pattern, plain_gradient, rand, randn, refuses, switched
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.gates import Activation, OnGates, Site, dual, preactivations, sites

A, B, C = (randn(5, 5, seed=seed) for seed in (11, 12, 13))
RELUS = {"relu": torch.relu, "relu in place": nn.ReLU(inplace=True), "leaky_relu_": lambda h: F.leaky_relu_(h, 0.1)}


def skips(x: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
    """A pre-activation residual block, the sum taken in place."""
    h = (x @ C).relu() @ A
    late = relu(h) @ B
    late += h
    return relu(late) @ C + x


def statements(x: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
    """The ReLU in place called for its effect; an earlier tensor changed in place by a later one."""
    h, early = (x @ A).relu() @ B, x @ C
    h.relu_()
    early.add_(h @ B)
    kept = early
    kept *= h
    return relu(early @ A + x) + h


def gathered(x: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
    """Concatenation, as in a densely connected block, and a gate of a sample's own."""
    first = relu(x @ A)
    second = relu(torch.cat([first, x], 1) @ torch.cat([B, C]))
    third = relu(torch.cat(tensors=(x, first, second), dim=1) @ torch.cat([A, B, C]))
    return third * torch.sigmoid(x[:, :1]) - first / (1 + x.square())


def critics(x: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
    """Branches that meet behind their activations."""
    values = [relu(x @ matrix) @ matrix.T for matrix in (A, B, C)]
    least = torch.minimum(torch.min(values[0], values[1]), torch.stack(values).min(0).values)
    return torch.where(values[1] > 0, least, values[2]).lerp(values[0], 0.3) + torch.max(values[2], values[1])


def maps(x: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
    """Products of matrices that the samples make, as in attention."""
    h = (x[:, :, None] * A).relu()
    return torch.bmm(h, relu(x[:, None, :] * B)).mean(1) + torch.addcmul(x, x, relu(x @ C))


NETWORKS = (skips, statements, gathered, critics, maps)


def test_gradients_of_the_dual_are_those_of_the_surrogate_written_out():
    network, x = mlp(4, 6, 5, 3, seed=1), randn(7, 4).requires_grad_()
    gates = [rand(7, 6, seed=1).requires_grad_(), rand(7, 5, seed=2).requires_grad_()]
    first, second, last = (linear(network, i) for i in (0, 2, 4))
    h1 = x @ first.weight.T + first.bias
    h2 = (gates[0] * h1) @ second.weight.T + second.bias
    surrogate = (gates[1] * h2) @ last.weight.T + last.bias  # eq. 6

    both = dual(network, x, switched(gates))
    near(both.gated, surrogate, 1e-12)
    near(both.real, network(x), 1e-12)
    weight = randn(7, 3, seed=5)
    expected = torch.autograd.grad((weight * surrogate).sum() + network(x).square().sum(), [x, *gates])
    actual = torch.autograd.grad((weight * both.gated).sum() + both.real.square().sum(), [x, *gates])
    for a, e in zip(actual, expected, strict=True):
        near(a, e, 1e-11)


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
@pytest.mark.parametrize("network", NETWORKS)
def test_sites_outside_the_layers_are_the_activations_themselves(network, relu):
    """For every choice of layers: as if in one pass of the batch twice the others' switches were ReLUs."""
    x = randn(3, 5).requires_grad_()
    shapes = [z.shape for z in preactivations(lambda x: network(x, relu), x)]
    gates = [rand(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
    weight, count = randn(3, 5, seed=9), len(shapes)
    for layers in (layers for size in range(1, count + 1) for layers in combinations(range(count), size)):
        chosen = [gates[site] for site in layers]
        wanted = dict(zip(layers, range(len(layers)), strict=True))

        def everywhere(index: int, z: Tensor, wanted=wanted) -> Tensor:
            return switched(gates)(index, z) if index in wanted else z.relu()

        expected = dual(lambda x: network(x, relu), x, everywhere)
        actual = dual(lambda x: network(x, relu), x, switched(chosen), layers)
        near(actual.real, network(x, relu), 1e-12)
        near(actual.gated, expected.gated, 1e-12)
        for a, e in zip(
            torch.autograd.grad((weight * actual.gated).sum() + actual.real.square().sum(), [x, *chosen]),
            torch.autograd.grad((weight * expected.gated).sum() + expected.real.square().sum(), [x, *chosen]),
            strict=True,
        ):
            near(a, e, 1e-11)


@pytest.mark.parametrize(("layers", "rows"), [(None, [14, 14]), ([0], [14, 14]), ([1], [7, 14])])
def test_both_networks_share_what_lies_before_the_first_layer(layers, rows):
    network, x, seen = mlp(4, 6, 5, 3), randn(7, 4), []
    for index in (0, 4):
        network[index].register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    gates = [rand(7, 6), rand(7, 5)]
    dual(network, x, switched(gates if layers is None else [gates[site] for site in layers]), layers)
    assert seen == rows


def test_max_pooling_takes_each_networks_own_maxima():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1).double(), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    x = randn(2, 1, 6, 5)
    gates = [rand(2, 3, 6, 5) < 0.5]
    both = dual(network, x, switched(gates))
    near(both.gated, network[2](gates[0] * network[0](x)), 1e-13)
    near(both.real, network(x), 1e-13)
    assert not torch.equal(both.gated, both.real)
    leaf = x.clone().requires_grad_()
    gated = dual(network, leaf, switched(pattern(network, x))).gated
    near(torch.autograd.grad(gated.square().sum() / 2, leaf)[0], plain_gradient(network, x), 1e-12)


def test_recorded_preactivations_survive_a_later_change_in_place():
    layers = mlp(4, 5, 3)

    def network(x: Tensor) -> Tensor:
        h = layers[0](x)
        out = F.relu(h)
        h += 100
        return layers[2](out)

    x = randn(6, 4)
    near(preactivations(network, x)[0], layers[0](x), 1e-13)


def test_layers_that_the_output_does_not_depend_on_are_refused():
    with refuses("layers"):
        dual(lambda x: ((x @ A).relu(), (x @ B).relu())[0], randn(3, 5), switched([rand(3, 5)]), [1])


def test_sites_are_named_by_their_modules_and_nothing_stays_behind():
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.inner = nn.LeakyReLU(), nn.Sequential(nn.Linear(4, 2), nn.ReLU6(), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return self.act(torch.abs(self.act(self.inner(x)))).clamp(max=1)

    network = nn.Sequential(nn.Linear(3, 4), nn.PReLU(), Branch()).train()
    found = [("prelu", "1"), ("hardtanh", "2.inner.1"), ("leaky_relu", "2.act"), ("abs", "2"), ("leaky_relu", "2.act")]
    found.append(("clamp", "2"))
    expected = [Site(i, kind, name, (4 if i == 0 else 2,)) for i, (kind, name) in enumerate(found)]
    assert sites(network, torch.zeros(2, 3)) == expected
    assert sites(conv(), randn(1, 1, 5, 5)) == [Site(0, "relu", "2", (3, 5, 5)), Site(1, "relu", "5", (4, 2, 2))]
    with pytest.raises(RuntimeError):
        sites(network, torch.zeros(2, 4))
    for module in network.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_the_mode_ends_with_its_block_even_on_an_error():
    def fail(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        raise KeyError(site)

    with pytest.raises(KeyError), OnGates(fail, rows=1):
        torch.relu(torch.ones(1))
    assert torch.relu(torch.tensor(-1.0)) == 0
