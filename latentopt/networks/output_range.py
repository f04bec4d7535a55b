"""Detection of a wrong output range by the values of images."""

from __future__ import annotations

from torch import Tensor

SHARE_OUTSIDE = 0.2
"""Share of values far outside the output range above which the range is doubted."""
SHARE_FILLED = 0.02
"""Share of the output range that values fill below which the range is doubted."""
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-127.5, 127.5))
"""The usual output ranges of generators."""


def doubt_range(images: Tensor) -> str:
    """Return why images in [0, 1] suggest another output range: they leave it, or have no contrast; else nothing."""
    outside = ((images < -0.1) | (images > 1.1)).double().mean().item()  # a last layer without bounds goes .1 outside
    if outside > SHARE_OUTSIDE:
        return f"{outside:.0%} of them far outside"
    some = images.flatten()[:: 1 + images.numel() // 4096]
    if float(some.max() - some.min()) >= SHARE_FILLED:
        return ""
    lowest, highest = percentiles(images)
    return f"less than {SHARE_FILLED:.0%} of" if float(highest - lowest) < SHARE_FILLED else ""


def percentiles(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last percentile of the finite values; 0 and 1 where there is none."""
    values = images.flatten()
    values = values[:: 1 + len(values) // 1_000_000]
    values = values[values.isfinite()].sort().values
    if not len(values):
        return images.new_zeros(()), images.new_ones(())
    percent = len(values) // 100
    return values[percent], values[len(values) - 1 - percent]


def likely_range(lowest: float, highest: float) -> tuple[float, float] | None:
    """Return the usual range that values from ``lowest`` to ``highest`` fill, if any."""
    for low, high in RANGES:
        slack = (high - low) / 10
        if low - slack <= lowest and highest <= high + slack and highest - lowest > 4 * slack:
            return low, high
    return None
