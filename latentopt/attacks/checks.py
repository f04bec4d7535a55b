"""Checks of what an attack is given: inputs, classes, radii, and the answers of the model and the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from latentopt.arguments import Values, as_given, as_values
from latentopt.batch_math import cpu_tensor, take
from latentopt.classification import Loss
from latentopt.errors import InputError, first_line
from latentopt.independence import require_independent
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.classifier import Range, range_for
from latentopt.networks.outputs import module_of
from latentopt.sets import BoxAndBall, Norm, bounded_ball, length
from latentopt.sets.bounds import broadcast, broadcast_radius

SLACK = 1e-6
"""Share of the range by which rounding may put inputs outside it."""


def range_slack(low: float | Tensor, high: float | Tensor, dtype: torch.dtype) -> float:
    """Return how far rounding may put numbers of a dtype outside the range [low, high], or the widest of several.

    >>> f"{range_slack(0.0, 255.0, torch.float32):.3g}"
    '0.000255'
    """
    ends = (cpu_tensor(end, torch.float64).abs().flatten().tolist() for end in (low, high, high - low))
    sizes = [size for end in ends for size in end if isfinite(size)]
    return max(SLACK, 2 * torch.finfo(dtype).eps) * max(sizes, default=1.0)


def range_width(model: Callable[[Tensor], Tensor], x: Tensor, norm: Norm) -> float:
    """Return the greatest distance of two inputs like ``x`` (B, *shape) in the model's range.

    Where the range is finite, so is the width in the dtype of ``x``.
    """
    low, high = range_for(model, x)
    if isinstance(width := high - low, Tensor):
        width = length(width.expand(1, *x.shape[1:]), norm).item()
    else:
        width *= 1.0 if norm == "linf" else x[0].numel() ** 0.5
    return min(width, torch.finfo(x.dtype).max) if isfinite(width) else width


def attack_set(
    model: Callable[[Tensor], Tensor], clean: Tensor, eps: float | Tensor, norm: Norm, mask: Tensor | None = None
) -> BoxAndBall:
    """Return the points of a model's range within ``eps`` of ``clean`` (B, *shape), equal to it outside a mask.

    Arguments are those of `latentopt.attack`, checked.
    """
    return bounded_ball(clean, eps, norm, *free_range(model, clean, mask))


def free_range(model: Callable[[Tensor], Tensor], clean: Tensor, mask: Tensor | None) -> Range:
    """Return the ends of a model's range; with a mask those of each input, ``clean`` itself outside the mask."""
    low, high = range_for(model, clean)
    return (low, high) if mask is None else (torch.where(mask, low, clean), torch.where(mask, high, clean))


@dataclass(frozen=True, eq=False)
class MaskedNetwork:
    """A network of inputs that are ``clean`` outside a mask: features that may not change take no gradient."""

    network: Callable[[Tensor], Tensor]
    clean: Tensor  # (B, *shape)
    mask: Tensor  # (B, *shape) bool

    def __call__(self, x: Tensor) -> Tensor:
        copies = [len(x) // len(self.clean), *[1] * (x.ndim - 1)]
        return self.network(torch.where(self.mask.repeat(copies), x, self.clean.repeat(copies)))

    def take(self, rows: Tensor) -> MaskedNetwork:
        return MaskedNetwork(take(self.network, rows), self.clean[rows], self.mask[rows])


def check_mask(mask: Values | None, x: Tensor) -> Tensor | None:
    """Return the features (B, *shape) bool of inputs ``x`` (B, *shape) that may change; None: all.

    Raises:
        InputError: the mask holds anything but 0 and 1, or fits neither one input nor the batch.
    """
    if mask is None:
        return None
    wide = cpu_tensor(broadcast("mask", as_values("mask", mask), x.shape, x))
    if not bool(((wide == 0) | (wide == 1)).all()):
        raise InputError("mask", "booleans, or values 0 and 1", "others")
    return wide.bool().to(x.device).expand(x.shape)


def check_inputs(model: Callable[[Tensor], Tensor], x: Values, name: str = "x") -> Tensor:
    """Return inputs (B, *shape), clamped to the model's range, in its dtype and on its device.

    Raises:
        InputError: the argument ``name`` is no such tensor, or has values that are not finite or outside the range.
    """
    given = as_given(name, x)
    if not given.is_floating_point():
        raise InputError(name, "floating-point values", f"{given.dtype} (divide bytes by 255)")
    shape = getattr(model, "input_shape", None)
    if given.ndim < 2 or not len(given) or (shape is not None and given.shape[1:] != shape):
        expected = "(B, *shape), B >= 1" if shape is None else f"(B, {', '.join(map(str, shape))}), B >= 1"
        raise InputError(name, f"shape {expected}", tuple(given.shape))
    if not bool(given.isfinite().all()):
        raise InputError(name, "finite values", "NaN or infinity")
    low, high = range_for(model, given)
    slack = range_slack(low, high, given.dtype)
    if torch.maximum(low - given, given - high).max().item() > slack:
        ends = "" if isinstance(low, Tensor) else f", [{low:g}, {high:g}]"
        got = f"[{given.min().item():.4g}, {given.max().item():.4g}]"
        raise InputError(name, f"values in the model's input_range{ends}", got)
    given = given.detach().clamp(low, high)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return given.to(empty_like_parameters(model)) if module_of(model) is not None else given


def check_labels(y: Values, x: Tensor) -> Tensor:
    """Return the classes (B,) long of inputs ``x`` (B, *shape), on their device.

    Raises:
        InputError: ``y`` is not one integer a sample.
    """
    y = as_given("y", y)
    if y.is_floating_point() or y.dtype == torch.bool or y.is_complex():
        raise InputError("y", "classes, integers", y.dtype)
    if y.shape != x.shape[:1]:
        hint = " (argmax(1) of one-hot labels)" if y.ndim == 2 else ""
        raise InputError("y", f"one class a sample, shape ({len(x)},)", f"shape {tuple(y.shape)}{hint}")
    return y.to(x.device, torch.long)


def check_radii(model: Callable[[Tensor], Tensor], eps: Values, x: Tensor, norm: Norm, name: str = "eps") -> Tensor:
    """Return the radii of balls around inputs ``x`` (B, *shape), in their dtype and on their device.

    They are (B,), or of Linf balls (B, *shape) where there is one for each feature.

    Raises:
        InputError: the argument ``name`` is not a number from 0 to the width of the range, or one a sample or feature.
    """
    radii = torch.as_tensor(as_values(name, eps), dtype=x.dtype, device=x.device)
    radii = cpu_tensor(broadcast_radius(name, radii, x.shape, x, by_feature=norm == "linf"))
    width = range_width(model, x, norm)
    wrong = radii[~((radii >= 0) & (radii <= width * (1 + SLACK)) & radii.isfinite())]
    if len(wrong):
        raise InputError(name, f"from 0 to {width:g}, the width of the inputs' range", f"{wrong[0].item():g}")
    return radii.expand(len(x), *radii.shape[1:])


def require_movable(name: str, radii: Tensor) -> None:
    """Raise `InputError` (of ``name``) where all radii are 0."""
    if not bool((radii > 0).any()):
        raise InputError(name, "numbers > 0", 0)


def check_logits(logits: Tensor, x: Tensor) -> None:
    """Raise `InputError` unless the answer to ``x`` (B, *shape) is finite logits (B, K) with K >= 2."""
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        expected = f"logits (B, K), B = {len(x)}, of K >= 2 classes, or one logit (B, 1)"
        raise InputError("model", expected, f"shape {tuple(logits.shape)}")
    if logits.is_complex():
        raise InputError("model", "logits that are real numbers", logits.dtype)
    if not bool(logits.isfinite().all()):
        raise InputError("model", "finite logits", "NaN or infinity")


@torch.no_grad()
def check_loss(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """Raise `InputError` unless a loss takes logits (B, K) and labels (B,), each sample by itself."""
    if isinstance(loss, str):
        return
    try:
        values = loss(logits, labels)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        expected = "a function of logits (B, K) and labels (B,), with take(rows) where it holds something for each"
        raise InputError("loss", expected, first_line(error)) from error
    if not isinstance(values, Tensor) or values.shape != labels.shape:
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError("loss", f"one value a sample, shape {tuple(labels.shape)}", got)
    require_independent("loss", loss, logits, labels)
