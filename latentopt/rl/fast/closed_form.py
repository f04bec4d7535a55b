"""Values and gradients of ReLU critics in closed form, without autograd: what a step costs is the matrix products.

NumPy, because at batch 1 its products and calls take half the time of torch's. The observation's part of the first
layer is computed once. Weights are read where the modules have them, so they are always the current ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt.rl.critics import Reduce, reduced
from latentopt.rl.fast.chains import Chain

Array = NDArray[Any]


class CriticLayers(NamedTuple):
    """Weights of one critic at B observations."""

    base: Array  # (B, H) of the first layer, all but the action's part
    action: Array  # (A, H) the action's part of the first layer
    hidden: tuple[tuple[Array, Array], ...]  # weights (out, in) and biases (out,) between the first and the last
    last: Array  # (H',)
    offset: float


class CriticValues(NamedTuple):
    """Values of actions (rows, A), and the gradient."""

    value: Array  # (rows,) the one that counts
    values: Array  # (n, rows) of each critic
    grad: Array | None  # (rows, A) of the value


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """Critics at fixed observations, functions of the action alone.

    Args:
        critics: their layers.
        critic: which of them counts.
    """

    critics: list[CriticLayers]
    critic: Reduce

    @classmethod
    def from_chains(
        cls, chains: list[Chain], critic: Reduce, observations: Array, middle: Array, half: Array
    ) -> ClosedForm:
        """Read the layers, for actions ``middle + half u`` (A,) as functions of u."""
        chosen = chains[:1] if critic == "first" else chains
        return cls([_layers(chain, observations, middle, half) for chain in chosen], critic)

    def take(self, rows: Array) -> ClosedForm:
        """Return the critics at some of the observations."""
        return ClosedForm([layers._replace(base=layers.base[rows]) for layers in self.critics], self.critic)

    def values(self, u: Array, gradient: bool = False, tau: float | None = None) -> CriticValues:
        """Return values, and the gradient if asked for, at actions ``u`` (copies * B, A), copy by copy.

        ``tau``: the gradient passes through soft gates, as in `latentopt.gates.soft_backward`.
        """
        values = np.empty((len(self.critics), len(u)), u.dtype)
        switches = [_forward(layers, u, out) for layers, out in zip(self.critics, values, strict=True)]
        if callable(self.critic):
            return (
                self._weighted(values, switches, tau) if gradient else CriticValues(self._reduce(values), values, None)
            )
        value = values[0] if len(values) == 1 else values.min(0)
        if not gradient:
            return CriticValues(value, values, None)
        if len(values) == 1:
            return CriticValues(value, values, _backward(self.critics[0], switches[0], tau))
        smallest = values.argmin(0)
        grad = np.empty_like(u)
        for index, (layers, z) in enumerate(zip(self.critics, switches, strict=True)):
            rows = (smallest == index).nonzero()[0]
            grad[rows] = _backward(layers, [units[rows] for units in z], tau)
        return CriticValues(value, values, grad)

    def _reduce(self, values: Array) -> Array:
        return reduced(torch.from_numpy(values), self.critic).numpy()

    def _weighted(self, values: Array, switches: list[list[Array]], tau: float | None) -> CriticValues:
        """Values and gradient where a function of the critics counts."""
        leaf = torch.from_numpy(values).requires_grad_()
        with torch.enable_grad():
            value = reduced(leaf, self.critic)
            (weights,) = torch.autograd.grad(value.sum(), leaf)
        parts = zip(self.critics, switches, weights.numpy(), strict=True)
        grads = [weight[:, None] * _backward(layers, z, tau) for layers, z, weight in parts]
        return CriticValues(value.detach().numpy(), values, np.sum(grads, 0))


def _layers(chain: Chain, observations: Array, middle: Array, half: Array) -> CriticLayers:
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in chain]
    (first, bias), *hidden, (last, offset) = weights
    split = observations.shape[1]
    base = np.dot(observations, first[:, :split].T)
    base += bias + np.dot(first[:, split:], middle)
    action = np.multiply(first[:, split:].T, half[:, None], order="C")
    several = len(last) > 1
    return CriticLayers(
        base, action, tuple(hidden), last.mean(0) if several else last[0], offset.mean() if several else offset[0]
    )


def _forward(layers: CriticLayers, u: Array, out: Array) -> list[Array]:
    """Writes the values (rows,); returns the pre-activations of each hidden layer (rows, H)."""
    z = np.dot(u, layers.action)
    copies = z.reshape(-1, *layers.base.shape)
    copies += layers.base
    switches = [z]
    for weight, bias in layers.hidden:
        z = np.dot(_relu(z), weight.T)
        z += bias
        switches.append(z)
    np.dot(_relu(z), layers.last, out=out)
    out += layers.offset
    return switches


def _backward(layers: CriticLayers, switches: list[Array], tau: float | None) -> Array:
    """The gradient (rows, A) of each row's value, through its gates."""
    back = _gate(switches[-1], tau) * layers.last
    for (weight, _), z in zip(layers.hidden[::-1], switches[-2::-1], strict=True):
        back = np.dot(back, weight)
        back *= _gate(z, tau)
    return np.dot(back, layers.action.T)


def _relu(z: Array) -> Array:
    return torch.from_numpy(z).relu().numpy()  # of many numbers faster than NumPy's maximum


def _gate(z: Array, tau: float | None) -> Array:
    """Open where ``z > 0``; or as in `latentopt.gates.soft_backward`, ``sigmoid(z / (tau rms(z)))``, rows alone."""
    if tau is None:
        return z > 0
    rms = np.sqrt(np.einsum("rh,rh->r", z, z) / z.shape[1])
    return torch.from_numpy(z / np.maximum(tau * rms, np.finfo(z.dtype).tiny)[:, None]).sigmoid_().numpy()
