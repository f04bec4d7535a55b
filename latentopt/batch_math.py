"""Arithmetic for each sample of tensors whose first dimension is the batch."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def take(function: T, rows: Tensor) -> T:
    """Return the function of the samples ``rows`` (long), by its method ``take``; itself if it has none.

    A function with a tensor for each sample of a batch (targets, masks, weights) has ``take(rows)``, which returns the
    function of those samples; an index may repeat.
    """
    chosen: Any = getattr(function, "take", None)
    return chosen(rows) if chosen is not None else function


def cpu_tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor where it is, and numbers as one on the CPU, whatever torch's default device."""
    return torch.as_tensor(value, dtype=dtype, device=value.device if isinstance(value, Tensor) else "cpu")


def per_sample(value: float | Tensor, like: Tensor) -> Tensor:
    """Convert a number, or one a sample (B,), to a tensor that multiplies ``like``: () or (B, 1, ..., 1)."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return value if value.ndim == 0 else by_row(value, like)


def by_row(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values (B,) to (B, 1, ..., 1), which broadcasts to ``like`` (B, *shape)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def where_rows(rows: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """Select ``chosen`` (B, *shape) for the samples of the mask ``rows`` (B,), ``others`` elsewhere."""
    return torch.where(by_row(rows, chosen), chosen, others)


def sample_norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm (B,) of each sample of ``x`` (B, *shape)."""
    return torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)


def unit(x: Tensor) -> Tensor:
    """Divide each sample by its Euclidean norm; zero stays zero."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / per_sample(x.abs().reshape(len(x), -1).amax(1), x).clamp_min(tiny)  # small numbers' squares would be 0
    return x / per_sample(sample_norm(x), x).clamp_min(tiny)


def sample_rms(x: Tensor) -> Tensor:
    """Return the root mean square (B,) of each sample of ``x`` (B, *shape)."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # squares beyond 65504 overflow
    return wide.reshape(len(x), -1).square().mean(1).sqrt().to(x.dtype)
