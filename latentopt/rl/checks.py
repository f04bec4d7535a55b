"""What `refine_action` accepts, checked at the border."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentopt.errors import InputError
from latentopt.rl.chains import Chain

Array = NDArray[Any]
SLACK = 1e-6
"""How far outside [low, high] an action may be, by rounding; it is then moved onto the bound."""


def check_bounds(low: Any, high: Any) -> tuple[Array, Array]:
    if low is None or high is None:
        raise InputError("low", "the bounds of the actions, low and high", f"{low} and {high}")
    bounds = as_array("low", low), as_array("high", high)
    shapes = {bound.shape for bound in bounds} - {()}
    fits = len(shapes) <= 1 and all(len(shape) == 1 for shape in shapes)
    if not (fits and all(np.isfinite(bound).all() for bound in bounds) and (bounds[0] < bounds[1]).all()):
        raise InputError("low", "finite bounds, low < high, numbers or one for each action", f"{low} (and high {high})")
    return bounds


def checked(observations: Any, actions: Any, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    s, a = as_array("observations", observations), as_array("actions", actions)
    if a.dtype.kind != "f" or a.ndim != 2:
        came = f"shape {a.shape} of {a.dtype}"
        raise InputError("actions", "continuous actions, floating point numbers of shape (B, A)", came)
    if s.ndim < 1 or len(s) != len(a) or not a.size:
        raise InputError("observations", f"one for each of the {len(a)} actions", f"shape {s.shape}")
    for name, values in (("observations", s), ("actions", a)):
        if not np.isfinite(values).all():
            raise InputError(name, "finite numbers", "NaN or infinity")
    return s.astype(dtype, copy=False) if s.dtype.kind == "f" else s, a.astype(dtype, copy=False)


def as_array(name: str, values: Any) -> Array:
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(name, "a tensor or an array of numbers", type(values).__name__) from error
    if array.dtype.kind not in "fiub":
        raise InputError(name, "a tensor or an array of numbers", f"{type(values).__name__} of {array.dtype}")
    return array


def inside(actions: Array, low: Array, high: Array) -> Array:
    inside = np.clip(actions, low, high)
    if (np.abs(inside - actions) > SLACK * (high - low)).any():
        raise InputError("actions", f"within [{low.tolist()}, {high.tolist()}]", "some outside")
    return inside


def require_finite(value: Array) -> None:
    if not np.isfinite(value).all():
        raise InputError("q", "finite values of the actor's actions", "NaN or infinity")


def fits(layers: list[Chain], observations: Array, actions: Array) -> bool:
    """Whether the chains take such observations and actions.

    Raises:
        InputError: they take vectors of other sizes.
    """
    if observations.ndim != 2 or len({layer.weight.dtype for chain in layers for layer in chain}) > 1:
        return False
    sizes, came = {chain[0].in_features for chain in layers}, observations.shape[1] + actions.shape[1]
    if sizes != {came}:
        expected = f"observations and actions of {' or '.join(map(str, sorted(sizes)))} numbers together, as q takes"
        raise InputError("observations", expected, f"{observations.shape[1]} + {actions.shape[1]}")
    return True
