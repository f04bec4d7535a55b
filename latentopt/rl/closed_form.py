"""Values and gradients of ReLU critics in closed form, without autograd: what a step costs is the matrix products.

NumPy, because at batch 1 its products and calls take half the time of torch's. The observation's part of the first
layer is computed once. Weights are read where the modules have them, so they are always the current ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt.rl.chains import Chain
from latentopt.rl.critics import Reduce, reduced

Array = NDArray[Any]


class Layers(NamedTuple):
    """One critic's, at B observations."""

    base: Array  # (B, H) of the first layer, all but the action's part
    action: Array  # (A, H) the action's part of the first layer
    hidden: tuple[tuple[Array, Array], ...]  # weights (out, in) and biases (out,) between the first and the last
    last: Array  # (H',)
    offset: float


class Seen(NamedTuple):
    """What the critics say of actions."""

    value: Array  # (rows,) that counts
    values: Array  # (n, rows) of each critic
    grad: Array | None  # (rows, A) of the value


@dataclass(eq=False)
class ClosedForm:
    """Critics at fixed observations, functions of the action alone.

    Args:
        critics: their layers.
        critic: which of them counts.
    """

    critics: list[Layers]
    critic: Reduce
    last: tuple[Array, Seen] | None = field(default=None, init=False)

    @classmethod
    def of(cls, chains: list[Chain], critic: Reduce, observations: Array, half: Array, middle: Array) -> ClosedForm:
        """Of actions ``middle + half u`` (A,) as functions of u."""
        used = chains[:1] if critic == "first" else chains
        return cls([_layers(chain, observations, half, middle) for chain in used], critic)

    def take(self, rows: Array) -> ClosedForm:
        """The critics at some of the observations."""
        return ClosedForm([layers._replace(base=layers.base[rows]) for layers in self.critics], self.critic)

    def see_again(self, u: Array) -> Seen:
        """`see` with the gradient, of B actions; only rows that are not as they were in the last call are looked at."""
        seen = None
        if self.last is not None and len(u) > 1:
            moved = (u != self.last[0]).any(1).nonzero()[0]
            if 2 * len(moved) < len(u):
                seen = self._renewed(self.last[1], u, moved)
        seen = seen or self.see(u, gradient=True)
        self.last = u, seen
        return seen

    def _renewed(self, seen: Seen, u: Array, rows: Array) -> Seen:
        if not len(rows):
            return seen
        value, values, grad = seen.value.copy(), seen.values.copy(), np.array(seen.grad)
        part = self.take(rows).see(u[rows], gradient=True)
        value[rows], values[:, rows], grad[rows] = part.value, part.values, part.grad
        return Seen(value, values, grad)

    def see(self, u: Array, gradient: bool = False, tau: float | None = None) -> Seen:
        """Values, and the gradient if asked for, at actions ``u`` (copies * B, A), copy by copy.

        ``tau``: the gradient passes through soft gates, as in `latentopt.gates.soft_backward`.
        """
        values = np.empty((len(self.critics), len(u)), u.dtype)
        passed: list[list[Array]] = []
        for index, layers in enumerate(self.critics):
            passed.append(_forward(layers, u, values[index], gradient, tau))
        if not gradient:
            return Seen(self._value(values), values, None)
        if callable(self.critic):
            return self._weighted(values, passed)
        if len(values) == 1:
            return Seen(values[0], values, _backward(self.critics[0], passed[0]))
        least = values.argmin(0)
        if len(u) == 1:
            return Seen(values.min(0), values, _backward(self.critics[least[0]], passed[least[0]]))
        grad = np.empty_like(u)
        for index, (layers, gates) in enumerate(zip(self.critics, passed, strict=True)):
            rows = (least == index).nonzero()[0]
            grad[rows] = _backward(layers, [gate[rows] for gate in gates])
        return Seen(values.min(0), values, grad)

    def _weighted(self, values: Array, passed: list[list[Array]]) -> Seen:
        """Where a function of the critics counts: by its own gradient (n, rows)."""
        leaf = torch.from_numpy(values).requires_grad_()
        with torch.enable_grad():
            value = reduced(leaf, self.critic)
            (weights,) = torch.autograd.grad(value.sum(), leaf)
        parts = zip(self.critics, passed, weights.numpy(), strict=True)
        grad = sum(weight[:, None] * _backward(layers, gates) for layers, gates, weight in parts)
        return Seen(value.detach().numpy(), values, np.asarray(grad))

    def _value(self, values: Array) -> Array:
        if callable(self.critic):
            return reduced(torch.from_numpy(values), self.critic).numpy()
        return values[0] if len(values) == 1 else values.min(0)


def _layers(chain: Chain, observations: Array, half: Array, middle: Array) -> Layers:
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in chain]
    (first, bias), *hidden, (last, offset) = weights
    split = observations.shape[1]
    base = observations @ first[:, :split].T + (bias + first[:, split:] @ middle)
    action = np.ascontiguousarray((first[:, split:] * half).T)
    return Layers(base, action, tuple(hidden), last.mean(0), float(offset.mean()))


def _forward(layers: Layers, u: Array, out: Array, gradient: bool, tau: float | None) -> list[Array]:
    """Writes the values (rows,); returns the gates of each hidden layer (rows, H), if they are asked for."""
    h = np.dot(u, layers.action)
    batch = len(layers.base)
    if len(h) == batch:
        h += layers.base
    else:
        copies = h.reshape(-1, *layers.base.shape)
        copies += layers.base
    gates: list[Array] = []
    for weight, bias in (*layers.hidden, (None, None)):
        if gradient:
            gates.append(h > 0 if tau is None else _soft(h, tau))
        _relu(h)
        if weight is not None:
            h = _product(h, weight.T)
            h += bias
    np.dot(h, layers.last, out=out)
    out += layers.offset
    return gates


def _backward(layers: Layers, gates: list[Array]) -> Array:
    """The gradient (rows, A) of each row's value, through its gates."""
    back = gates[-1] * layers.last
    for (matrix, _), gate in zip(layers.hidden[::-1], gates[-2::-1], strict=True):
        back = _product(back, matrix)
        back *= gate
    return np.dot(back, layers.action.T)


def _product(x: Array, matrix: Array) -> Array:
    """``x @ matrix``, by whichever library is faster at it."""
    return np.dot(x[0], matrix)[None] if len(x) == 1 else np.dot(x, matrix)


def _relu(h: Array) -> None:
    """In place; torch's is the faster one of many rows."""
    if len(h) == 1:
        np.maximum(h, 0, out=h)
    else:
        torch.from_numpy(h).relu_()


def _soft(h: Array, tau: float) -> Array:
    """The gates of `latentopt.gates.soft_backward`, ``sigmoid(h / (tau rms(h)))``, rows alone."""
    rms = np.sqrt(np.einsum("rh,rh->r", h, h) / h.shape[1])
    width = np.maximum(tau * rms, np.finfo(h.dtype).tiny)
    gate = h / -width[:, None]
    with np.errstate(over="ignore"):
        np.exp(gate, out=gate)
    gate += 1
    return np.reciprocal(gate, out=gate)


