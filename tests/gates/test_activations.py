"""Every piecewise-linear activation, however it is called: read, driven and softened like torch's own."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import mlp, near, pattern, plain_gradient, randn, refill, switched
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.gates import Activation, OnGates, dual, preactivations, soft_backward

Function = Callable[[Tensor], Tensor]
SLOPES = torch.tensor([0.3, -0.2, 1.5, 0.0, 2.0], dtype=torch.float64)
LOWER = torch.tensor([-1.0, -0.5, 0.0, 0.5, -2.0], dtype=torch.float64)


def statement(change: Function) -> Function:
    """The activation called for its effect, its result ignored."""

    def act(h: Tensor) -> Tensor:
        change(h)
        return h

    return act


ONE, MANY = (nn.PReLU(count, init=0.1, dtype=torch.float64).requires_grad_(False) for count in (1, 5))
MANY.weight.copy_(SLOPES)

# name: (call, kinks, in place)
RELUS: dict[str, tuple[Function, list[float], bool]] = {
    "nn.ReLU": (nn.ReLU(), [0], False),
    "nn.ReLU in place": (nn.ReLU(inplace=True), [0], True),
    "F.relu": (F.relu, [0], False),
    "F.relu in place": (lambda h: F.relu(h, inplace=True), [0], True),
    "F.relu in place by position": (lambda h: F.relu(h, True), [0], True),
    "F.relu by keyword": (lambda h: F.relu(input=h), [0], False),
    "torch.relu": (torch.relu, [0], False),
    "torch.relu by keyword": (lambda h: torch.relu(input=h), [0], False),
    "relu": (lambda h: h.relu(), [0], False),
    "relu_": (statement(lambda h: h.relu_()), [0], True),
    "torch.relu_": (statement(torch.relu_), [0], True),
    "F.relu_": (statement(F.relu_), [0], True),
}
ACTIVATIONS: dict[str, tuple[Function, list[float], bool]] = {
    **RELUS,
    "nn.LeakyReLU": (nn.LeakyReLU(0.2), [0], False),
    "nn.LeakyReLU in place": (nn.LeakyReLU(0.2, True), [0], True),
    "F.leaky_relu": (F.leaky_relu, [0], False),
    "F.leaky_relu by keyword": (lambda h: F.leaky_relu(input=h, negative_slope=-0.5), [0], False),
    "F.leaky_relu_": (statement(lambda h: F.leaky_relu_(h, 0.3)), [0], True),
    "nn.PReLU": (ONE, [0], False),
    "nn.PReLU per channel": (MANY, [0], False),
    "torch.prelu": (lambda h: torch.prelu(h, SLOPES), [0], False),
    "nn.RReLU": (nn.RReLU().eval(), [0], False),
    "F.rrelu in place": (lambda h: F.rrelu(h, 0.1, 0.5, inplace=True), [0], True),
    "torch.rrelu_": (statement(lambda h: torch.rrelu_(h, 0.1, 0.5)), [0], True),
    "nn.ReLU6": (nn.ReLU6(), [0, 6], False),
    "nn.ReLU6 in place": (nn.ReLU6(inplace=True), [0, 6], True),
    "F.relu6": (F.relu6, [0, 6], False),
    "nn.Hardtanh": (nn.Hardtanh(-0.7, 1.9), [-0.7, 1.9], False),
    "nn.Hardtanh in place": (nn.Hardtanh(0.5, 2.5, inplace=True), [0.5, 2.5], True),
    "F.hardtanh": (F.hardtanh, [-1, 1], False),
    "F.hardtanh_": (statement(lambda h: F.hardtanh_(h, -2, -0.5)), [-2, -0.5], True),
    "nn.Hardsigmoid": (nn.Hardsigmoid(), [-3, 3], False),
    "F.hardsigmoid in place": (lambda h: F.hardsigmoid(h, inplace=True), [-3, 3], True),
    "clamp": (lambda h: h.clamp(-0.25, 0.75), [-0.25, 0.75], False),
    "clamp by keyword": (lambda h: torch.clamp(input=h, max=0.5, min=-1.5), [-1.5, 0.5], False),
    "clamp min": (lambda h: torch.clamp(h, min=-0.3), [-0.3], False),
    "clamp max": (lambda h: torch.clamp(h, max=0.3), [0.3], False),
    "clamp_": (statement(lambda h: h.clamp_(-0.5, 0.5)), [-0.5, 0.5], True),
    "clamp within tensors": (
        lambda h: torch.clamp(h, torch.tensor(-0.5).double(), torch.ones(5).double()),
        [-0.5, 1],
        False,
    ),
    "clip": (lambda h: torch.clip(h, 0, 1), [0, 1], False),
    "clip_": (statement(lambda h: h.clip_(max=1)), [1], True),
    "clamp_min": (lambda h: h.clamp_min(0.2), [0.2], False),
    "clamp_min_": (statement(lambda h: torch.clamp_min_(h, 0.2)), [0.2], True),
    "clamp_max": (lambda h: torch.clamp_max(h, max=0.2), [0.2], False),
    "clamp_max_": (statement(lambda h: h.clamp_max_(0.2)), [0.2], True),
    "abs": (torch.abs, [0], False),
    "abs()": (abs, [0], False),
    "abs_": (statement(lambda h: h.abs_()), [0], True),
    "absolute": (lambda h: h.absolute(), [0], False),
}


def exactness(kinks: list[float]) -> float:
    """How near gradients come to torch's own: its hardsigmoid takes 1/6 in float32."""
    return 1e-6 if kinks == [-3, 3] else 1e-10


every_activation = pytest.mark.parametrize(("act", "kinks", "in_place"), ACTIVATIONS.values(), ids=ACTIVATIONS)


class Held(nn.Module):
    """(B, 4) to (B, 3); the residual branch holds the tensor that an activation in place changes."""

    def __init__(self, act: Function) -> None:
        super().__init__()
        self.act, self.layers = act, mlp(4, 5, 5, 3, seed=2)

    def forward(self, x: Tensor) -> Tensor:
        skip = 3 * self.layers[0](x)
        h = self.layers[2](self.act(skip)) + skip
        return self.layers[4](self.act(h))


class Conv(nn.Module):
    """(B, 1, 4, 5) to (B, 100)."""

    def __init__(self, act: Function) -> None:
        super().__init__()
        self.act, self.layers = act, nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1))
        refill(self, seed=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layers[1](self.act(2 * self.layers[0](x)))).flatten(1)


NETS = {Held: randn(7, 4), Conv: randn(3, 1, 4, 5, seed=1)}
every_net = pytest.mark.parametrize(("make", "x"), NETS.items())


@every_activation
@settings(max_examples=10)
@given(st.data())
def test_an_activation_is_the_sum_of_its_switches(act, kinks, in_place, data):
    values = st.sampled_from(kinks) | st.floats(-8, 8)
    h = torch.tensor([data.draw(st.lists(values, min_size=5, max_size=5))] * 2, dtype=torch.float64)
    seen: list[Activation] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Function) -> Tensor:
        seen.append(activation)
        return activation.join(h, [z.relu() for z in activation.switches(h)])

    with OnGates(rule, rows=2):
        output = act(h.clone())
    near(output, act(h.clone()), 1e-14)
    assert len(seen) == 1
    read = [torch.as_tensor(kink, dtype=torch.float64).unique().tolist() for kink, _ in seen[0].kinks]
    assert read == [[kink] for kink in kinks]


@every_activation
def test_an_activation_in_place_changes_what_others_hold_and_no_other_does(act, kinks, in_place):
    plain, held = randn(4, 5), randn(4, 5)
    expected = act(plain)
    with OnGates(lambda site, h, activation, real: real(h), rows=4):
        output = act(held)
    assert torch.equal(output, expected)
    assert torch.equal(held, plain)
    assert torch.equal(held, output) == in_place
    assert torch.equal(held, randn(4, 5)) != in_place


@every_activation
@every_net
def test_the_true_pattern_reproduces_the_network_and_its_gradient(make, x, act, kinks, in_place):
    network = make(act)
    gates = pattern(network, x)
    assert len(gates) == 2 * len(kinks)
    leaf = x.clone().requires_grad_()
    both = dual(network, leaf, switched(gates))
    near(both.real, network(x), 1e-12)
    near(both.gated, network(x), 1e-12)
    near(torch.autograd.grad(both.gated.square().sum() / 2, leaf)[0], plain_gradient(network, x), exactness(kinks))


@every_activation
def test_preactivations_are_how_far_the_layers_output_lies_above_each_kink(act, kinks, in_place):
    network, x = Held(act), randn(7, 4)
    switches = preactivations(network, x)
    first = 3 * network.layers[0](x)
    changed = act(before := first.clone())
    second = network.layers[2](changed) + (before if in_place else first)
    for z, h, kink in zip(switches, [first] * len(kinks) + [second] * len(kinks), kinks * 2, strict=True):
        near(z, h - kink, 1e-13)


@every_activation
@every_net
def test_soft_backward_leaves_the_forward_pass_and_becomes_the_gradient_as_tau_falls(make, x, act, kinks, in_place):
    network = make(act)
    with soft_backward(1.0, len(x)) as mode:
        output = network(x)
    assert mode.sites == mode.driven == 2
    assert torch.equal(output, network(x))
    with soft_backward(1e-9, len(x)):
        soft = plain_gradient(network, x)
    near(soft, plain_gradient(network, x), exactness(kinks))


def sigmoid(t: float) -> float:
    return 1 / (1 + exp(-t))


@pytest.mark.parametrize("tau", [0.25, 1.0])
@pytest.mark.parametrize(
    ("act", "factor"),
    [
        (F.relu, lambda h, w: sigmoid(h / w)),
        (nn.LeakyReLU(0.2), lambda h, w: 0.2 + 0.8 * sigmoid(h / w)),
        (torch.abs, lambda h, w: 2 * sigmoid(h / w) - 1),
        (nn.Hardtanh(-1, 2), lambda h, w: sigmoid((h + 1) / w) - sigmoid((h - 2) / w)),
        (F.hardsigmoid, lambda h, w: (sigmoid((h + 3) / w) - sigmoid((h - 3) / w)) / 6),
        (lambda h: torch.clamp(h, max=0.5), lambda h, w: 1 - sigmoid((h - 0.5) / w)),
    ],
)
def test_soft_gates_are_those_worked_out_by_hand(act, factor, tau):
    h = torch.tensor([[3.0, -4.0], [0.1, 0.1]], dtype=torch.float64, requires_grad=True)
    with soft_backward(tau, 2):
        output = act(h) @ torch.tensor([2.0, 5.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad(output.sum(), h)
    wide, narrow = tau * 12.5**0.5, tau * 0.1  # the root mean squares of the two samples
    expected = [[2 * factor(3, wide), 5 * factor(-4, wide)], [2 * factor(0.1, narrow), 5 * factor(0.1, narrow)]]
    near(grad, torch.tensor(expected, dtype=torch.float64), 1e-14)


def test_soft_gates_are_half_open_where_every_preactivation_is_zero():
    h = torch.zeros(2, 3, requires_grad=True)
    with soft_backward(0.01, 2):
        output = torch.relu(h)
    assert torch.equal(torch.autograd.grad(output.sum(), h)[0], torch.full((2, 3), 0.5))
