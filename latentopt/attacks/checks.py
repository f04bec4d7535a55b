"""Checks of what an attack is given: inputs, classes, radii, and the answers of the model and the loss."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor

from latentopt.classification import Loss
from latentopt.errors import InputError
from latentopt.independence import require_independent
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.classifier import range_of
from latentopt.networks.outputs import module_of
from latentopt.sets import Norm

SLACK = 1e-6
"""Share of the range by which rounding may put inputs outside it."""


def range_slack(low: float, high: float, dtype: torch.dtype) -> float:
    """Return how far rounding may put numbers of a dtype outside the range [low, high].

    >>> f"{range_slack(0.0, 255.0, torch.float32):.3g}"
    '0.000255'
    """
    sizes = [abs(end) for end in (low, high, high - low) if isfinite(end)]
    return max(SLACK, 2 * torch.finfo(dtype).eps) * max(sizes, default=1.0)


def range_width(model: Callable[[Tensor], Tensor], x: Tensor, norm: Norm) -> float:
    """Return the greatest distance of two inputs like ``x`` (B, *shape) in the model's range.

    Where the range is finite, so is the width in the dtype of ``x``.
    """
    low, high = range_of(model)
    width = (high - low) * (1.0 if norm == "linf" else x[0].numel() ** 0.5)
    return min(width, torch.finfo(x.dtype).max) if isfinite(width) else width


def check_inputs(model: Callable[[Tensor], Tensor], x: Tensor, name: str = "x") -> Tensor:
    """Return inputs (B, *shape), clamped to the model's range, in its dtype and on its device.

    Raises:
        InputError: the argument ``name`` is no such tensor, or has values that are not finite or outside the range.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = f"{x.dtype} (divide bytes by 255)" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(name, "a tensor of floating-point values", got)
    shape = getattr(model, "input_shape", None)
    if x.ndim < 2 or not len(x) or (shape is not None and x.shape[1:] != shape):
        expected = "(B, *shape), B >= 1" if shape is None else f"(B, {', '.join(map(str, shape))}), B >= 1"
        raise InputError(name, f"shape {expected}", tuple(x.shape))
    if not bool(x.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")
    low, high = range_of(model)
    slack, least, greatest = range_slack(low, high, x.dtype), x.min().item(), x.max().item()
    if least < low - slack or greatest > high + slack:
        got = f"[{least:.4g}, {greatest:.4g}]"
        raise InputError(name, f"values in [{low:g}, {high:g}], the model's input_range", got)
    x = x.detach().clamp(low, high)
    return x.to(empty_like_parameters(model)) if module_of(model) is not None else x


def check_labels(y: Tensor, x: Tensor) -> Tensor:
    """Return the classes (B,) long of inputs ``x`` (B, *shape), on their device.

    Raises:
        InputError: ``y`` is not one integer a sample.
    """
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dtype == torch.bool or y.is_complex():
        raise InputError("y", "a tensor of classes, integers", getattr(y, "dtype", type(y).__name__))
    if y.shape != x.shape[:1]:
        raise InputError("y", f"one class a sample, shape ({len(x)},)", f"shape {tuple(y.shape)}")
    return y.to(x.device, torch.long)


def check_radii(
    model: Callable[[Tensor], Tensor], eps: float | Tensor, x: Tensor, norm: Norm, name: str = "eps"
) -> Tensor:
    """Return the radii (B,) of balls around inputs ``x`` (B, *shape), in their dtype and on their device.

    Raises:
        InputError: the argument ``name`` is not a number from 0 to the width of the range, or one a sample.
    """
    radii = torch.as_tensor(eps, dtype=x.dtype, device=x.device)
    if radii.shape not in ((), (len(x),)):
        raise InputError(name, f"a number, or one a sample, shape ({len(x)},)", f"shape {tuple(radii.shape)}")
    width = range_width(model, x, norm)
    if not bool(((radii >= 0) & (radii <= width * (1 + SLACK)) & radii.isfinite()).all()):
        raise InputError(name, f"from 0 to {width:g}, the width of the inputs' range", eps)
    return radii.expand(len(x))


def check_logits(logits: Tensor, x: Tensor) -> None:
    """Raise `InputError` unless the answer to ``x`` (B, *shape) is finite logits (B, K) with K >= 2."""
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise InputError("model", f"logits (B, K), B = {len(x)}, of K >= 2 classes", f"shape {tuple(logits.shape)}")
    if not bool(logits.isfinite().all()):
        raise InputError("model", "finite logits", "NaN or infinity")


@torch.no_grad()
def check_loss(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """Raise `InputError` unless a loss takes logits (B, K) and labels (B,), each sample by itself."""
    if isinstance(loss, str):
        return
    try:
        loss(logits, labels)
    except (RuntimeError, IndexError, ValueError) as error:
        expected = "a function of logits (B, K) and labels (B,), with take(rows) where it holds something for each"
        raise InputError("loss", expected, str(error).splitlines()[0]) from error
    require_independent("loss", loss, logits, labels)
