"""What attacks are given, checked once: inputs, classes and radii, in the dtype and on the device of the model."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.classifier import range_of
from latentopt.sets import Norm

SLACK = 1e-6
"""By how much rounding may bring inputs out of their range, as a share of its size."""


def slack(low: float, high: float, dtype: torch.dtype) -> float:
    """By how much numbers of a dtype may lie outside the range [low, high] through rounding.

    >>> f"{slack(0.0, 255.0, torch.float32):.3g}"
    '0.000255'
    """
    sizes = [abs(end) for end in (low, high, high - low) if isfinite(end)]
    return max(SLACK, 2 * torch.finfo(dtype).eps) * max(sizes, default=1.0)


def checked_inputs(model: Callable[[Tensor], Tensor], x: Tensor, name: str = "x") -> Tensor:
    """The inputs (B, *shape), clamped to the model's range.

    Raises:
        InputError: (of the argument ``name``) not finite values of that shape, or some are outside the range.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = f"{x.dtype} (divide bytes by 255)" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(name, "a tensor of floating-point values", came)
    shape = getattr(model, "input_shape", None)
    if x.ndim < 2 or not len(x) or (shape is not None and x.shape[1:] != shape):
        expected = "(B, *shape), B >= 1" if shape is None else f"(B, {', '.join(map(str, shape))}), B >= 1"
        raise InputError(name, f"shape {expected}", tuple(x.shape))
    if not bool(x.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")
    low, high = range_of(model)
    reach, least, most = slack(low, high, x.dtype), x.min().item(), x.max().item()
    if least < low - reach or most > high + reach:
        raise InputError(name, f"values in [{low:g}, {high:g}], the model's input_range", f"[{least:.4g}, {most:.4g}]")
    x = x.detach().clamp(low, high)
    return x.to(empty_like_parameters(model)) if isinstance(model, nn.Module) else x


def checked_labels(y: Tensor, x: Tensor) -> Tensor:
    """The classes (B,) long of inputs ``x`` (B, *shape), on their device.

    Raises:
        InputError: not so many integers.
    """
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dtype == torch.bool or y.is_complex():
        raise InputError("y", "a tensor of classes, integers", getattr(y, "dtype", type(y).__name__))
    if y.shape != x.shape[:1]:
        raise InputError("y", f"one class a sample, shape ({len(x)},)", f"shape {tuple(y.shape)}")
    return y.to(x.device, torch.long)


def checked_radii(
    model: Callable[[Tensor], Tensor], eps: float | Tensor, x: Tensor, norm: Norm, name: str = "eps"
) -> Tensor:
    """The radii (B,) of balls around inputs ``x`` (B, *shape), in their dtype and on their device.

    Raises:
        InputError: (of the argument ``name``) not numbers from 0 to the width of the range, one or one a sample.
    """
    radii = torch.as_tensor(eps, dtype=x.dtype, device=x.device)
    if radii.shape not in ((), (len(x),)):
        raise InputError(name, f"a number, or one a sample, shape ({len(x)},)", f"shape {tuple(radii.shape)}")
    widest = width(model, x, norm)
    if not bool(((radii >= 0) & (radii <= widest * (1 + SLACK)) & radii.isfinite()).all()):
        raise InputError(name, f"from 0 to {widest:g}, the width of the inputs' range", eps)
    return radii.expand(len(x))


def width(model: Callable[[Tensor], Tensor], x: Tensor, norm: Norm) -> float:
    """The greatest distance of two inputs like ``x`` (B, *shape) in the model's range; as great as their dtype has."""
    low, high = range_of(model)
    widest = (high - low) * (1.0 if norm == "linf" else x[0].numel() ** 0.5)
    return min(widest, torch.finfo(x.dtype).max) if isfinite(widest) else widest
