"""Batches of observations: an array (B, *obs), or a dictionary of such arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latentopt.errors import InputError

ARRAYS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
"""Kinds of spaces whose observations are arrays."""


def map_arrays(function: Callable[[Any], Any], observations: Any) -> Any:
    """Apply a function to an array, or to each array of a dictionary."""
    if isinstance(observations, dict):
        return {key: function(value) for key, value in observations.items()}
    return function(observations)


def shapes_of(observations: Any) -> Any:
    """Return the shape of one observation, or those of a dictionary, for messages."""
    return map_arrays(lambda x: tuple(np.shape(x)[1:]), observations)


def stack(observations: Sequence[Any]) -> Any:
    """Stack single observations, arrays or dictionaries of arrays, to a batch."""
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)


def check_space(name: str, space: Any) -> None:
    """Raise `InputError` unless a space has observations that are arrays, or a dictionary of arrays.

    Args:
        name: of the argument, for the message.
        space: of gymnasium.
    """
    parts = space.spaces.values() if type(space).__name__ == "Dict" else [space]
    if wrong := [part for part in parts if type(part).__name__ not in ARRAYS]:
        inside = "" if wrong[0] is space else "a Dict with "
        expected = f"observations that are arrays, or a dictionary of arrays ({', '.join(ARRAYS)}, Dict)"
        raise InputError(name, expected, f"{inside}{wrong[0]}")


def check_continuous(name: str, space: Any) -> None:
    """Raise `InputError` unless a space of actions is continuous, has finite bounds and is that of vectors.

    Args:
        name: of the argument or the environment, for the message.
        space: of gymnasium.
    """
    if type(space).__name__ != "Box":
        raise InputError(name, "an environment with continuous actions (Box)", f"{space}")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
        raise InputError(name, "an environment whose actions have finite bounds, low < high", f"{space}")
    if len(space.shape) != 1:
        raise InputError(name, "an environment whose actions are vectors", f"{space}")
