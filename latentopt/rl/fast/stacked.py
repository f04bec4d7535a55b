"""Critics at a single observation, where calls and memory are the cost of a step: stacked, and with fewer units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt.rl.fast.closed_form import ClosedForm, CriticValues

Array = NDArray[Any]
WORTH = 0.6
"""Share of a layer's units that may be open or closed in the box above which none is folded."""


@dataclass(frozen=True, eq=False)
class StackedForm:
    """`ClosedForm` of one action at one observation; the least critic counts.

    Layers of all critics lie side by side in one vector; ``point`` is the action with a 1 before it.
    """

    first: Array  # (1 + A, sum of widths) base and action's part of the first layers
    weights: list[list[Array]]  # of each hidden layer and critic (out, in)
    straight: Array | None  # (1 + A, sum of widths) what goes to the second layers past the first ReLUs; None: biases
    biases: list[Array]  # of each hidden layer (sum of widths,)
    cuts: list[list[slice]]  # of each layer and critic its place
    last: Array  # (sum of widths,)
    offsets: Array  # (n,)

    @classmethod
    def from_closed_form(cls, form: ClosedForm) -> StackedForm:
        """Stack the critics at the only observation of ``form``."""
        critics = form.critics
        firsts = [np.concatenate([layers.base, layers.action]) for layers in critics]
        hidden = list(zip(*(layers.hidden for layers in critics), strict=True))
        return cls(
            np.concatenate(firsts, 1),
            [[weight for weight, _ in layer] for layer in hidden],
            None,
            [np.concatenate([bias for _, bias in layer]) for layer in hidden],
            [_cuts(firsts), *(_cuts([weight.T for weight, _ in layer]) for layer in hidden)],
            np.concatenate([layers.last for layers in critics]),
            np.array([layers.offset for layers in critics], firsts[0].dtype),
        )

    def fold(self, low: Array, high: Array) -> StackedForm:
        """Return the same critics on the box ``low <= u <= high`` (A,), with fewer units.

        Units of the first layers that are open, or closed, in the whole box are linear there: they become part of the
        second. What is left of its weights stays in the cache.
        """
        if not self.weights:
            return self
        z = self.first[0] + np.dot((low + high) / 2, self.first[1:])
        loose = np.abs(z) < np.dot((high - low) / 2, np.abs(self.first[1:]))
        if loose.sum() > WORTH * len(z):
            return self
        linear = self.first * ((z > 0) & ~loose)
        places = [loose[cut].nonzero()[0] for cut in self.cuts[0]]
        straight = [np.dot(linear[:, cut], w.T) for cut, w in zip(self.cuts[0], self.weights[0], strict=True)]
        columns = [np.take(weight, place, axis=1) for weight, place in zip(self.weights[0], places, strict=True)]
        straight = np.concatenate(straight, 1)
        straight[0] += self.biases[0]
        first = np.ascontiguousarray(self.first[:, loose])
        cuts, weights = [_cuts(columns), *self.cuts[1:]], [columns, *self.weights[1:]]
        return replace(self, first=first, weights=weights, straight=straight, cuts=cuts)

    def values(self, u: Array, gradient: bool = False, tau: float | None = None) -> CriticValues:
        """Return values as `ClosedForm.values`, at ``u`` (1, A); ``tau`` only where nothing is folded."""
        point = np.empty(1 + u.shape[1], u.dtype)
        point[0], point[1:] = 1, u[0]
        z = np.dot(point, self.first)
        switches = [z]
        for index, weights in enumerate(self.weights):
            h = np.maximum(z, 0)
            straight = self.straight if index == 0 else None
            z = self.biases[index].copy() if straight is None else np.dot(point, straight)
            for weight, before, after in zip(weights, self.cuts[index], self.cuts[index + 1], strict=True):
                z[after] += np.dot(weight, h[before])
            switches.append(z)
        open_ = np.maximum(z, 0)
        values = self.offsets + [np.dot(open_[cut], self.last[cut]) for cut in self.cuts[-1]]
        smallest = int(values.argmin()) if len(values) > 1 else 0
        grad = self._backward(smallest, switches, tau)[None] if gradient else None
        return CriticValues(values[smallest : smallest + 1], values[:, None], grad)

    def _backward(self, critic: int, switches: list[Array], tau: float | None) -> Array:
        """The gradient (A,) of a critic."""
        cut = self.cuts[-1][critic]
        back, past = _gate(switches[-1][cut], tau) * self.last[cut], None
        for index in range(len(self.weights) - 1, -1, -1):
            if index == 0 and self.straight is not None:
                past = np.dot(self.straight[1:, cut], back)
            cut = self.cuts[index][critic]
            back = np.dot(back, self.weights[index][critic])
            back *= _gate(switches[index][cut], tau)
        grad = np.dot(self.first[1:, cut], back)
        return grad if past is None else grad + past


def _cuts(parts: list[Array]) -> list[slice]:
    """The places of parts (rows, width) side by side."""
    ends = np.cumsum([part.shape[1] for part in parts]).tolist()
    return [slice(end - part.shape[1], end) for part, end in zip(parts, ends, strict=True)]


def _gate(z: Array, tau: float | None) -> Array:
    """The gates of one row, as in `latentopt.rl.fast.closed_form`."""
    if tau is None:
        return z > 0
    width = max(tau * (np.dot(z, z) / len(z)) ** 0.5, np.finfo(z.dtype).tiny)
    return torch.from_numpy(z / z.dtype.type(width)).sigmoid_().numpy()
