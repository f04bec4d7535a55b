"""Gradient descent, Adam and soft gates as steps on NumPy arrays.

`tests/rl/test_fast.py` holds them to the optimisers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt.optimizers import ADRGD, GD, Adam, Optimizer, SoftGates
from latentopt.optimizers.base import scheduled
from latentopt.rl.fast.action_problem import ClosedFormCritics
from latentopt.rl.fast.closed_form import CriticValues

Array = NDArray[Any]
Change = Callable[[Array, int], Array]
"""Gradient (rows, A) and step number to the change of the actions (rows, A), before projection."""


def has_steps(optimizer: Optimizer) -> bool:
    """Return whether a method has steps here: GD without clipping, Adam, or either behind soft gates in all layers."""
    if type(optimizer) is ADRGD:
        return _softens_all(optimizer.gates) and has_steps(optimizer.descent) and type(optimizer.descent) is not ADRGD
    return type(optimizer) is Adam or (type(optimizer) is GD and optimizer.clip is None)


def _softens_all(gates: Any) -> bool:
    return type(gates) is SoftGates and gates.layers is None and gates.share is None


def look_of(optimizer: Optimizer, critics: ClosedFormCritics, steps: int) -> Callable[[Array, int], CriticValues]:
    """Return the function of actions and step number to values and the gradient that the method descends along."""
    if not isinstance(optimizer, ADRGD):
        return lambda u, t: critics.gradient(u)
    gates: Any = optimizer.gates

    def look(u: Array, t: int) -> CriticValues:
        tau = gates.tau * (1 - t / (gates.steps or gates.phase * steps))
        return critics.soft_gradient(u, tau) if tau > 1e-3 * gates.tau else critics.gradient(u)

    return look


def change_of(optimizer: Optimizer, steps: int) -> Change:
    """Return the function of gradient and step number to the change that the method makes."""
    if isinstance(optimizer, ADRGD):
        return change_of(optimizer.descent, steps)
    if isinstance(optimizer, GD):
        return _gd(optimizer, steps)
    assert isinstance(optimizer, Adam)
    return _adam(optimizer, steps)


def _gd(method: GD, steps: int) -> Change:
    def change(grad: Array, t: int) -> Array:
        return method.lr * scheduled(method.schedule, t, steps) * (_unit(grad) if method.normalize else grad)

    return change


def _adam(method: Adam, steps: int) -> Change:
    first, second = method.betas
    mean = square = 0.0

    def change(grad: Array, t: int) -> Array:
        nonlocal mean, square
        mean = first * mean + (1 - first) * grad
        square = second * square + (1 - second) * (grad * grad)
        m, v = mean / (1 - first ** (t + 1)), square / (1 - second ** (t + 1))
        return method.lr * scheduled(method.schedule, t, steps) * m / (v**0.5 + method.eps)

    return change


def _unit(x: Array) -> Array:
    """Each row divided by its Euclidean norm; zero stays zero."""
    tiny = np.finfo(x.dtype).tiny
    x = x / np.maximum(np.abs(x).max(1, keepdims=True), tiny)
    return x / np.maximum((x * x).sum(1, keepdims=True) ** 0.5, tiny)
