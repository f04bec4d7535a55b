"""Detection of a wrong output range by the values of images."""

from __future__ import annotations

from torch import Tensor

SHARE_OUTSIDE = 0.2
"""Share of values far outside the output range above which the range is doubted."""
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-127.5, 127.5))
"""The usual output ranges of generators."""


def share_outside(images: Tensor) -> float:
    """Return the share of values more than .1 outside [0, 1]; a last layer without bounds goes that far."""
    return ((images < -0.1) | (images > 1.1)).double().mean().item()


def percentiles(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last percentile of the values."""
    values = images.flatten()
    values = values[:: 1 + len(values) // 1_000_000]
    values = values[values.isfinite()].sort().values
    percent = len(values) // 100
    return values[percent], values[len(values) - 1 - percent]


def likely_range(lowest: float, highest: float) -> tuple[float, float] | None:
    """Return the usual range that values from ``lowest`` to ``highest`` fill, if any."""
    for low, high in RANGES:
        slack = (high - low) / 10
        if low - slack <= lowest and highest <= high + slack and highest - lowest > 4 * slack:
            return low, high
    return None
