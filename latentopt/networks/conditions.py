"""Conditions of a generator, such as classes: of recipes and cards, and their number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentopt.arguments import Values, as_values, holds_tensors
from latentopt.batch_math import cpu_tensor
from latentopt.errors import InputError
from latentopt.files import ARRAY_SUFFIXES, read_array


def as_conditions(values: Mapping[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """Return conditions of a recipe or card as tensors (B, ...): whole numbers, lists, and array files of a folder."""
    return {name: _as_condition(name, value, folder) for name, value in values.items()}


def _as_condition(name: str, value: Any, folder: Path) -> Any:
    if names_array(value):
        return torch.from_numpy(np.array(read_array(folder / value, name)))
    if isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool)):
        try:
            return torch.atleast_1d(cpu_tensor(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(name, "numbers, or lists of equal lengths", str(error)) from error
    return value


def names_array(value: Any) -> bool:
    """Return whether a value of a recipe or card is the path of an array file."""
    return isinstance(value, str) and Path(value).suffix.lower() in ARRAY_SUFFIXES


def require_conditions(conditions: Mapping[str, Any], count: int) -> None:
    """Raise `InputError` unless there is one condition of each kind, or one for each of ``count`` targets."""
    for name, value in conditions.items():
        if isinstance(value, torch.Tensor) and len(value) not in (1, count):
            raise InputError(name, f"1 or {count} conditions, one for each target", len(value))


def condition_tensor(name: str, values: Values, like: torch.Tensor) -> torch.Tensor:
    """Return a condition as a tensor: as it is, else whole numbers as long, others as ``like``.

    Raises:
        InputError: it has no row for a sample.
    """
    is_tensor = isinstance(values, torch.Tensor) or holds_tensors(values)
    whole = not is_tensor and np.asarray(values).dtype.kind in "iub"
    tensor = cpu_tensor(as_values(name, values))
    if not is_tensor:
        tensor = tensor.long() if whole else tensor.to(like)
    if not tensor.ndim or not len(tensor):
        raise InputError(name, "a condition of each sample, (B, ...)", f"shape {tuple(tensor.shape)}")
    return tensor


def repeat_condition(name: str, condition: torch.Tensor, count: int) -> torch.Tensor:
    """Repeat a condition of each sample for ``count`` rows, which are copies of the samples."""
    copies, rest = divmod(count, len(condition))
    if rest:
        raise InputError(name, f"1 or {count} conditions, one a sample", len(condition))
    return condition.repeat(copies, *[1] * (condition.ndim - 1))
