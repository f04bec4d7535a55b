"""Tables, raw rows and plots of benchmarks and analyses, as Markdown, CSV and PNG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
Drawing = Callable[["Figure"], None]
"""Draws on an empty figure."""
TABLE, ROWS, PLOT = "table.md", "results.csv", "plot.png"
WORDS = {"": None, "None": None, "True": True, "False": False}
WHOLE = re.compile(r"-?(0|[1-9]\d*)")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?|-?inf|nan")


@dataclass(frozen=True)
class Table:
    """A table of the report; cells are text already."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table, its columns padded so that it reads well as text too."""
        cells = [list(self.columns), *(list(row) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
        rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
        return "\n".join([f"## {self.title}", "", *([self.note, ""] if self.note else []), lines[0], rule, *lines[1:]])


@dataclass(frozen=True)
class Report:
    """Tables, rows and plot of a benchmark or an analysis."""

    title: str
    note: str  # Markdown; how to read the tables
    tables: Sequence[Table]
    rows: Sequence[Row]  # raw, one a measurement
    draw: Drawing  # the plot
    appendix: str = ""  # Markdown

    def markdown(self) -> str:
        parts = [f"# {self.title}", self.note, *(table.markdown() for table in self.tables), self.appendix]
        return "\n\n".join(part for part in parts if part) + "\n"


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk."""

    markdown: str
    files: list[Path]


def report_files(report: Report, pictures: Mapping[str, Drawing] | None = None) -> dict[str, bytes]:
    """Return the content of a report's files by name: its tables, rows and plot, and further pictures."""
    content = {TABLE: report.markdown().encode(), ROWS: csv_text(report.rows).encode()}
    return content | {name: png_bytes(draw) for name, draw in {PLOT: report.draw, **(pictures or {})}.items()}


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV, with the columns of all rows in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_value(text: str) -> Any:
    """Read a field of a CSV table: a boolean, a number, None if it is empty, else its text.

    Only what Python writes for a number is one: ``007`` and ``1_000`` are text.

    >>> [read_value(text) for text in ("False", "3", "0.5", "1e-05", "", "007", "pgd")]
    [False, 3, 0.5, 1e-05, None, '007', 'pgd']
    """
    if text in WORDS:
        return WORDS[text]
    if WHOLE.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text


def new_figure(layout: str = "constrained", **options: Any) -> Figure:
    """Return an empty figure that needs no display; options are those of `matplotlib.figure.Figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout=layout, **options)  # pyright: ignore[reportArgumentType]
    FigureCanvasAgg(figure)
    return figure


def new_plot(height: float = 4.2) -> tuple[Figure, Axes]:
    """Return a figure 7 inches wide and its one plot, in fixed margins: to fit them triples the time to draw."""
    figure = new_figure("none", figsize=(7, height))
    return figure, figure.add_axes((0.14, 0.55 / height, 0.84, 1 - 0.9 / height))


def png_bytes(draw: Drawing) -> bytes:
    """Return a figure, once ``draw`` has drawn on it, as PNG."""
    figure = new_figure()
    draw(figure)
    return figure_bytes(figure)


def figure_bytes(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    figure.savefig(data, dpi=dpi, format="png")
    return data.getvalue()
