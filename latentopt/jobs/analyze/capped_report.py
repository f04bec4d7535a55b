"""The tables and the plot of `latentopt analyze capped`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from latentopt.reports import Report, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = """\
Share of {count} test images of {data} that are still classified right, in %: mean and 95 % t interval over {seeds}
seeds. *pgd*, *apgd*: by gradients of the cross-entropy. *straight through*: the same PGD, gradients passed through the
caps. *adr-gd*: soft gates. *square*: no gradients. *worst*: right under all of them. *cw*, *adr-gd L2*: in an L2 ball.
*zero*: inputs whose gradient is exactly 0. *masked gradients*: of what withstands PGD and APGD another attack in Linf
breaks over 5 %."""
COLUMNS = {
    "clean": "clean",
    "fgsm": "fgsm",
    "pgd": "pgd",
    "apgd": "apgd",
    "pgd-straight-through": "straight through",
    "adr-gd": "adr-gd",
    "square": "square",
    "worst": "worst",
    "cw-l2": "cw",
    "adr-gd-l2": "adr-gd L2",
    "zero_gradients": "zero",
}


class Interval(NamedTuple):
    """A mean and the half width of its 95 % interval; NaN of a single value."""

    mean: float
    reach: float

    def percent(self) -> str:
        return f"{100 * self.mean:.1f}" + (f" ± {100 * self.reach:.1f}" if self.reach == self.reach else "")


def interval(values: Sequence[float]) -> Interval:
    """Student's interval of independent values; a mean of shares is not cut at 0 and 1."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return Interval(float(array.mean()), float("nan"))
    reach = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5
    return Interval(float(array.mean()), float(reach))


def report(rows: Sequence[Row], data: str, count: int) -> Report:
    """What the classifiers, a row each, say together."""
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    tables = [_table(name, [row for row in rows if row["training"] == name]) for name in trainings]
    tables.append(_claims(rows, trainings))
    note = NOTE.format(count=count, data=data, seeds=seeds)
    return Report(f"Capped ReLU on {data}", note, tables, rows, partial(draw, rows))


def kinds(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """The rows of each layer and cap, seed by seed."""
    found: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row["layer"], float(row["beta"])), []).append(row)
    return found


def _table(training: str, rows: Sequence[Row]) -> Table:
    lines = []
    for (layer, beta), members in kinds(rows).items():
        cells = [interval([row[name] for row in members]).percent() for name in COLUMNS]
        failures = sorted({row["failure"] for row in members} - {""})
        lines.append([layer, "" if layer == "none" else f"{beta:g}", *cells, ", ".join(failures)])
    return Table(f"Training: {training}", "", ["capped", "beta", *COLUMNS.values(), "failure"], lines)


def _claims(rows: Sequence[Row], trainings: Sequence[str]) -> Table:
    """The paper's claims: what PGD alone says of them, and what all attacks together do."""
    lines = []
    for training in trainings:
        cells = kinds([row for row in rows if row["training"] == training])
        plain = cells.pop(("none", float("inf")))
        for layer in dict.fromkeys(layer for layer, _ in cells):
            members = {beta: cell for (name, beta), cell in cells.items() if name == layer}
            usable = {
                beta: cell for beta, cell in members.items() if _mean(cell, "clean") > _mean(plain, "clean") - 0.05
            }
            if not usable:
                lines.append([training, layer, "none within 5 % of the clean accuracy", "", "", "", ""])
                continue
            beta = min(usable)
            line = [training, layer, f"{beta:g}"]
            for name in ("pgd", "worst"):
                gain = interval([a[name] - b[name] for a, b in zip(usable[beta], plain, strict=True)])
                line += [gain.percent(), _verdict(gain)]
            lines.append(line)
    note = """\
Does a cap add robustness? The smallest cap that costs at most 5 % of clean accuracy against no cap, seed by seed. A
gain under PGD that is gone in the worst case was masking."""
    return Table("The claim", note, ["training", "capped", "beta", "gain, PGD", "", "gain, worst case", ""], lines)


def _mean(rows: Sequence[Row], name: str) -> float:
    return interval([row[name] for row in rows]).mean


def _verdict(gain: Interval) -> str:
    if gain.reach != gain.reach or abs(gain.mean) <= gain.reach:
        return "undecided"
    return "yes" if gain.mean > 0 else "no, less"


def draw(rows: Sequence[Row], figure: Figure) -> None:
    """A panel for each training: what PGD says and the worst case, over the cap."""
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    figure.set_size_inches(5.2 * len(trainings), 4)
    axes = figure.subplots(1, len(trainings), squeeze=False, sharey=True)[0]
    for ax, training in zip(axes, trainings, strict=True):
        cells = kinds([row for row in rows if row["training"] == training])
        plain = cells.pop(("none", float("inf")))
        layers = list(dict.fromkeys(layer for layer, _ in cells))
        for at, layer in enumerate(layers):
            members = sorted((beta, cell) for (name, beta), cell in cells.items() if name == layer)
            for name, style in (("pgd", "--"), ("worst", "-")):
                values = [100 * _mean(cell, name) for _, cell in members]
                ax.plot([beta for beta, _ in members], values, style, color=f"C{at}", marker="o", markersize=3)
        for name, style in (("pgd", "--"), ("worst", "-")):
            ax.axhline(100 * _mean(plain, name), ls=style, color="0.5", lw=1)
        for at, layer in enumerate(layers):
            ax.plot([], [], color=f"C{at}", label=f"cap on {layer}")
        for label, style, color in (("PGD", "--", "k"), ("worst of all attacks", "-", "k"), ("no cap", "-", "0.5")):
            ax.plot([], [], style, color=color, label=label)
        ax.set(xscale="log", xlabel="beta", title=f"training: {training}", ylim=(-2, 102))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("right under attack, %")
    axes[-1].legend(fontsize=7)
