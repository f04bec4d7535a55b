"""Check that functions treat the samples of a batch independently.

A function that holds a tensor for each sample, without a method ``take`` (`latentopt.batch_math.take`), gives wrong
values, or fails, as soon as a sample has left the batch. Evaluating one sample alone shows this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latentopt.batch_math import take
from latentopt.errors import InputError, first_line


@torch.no_grad()
def require_independent(name: str, function: Callable[..., Tensor], *batch: Tensor) -> None:
    """Raise `InputError` unless a function returns the same for the last sample alone and in the batch.

    Values of a random function are not compared. A function that fails for the whole batch, or returns no tensor with
    a row for each sample, is not checked.

    Args:
        name: name of the argument that the function is.
        function: maps tensors whose first dimension is the batch to one such tensor.
        batch: its arguments, (B, ...) each; one sample is not checked.
    """
    count = len(batch[0])
    if count < 2:
        return
    device = batch[0].device
    last = torch.tensor([count - 1], device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            whole = function(*batch)
        except Exception:  # the caller will meet it as well
            return
        if not isinstance(whole, Tensor) or whole.shape[:1] != (count,):
            return
        try:
            alone = take(function, last)(*(part[last] for part in batch))
        except Exception as error:
            if isinstance(error, InputError) and error.name != name:  # of something that the function calls
                raise
            raise _dependent(name, f"one that fails for one sample ({first_line(error)})") from error
        if not isinstance(alone, Tensor) or alone.shape != whole[last].shape:
            shape = tuple(getattr(alone, "shape", ()))
            raise _dependent(name, f"one that gives shape {shape} for one sample, {tuple(whole.shape)} for {count}")
        coarse = max((t.dtype for t in (whole, *batch) if t.is_floating_point()), key=_eps, default=whole.dtype)
        if not _are_close(whole[last], alone, whole, coarse) and _are_close(function(*batch), whole, whole, coarse):
            raise _dependent(name, f"one that gives sample {count - 1} alone another value than among {count}")


def _dependent(name: str, got: str) -> InputError:
    return InputError(name, "each sample by itself, or a method take(rows) where something is held for each", got)


def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def _are_close(a: Tensor, b: Tensor, whole: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two tensors are equal up to rounding in the dtype."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    eps = _eps(dtype)
    size = whole.abs().where(whole.isfinite(), 0).amax() if whole.numel() else whole.sum()
    return torch.allclose(a, b, rtol=eps**0.5, atol=float(100 * eps * size), equal_nan=True)


def spread(t: Tensor) -> Tensor:
    """Return values (B, ...) scaled by row, from 1 down to a half, as mixing equal samples would not show.

    If all are zero, ones are scaled; integers stay as they are.
    """
    if not t.is_floating_point():
        return t
    shares = torch.linspace(1, 0.5, len(t), device="cpu").to(t).reshape(-1, *[1] * (t.ndim - 1))
    return torch.where((t == 0).all(), 1, t) * shares


def holds(function: Any, count: int) -> bool:
    """Return whether a function, or an object it refers to, holds ``count`` modules, or a tensor of ``count`` rows.

    Closures, globals, attributes and buffers are searched, a bounded number of them. Parameters are left out, as many
    layers have as many outputs as there are samples.
    """
    visited, queue = set[int](), [function]
    while queue and len(visited) < 10_000:
        thing = queue.pop()
        if id(thing) in visited:
            continue
        visited.add(id(thing))
        if isinstance(thing, Tensor | np.ndarray):
            if thing.ndim > 0 and len(thing) == count and not isinstance(thing, nn.Parameter):
                return True
        elif isinstance(thing, _LISTS) and len(thing) == count:
            return True
        else:
            queue += islice(_references(thing), 1000)
    return False


_LISTS = (nn.ModuleList, nn.ParameterList)
_HOOKS = vars(nn.Module()).keys() - {"_buffers", "_modules"}


def _references(thing: Any) -> Iterable[Any]:
    """Return the objects that a function or an object refers to."""
    if isinstance(thing, nn.Module):
        return [value for name, value in vars(thing).items() if name not in _HOOKS]
    if isinstance(thing, dict):
        return thing.values()
    if isinstance(thing, list | tuple | set | frozenset):
        return thing
    if isinstance(thing, partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, FunctionType):
        return _outer_values(thing)
    return [] if isinstance(thing, type) or inspect.ismodule(thing) else getattr(thing, "__dict__", {}).values()


def _outer_values(function: FunctionType) -> Iterable[Any]:
    """Return the variables of other scopes that a function uses, and its defaults."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    return [*cells, *named, function.__defaults__, function.__kwdefaults__]
