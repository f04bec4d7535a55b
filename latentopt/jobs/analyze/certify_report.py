"""The tables and the plot of `latentopt analyze certify`, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from latentopt.reports import Report, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "The maximum lies between the value and the bound. The gap of an optimiser, from its value to the bound as a share "
    "of the best value, is an upper bound on its true gap."
)


def report(model: str, methods: Sequence[str], rows: Sequence[Row]) -> Report:
    """Summarise the certificates, a row each."""
    tables = [_maxima(rows), *([_optimizers(rows, methods)] if methods else [])]
    return Report(f"Certified maxima: {model}", NOTE, tables, rows, partial(_draw, rows, methods))


def _maxima(rows: Sequence[Row]) -> Table:
    words = [name for name in ("status", "verdict", "method") if name in rows[0]]
    columns = ["", "value", "bound", "gap %", *words, "boxes", "s"]
    lines = [
        [
            row["case"],
            f"{row['value']:.4f}",
            f"{row['bound']:.4f}",
            f"{100 * row['gap']:.3f}",
            *(row[name] for name in words),
            f"{row['boxes']:,}",
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    return Table("Maxima", "", columns, lines)


def _optimizers(rows: Sequence[Row], methods: Sequence[str]) -> Table:
    """Tabulate each optimiser's distance to the best values and to the bounds."""
    lines = list[list[str]]()
    for name in methods:
        pairs = [(row[f"value_{name}"], row["value"]) for row in rows]
        gaps = [100 * row[f"gap_{name}"] for row in rows]
        reached = sum(value >= best - 1e-4 * abs(best) for value, best in pairs)
        below = [100 * (best - value) / (abs(best) or 1) for value, best in pairs]
        shares = [f"{sum(part) / len(rows):.3f}" for part in (below, gaps)] + [f"{max(gaps):.3f}"]
        mean = sum(value for value, _ in pairs) / len(rows)
        lines.append([name, f"{mean:.4f}", *shares, f"{reached} of {len(rows)}"])
    note = "At equal evaluations. `best`: how often it ends within .01 % of the best value known."
    columns = ["", "mean value", "below best known %", "mean gap <= %", "worst gap <= %", "best"]
    return Table("Optimisers", note, columns, lines)


def _draw(rows: Sequence[Row], methods: Sequence[str], figure: Figure) -> None:
    """Draw every optimiser's gap to the bound, side by side, and the gap of the best value."""
    axes = figure.subplots()
    positions = range(len(rows))
    for number, name in enumerate(methods):
        offset = 0.6 * ((number + 0.5) / len(methods) - 0.5)
        axes.plot([x + offset for x in positions], [100 * row[f"gap_{name}"] for row in rows], "o", label=name)
    gaps = [100 * row["gap"] for row in rows]
    ends = ([x - 0.4 for x in positions], [x + 0.4 for x in positions])
    axes.hlines(gaps, *ends, "black", linewidth=1, label="best value known")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_xticks(list(positions), [row["case"] for row in rows], rotation=90 if len(rows) > 6 else 0)
    axes.set_ylabel("gap to the bound, %")
    axes.legend()
