"""Checks of the inputs that every analysis takes."""

from __future__ import annotations

from torch import Tensor

from latentopt.arguments import Values, as_given
from latentopt.errors import InputError


def require_batch(name: str, x: Values) -> Tensor:
    """Return inputs as a tensor (B, *shape), or raise `InputError` unless they are B >= 1 of finite floats."""
    batch = as_given(name, x)
    if not batch.is_floating_point():
        raise InputError(name, "floating-point values", batch.dtype)
    if batch.ndim < 2 or not batch.numel():
        raise InputError(name, "a batch of shape (B, *shape), B >= 1", tuple(batch.shape))
    if not bool(batch.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")
    return batch


def require_like(name: str, x: Values, like: Tensor) -> Tensor:
    """Return such a batch, or raise `InputError` unless it is of the shape of ``like``."""
    batch = require_batch(name, x)
    if batch.shape != like.shape:
        raise InputError(name, f"shape {tuple(like.shape)}", tuple(batch.shape))
    return batch
