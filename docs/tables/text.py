"""Numbers as the pages write them."""

from __future__ import annotations

from collections.abc import Sequence

from latentopt.reports import Table
from latentopt.statistics import MeanInterval, student, wilson

EMPTY = ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for a page, which has its own title and words."""
    return Table("", "", columns, rows)


def bare(value: float, digits: int) -> str:
    """Without the zero before the point: .05, -.3, 1.2."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def box_of(width: float) -> str:
    """A box, in units of half the range: .05, .25, 1."""
    return f"{width:g}".replace("0.", ".", 1)


def interval(found: MeanInterval, digits: int, low_digits: int | None = None) -> str:
    """A mean with its interval."""
    ends = digits if low_digits is None else low_digits
    return f"{found.mean:.{digits}f} [{found.low:.{ends}f}, {found.high:.{ends}f}]"


def signed(found: MeanInterval, digits: int) -> str:
    """A difference with its interval, bold where that lies above 0, in italics where below."""
    text = f"{found.mean:+.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"**{text}**" if found.low > 0 else f"*{text}*" if found.high < 0 else text


def plus_minus(values: Sequence[float], digits: int, short: bool = False) -> str:
    """The mean and its standard error."""
    found = student(values)
    write = bare if short else lambda value, places: f"{value:.{places}f}"
    return f"{write(found.mean, digits)} +- {write(found.error, digits)}"


def share(flags: Sequence[bool], digits: int = 0) -> str:
    """The share of what succeeded, in per cent."""
    return f"{100 * sum(flags) / len(flags):.{digits}f} %"


def share_between(flags: Sequence[bool]) -> str:
    """The share with Wilson's interval, in whole per cent."""
    low, high = wilson(sum(flags), len(flags))
    return f"{share(flags)} [{100 * low:.0f}, {100 * high:.0f}]"
