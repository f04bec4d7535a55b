"""The tables and the plot of `latentopt analyze capped`, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

from latentopt.reports import Report, Row, Table
from latentopt.statistics import MeanInterval, student

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


def percent(interval: MeanInterval) -> str:
    """Write a mean with half the width of its interval, if there is one; a mean of shares is not cut at 0 and 1."""
    width = f" ± {100 * interval.half_width:.1f}" if isfinite(interval.half_width) else ""
    return f"{100 * interval.mean:.1f}{width}"


def report(rows: Sequence[Row], data: str, count: int) -> Report:
    """Summarise the classifiers, a row each."""
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    tables = [_table(name, [row for row in rows if row["training"] == name]) for name in trainings]
    tables.append(_claims(rows, trainings))
    note = NOTE.format(count=count, data=data, seeds=seeds)
    return Report(f"Capped ReLU on {data}", note, tables, rows, partial(_draw, rows))


def kinds(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """Group rows by layer and cap, seed by seed."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["layer"], float(row["beta"])), []).append(row)
    return groups


def _table(training: str, rows: Sequence[Row]) -> Table:
    lines = []
    for (layer, beta), members in kinds(rows).items():
        cells = [percent(student([row[name] for row in members])) for name in COLUMNS]
        failures = sorted({row["failure"] for row in members} - {""})
        lines.append([layer, "" if layer == "none" else f"{beta:g}", *cells, ", ".join(failures)])
    return Table(f"Training: {training}", "", ["capped", "beta", *COLUMNS.values(), "failure"], lines)


def _claims(rows: Sequence[Row], trainings: Sequence[str]) -> Table:
    """Test the paper's claims under PGD alone and under all attacks together."""
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
                gain = student([a[name] - b[name] for a, b in zip(usable[beta], plain, strict=True)])
                line += [percent(gain), _verdict(gain)]
            lines.append(line)
    note = """\
Does a cap add robustness? The smallest cap that costs at most 5 % of clean accuracy against no cap, seed by seed. A
gain under PGD that is gone in the worst case was masking."""
    return Table("The claim", note, ["training", "capped", "beta", "gain, PGD", "", "gain, worst case", ""], lines)


def _mean(rows: Sequence[Row], name: str) -> float:
    return student([row[name] for row in rows]).mean


def _verdict(gain: MeanInterval) -> str:
    if abs(gain.mean) <= gain.half_width:
        return "undecided"
    return "yes" if gain.mean > 0 else "no, less"


def _draw(rows: Sequence[Row], figure: Figure) -> None:
    """Draw a panel for each training: accuracy under PGD and in the worst case, over the cap."""
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    figure.set_size_inches(5.2 * len(trainings), 4)
    axes = figure.subplots(1, len(trainings), squeeze=False, sharey=True)[0]
    for ax, training in zip(axes, trainings, strict=True):
        cells = kinds([row for row in rows if row["training"] == training])
        plain = cells.pop(("none", float("inf")))
        layers = list(dict.fromkeys(layer for layer, _ in cells))
        for position, layer in enumerate(layers):
            members = sorted((beta, cell) for (name, beta), cell in cells.items() if name == layer)
            for name, style in (("pgd", "--"), ("worst", "-")):
                values = [100 * _mean(cell, name) for _, cell in members]
                ax.plot([beta for beta, _ in members], values, style, color=f"C{position}", marker="o", markersize=3)
        for name, style in (("pgd", "--"), ("worst", "-")):
            ax.axhline(100 * _mean(plain, name), ls=style, color="0.5", lw=1)
        for position, layer in enumerate(layers):
            ax.plot([], [], color=f"C{position}", label=f"cap on {layer}")
        for label, style, color in (("PGD", "--", "k"), ("worst of all attacks", "-", "k"), ("no cap", "-", "0.5")):
            ax.plot([], [], style, color=color, label=label)
        ax.set(xscale="log", xlabel="beta", title=f"training: {training}", ylim=(-2, 102))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("right under attack, %")
    axes[-1].legend(fontsize=7)
