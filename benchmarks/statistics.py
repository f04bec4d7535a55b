"""Comparing two methods on the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentopt.errors import InputError
from latentopt.statistics import bootstrap

TIE = 1e-3
"""Two values are level, and a best known value reached, within this share of it."""


class Mean(NamedTuple):
    """A mean with its 95 % interval (Student's t; infinite for a single value)."""

    mean: float
    low: float
    high: float
    error: float  # standard error; NaN for a single value


class Pairs(NamedTuple):
    """One method against another, seed by seed."""

    difference: Mean
    wins: int
    ties: int
    losses: int


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of independent values."""
    from scipy.stats import t

    array = np.asarray(values, dtype=float)
    if len(array) == 0:
        raise InputError("values", "at least one", "none")
    mean = float(array.mean())
    if len(array) == 1:
        return Mean(mean, -np.inf, np.inf, np.nan)
    error = float(array.std(ddof=1) / len(array) ** 0.5)
    reach = float(t.ppf(0.975, len(array) - 1)) * error
    return Mean(mean, mean - reach, mean + reach, error)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Pairs:
    """Values to be maximised, of the same seeds in the same order: ``ours`` minus ``theirs``."""
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape:
        raise InputError("theirs", f"{len(a)} values", len(b))
    level = np.abs(a - b) <= TIE * np.maximum(np.abs(a), np.abs(b))
    wins, losses = (a > b) & ~level, (a < b) & ~level
    return Pairs(mean_of((a - b).tolist()), int(wins.sum()), int(level.sum()), int(losses.sum()))


def reached(values: Sequence[float], best: Sequence[float]) -> float:
    """The share of values that lie within `TIE` of the best known ones."""
    a, b = np.asarray(values, dtype=float), np.asarray(best, dtype=float)
    return float((a >= b - TIE * np.abs(b)).mean())


class Signs(NamedTuple):
    """One method against another, success by success."""

    wins: int  # only ours succeeds
    losses: int  # only theirs does
    p: float  # of the exact two-sided sign test


def signs(ours: Sequence[bool], theirs: Sequence[bool]) -> Signs:
    """Successes on the same images in the same order."""
    from scipy.stats import binomtest

    a, b = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    if a.shape != b.shape:
        raise InputError("theirs", f"{len(a)} values", len(b))
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    return Signs(wins, losses, float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0)


def bootstrapped(values: Sequence[float]) -> Mean:
    """The mean of independent values with its 95 % bootstrap interval (infinite for a single value)."""
    found = mean_of(values)
    return found if len(values) == 1 else found._replace(**dict(zip(("low", "high"), bootstrap(values), strict=True)))
