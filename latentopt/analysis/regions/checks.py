"""What every function on regions asks of its tensors."""

from __future__ import annotations

from torch import Tensor

from latentopt.errors import InputError


def require_batch(name: str, x: object) -> None:
    """Raise `InputError` unless ``x`` is a batch of finite floating-point inputs, (B, *shape), B >= 1."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError(name, "a tensor of floating-point values", getattr(x, "dtype", type(x).__name__))
    if x.ndim < 2 or not x.numel():
        raise InputError(name, "shape (B, *shape), B >= 1", tuple(x.shape))
    if not bool(x.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")


def require_like(name: str, x: object, like: Tensor) -> None:
    """Raise `InputError` unless ``x`` is such a batch, of the shape of ``like``."""
    require_batch(name, x)
    assert isinstance(x, Tensor)
    if x.shape != like.shape:
        raise InputError(name, f"shape {tuple(like.shape)}", tuple(x.shape))
