"""Formatting of numbers in the pages."""

from __future__ import annotations

from collections.abc import Sequence

from latentopt.reports import Table
from latentopt.statistics import MeanInterval, student, wilson

EMPTY = ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table without title and note, for a page."""
    return Table("", "", columns, rows)


def bare(value: float, digits: int) -> str:
    """Format a number without the zero before the point: .05, -.3, 1.2."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def box_of(width: float) -> str:
    """Format the radius of a box, in units of half the range: .05, .25, 1."""
    return f"{width:g}".replace("0.", ".", 1)


def interval(mean: MeanInterval, digits: int, low_digits: int | None = None) -> str:
    """Format a mean with its interval."""
    ends = digits if low_digits is None else low_digits
    return f"{mean.mean:.{digits}f} [{mean.low:.{ends}f}, {mean.high:.{ends}f}]"


def signed(difference: MeanInterval, digits: int) -> str:
    """Format a difference with its interval: bold if the interval is above 0, italic if below."""
    text = f"{difference.mean:+.{digits}f} [{difference.low:.{digits}f}, {difference.high:.{digits}f}]"
    return f"**{text}**" if difference.low > 0 else f"*{text}*" if difference.high < 0 else text


def plus_minus(values: Sequence[float], digits: int, short: bool = False) -> str:
    """Format the mean and its standard error."""
    interval = student(values)
    write = bare if short else lambda value, places: f"{value:.{places}f}"
    return f"{write(interval.mean, digits)} +- {write(interval.error, digits)}"


def share(flags: Sequence[bool], digits: int = 0) -> str:
    """Format the share of successes in per cent."""
    return f"{100 * sum(flags) / len(flags):.{digits}f} %"


def share_between(flags: Sequence[bool]) -> str:
    """Format the share with Wilson's interval, in whole per cent."""
    low, high = wilson(sum(flags), len(flags))
    return f"{share(flags)} [{100 * low:.0f}, {100 * high:.0f}]"
