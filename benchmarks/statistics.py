"""Comparisons of two methods on the same seeds or images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentopt.errors import InputError
from latentopt.statistics import MeanInterval, bootstrap, student

TIE = 1e-3
"""Relative tolerance within which two values are level, and a best known value is reached."""


class Pairs(NamedTuple):
    """One method against another, seed by seed."""

    difference: MeanInterval
    wins: int
    ties: int
    losses: int


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Pairs:
    """Compare values to be maximised, for the same seeds in the same order: ``ours`` minus ``theirs``."""
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape:
        raise InputError("theirs", f"{len(a)} values", len(b))
    level = np.abs(a - b) <= TIE * np.maximum(np.abs(a), np.abs(b))
    wins, losses = (a > b) & ~level, (a < b) & ~level
    return Pairs(student((a - b).tolist()), int(wins.sum()), int(level.sum()), int(losses.sum()))


def reached(values: Sequence[float], best: Sequence[float]) -> float:
    """Return the share of values within `TIE` of the best known ones."""
    a, b = np.asarray(values, dtype=float), np.asarray(best, dtype=float)
    return float((a >= b - TIE * np.abs(b)).mean())


class Signs(NamedTuple):
    """One method against another, success by success."""

    wins: int  # only ours succeeds
    losses: int  # only theirs does
    p: float  # of the exact two-sided sign test


def signs(ours: Sequence[bool], theirs: Sequence[bool]) -> Signs:
    """Compare successes on the same images in the same order."""
    from scipy.stats import binomtest

    a, b = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    if a.shape != b.shape:
        raise InputError("theirs", f"{len(a)} values", len(b))
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    return Signs(wins, losses, float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0)


def bootstrapped(values: Sequence[float]) -> MeanInterval:
    """Return the mean of independent values with its 95 % bootstrap interval (infinite for a single value)."""
    interval = student(values)
    return (
        interval
        if len(values) == 1
        else interval._replace(**dict(zip(("low", "high"), bootstrap(values), strict=True)))
    )
