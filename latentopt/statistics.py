"""Confidence intervals of 95 %, by scipy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentopt.errors import InputError


class MeanInterval(NamedTuple):
    """A mean of independent values and its interval."""

    mean: float
    low: float
    high: float
    error: float  # standard error; NaN for a single value

    @property
    def half_width(self) -> float:
        """Half the interval's width; infinite for a single value."""
        return (self.high - self.low) / 2


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a rate.

    Args:
        successes: trials that succeeded.
        count: all trials.

    Returns:
        Its ends in [0, 1]; (0, 1) without trials.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    from scipy.stats import binomtest

    if not count:
        return 0.0, 1.0
    interval = binomtest(successes, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def student(values: Sequence[float] | np.ndarray) -> MeanInterval:
    """Return the mean of independent values and Student's t interval, infinite for a single value.

    Args:
        values: one number or more.

    Raises:
        InputError: there are none.

    >>> student([1.0, 2.0, 3.0]).half_width.__round__(3)
    2.484
    """
    from scipy.stats import t

    array = np.asarray(values, dtype=float)
    if not len(array):
        raise InputError("values", "at least one", "none")
    mean = float(array.mean())
    if len(array) == 1:
        return MeanInterval(mean, -np.inf, np.inf, np.nan)
    error = float(array.std(ddof=1) / len(array) ** 0.5)
    half_width = float(t.ppf(0.975, len(array) - 1)) * error
    return MeanInterval(mean, mean - half_width, mean + half_width, error)


def bootstrap(values: Sequence[float] | np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of the mean of independent values, over resamples of them (Efron 1979).

    Args:
        values: one number or more; of a single one both ends are its value.
        draws: number of resamples.
        seed: of the resamples.

    >>> bootstrap([2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    from scipy import stats

    array = np.asarray(values, dtype=float)
    if len(array) == 1:
        return float(array[0]), float(array[0])
    options = {"n_resamples": draws, "method": "percentile", "random_state": np.random.default_rng(seed)}
    interval = stats.bootstrap((array,), np.mean, **options).confidence_interval
    return float(interval.low), float(interval.high)
