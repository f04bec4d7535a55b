"""Checks of the arguments of `refine_action`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentopt.errors import InputError
from latentopt.rl.fast.chains import Chain
from latentopt.rl.observations import map_arrays

Array = NDArray[Any]
SLACK = 1e-6
"""Share of the range by which an action may lie outside it, by rounding; it is then moved onto the bound."""


def check_bounds(low: Any, high: Any) -> tuple[Array, Array]:
    """Return the bounds of actions as arrays, () or (A,)."""
    if low is None or high is None:
        raise InputError("low", "the bounds of the actions, low and high", f"{low} and {high}")
    bounds = as_array("low", low), as_array("high", high)
    shapes = {bound.shape for bound in bounds} - {()}
    alike = len(shapes) <= 1 and all(len(shape) == 1 for shape in shapes)
    if not (alike and all(np.isfinite(bound).all() for bound in bounds) and (bounds[0] < bounds[1]).all()):
        raise InputError("low", "finite bounds, low < high, numbers or one for each action", f"{low} (and high {high})")
    return bounds


def check_actions(observations: Any, actions: Any, dtype: np.dtype[Any]) -> tuple[Any, Array]:
    """Return observations (B, *obs), or a dictionary of such, and actions (B, A) as arrays of finite numbers."""
    a = as_array("actions", actions)
    if a.dtype.kind != "f" or a.ndim != 2:
        got = f"shape {a.shape} of {a.dtype}"
        raise InputError("actions", "continuous actions, floating point numbers of shape (B, A)", got)
    if not np.isfinite(a).all():
        raise InputError("actions", "finite numbers", "NaN or infinity")

    def check(values: Any) -> Array:
        s = as_array("observations", values)
        if s.ndim < 1 or len(s) != len(a) or not a.size:
            raise InputError("observations", f"one for each of the {len(a)} actions", f"shape {s.shape}")
        if not np.isfinite(s).all():
            raise InputError("observations", "finite numbers", "NaN or infinity")
        return s.astype(dtype, copy=False) if s.dtype.kind == "f" else s

    return map_arrays(check, observations), a.astype(dtype, copy=False)


def as_array(name: str, values: Any) -> Array:
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(name, "a tensor or an array of numbers", type(values).__name__) from error
    if array.dtype.kind not in "fiub":
        raise InputError(name, "a tensor or an array of numbers", f"{type(values).__name__} of {array.dtype}")
    return array


def clip_actions(actions: Array, low: Array, high: Array) -> Array:
    """Return the actions, of which none may lie outside [low, high] by more than rounding."""
    clipped = np.clip(actions, low, high)
    if (np.abs(clipped - actions) > SLACK * (high - low)).any():
        raise InputError("actions", f"within [{low.tolist()}, {high.tolist()}]", "some outside")
    return clipped


def require_finite(value: Array) -> None:
    if not np.isfinite(value).all():
        raise InputError("q", "finite values of the actor's actions", "NaN or infinity")


def takes_vectors(layers: list[Chain], observations: Any, actions: Array) -> bool:
    """Return whether the chains take these observations and actions.

    Raises:
        InputError: they take vectors, but of other sizes.
    """
    if (
        isinstance(observations, dict)
        or observations.ndim != 2
        or len({layer.weight.dtype for chain in layers for layer in chain}) > 1
    ):
        return False
    sizes = {chain[0].in_features for chain in layers}
    if sizes != {observations.shape[1] + actions.shape[1]}:
        expected = f"observations and actions of {' or '.join(map(str, sorted(sizes)))} numbers together, as q takes"
        raise InputError("observations", expected, f"{observations.shape[1]} + {actions.shape[1]}")
    return True
