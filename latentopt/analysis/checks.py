"""Checks of the inputs that every analysis takes."""

from __future__ import annotations

from torch import Tensor

from latentopt.errors import InputError


def require_batch(name: str, x: object) -> Tensor:
    """Return ``x``, or raise `InputError` unless it is a batch of finite floating-point inputs, (B, *shape), B >= 1."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError(name, "a tensor of floats", getattr(x, "dtype", type(x).__name__))
    if x.ndim < 2 or not x.numel():
        raise InputError(name, "a batch of shape (B, *shape), B >= 1", tuple(x.shape))
    if not bool(x.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")
    return x


def require_like(name: str, x: object, like: Tensor) -> None:
    """Raise `InputError` unless ``x`` is such a batch, of the shape of ``like``."""
    if require_batch(name, x).shape != like.shape:
        raise InputError(name, f"shape {tuple(like.shape)}", tuple(x.shape))  # pyright: ignore[reportAttributeAccessIssue]
