"""Tables of docs/research.md."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latentopt.bench.duel_methods import CONTROL, OURS
from latentopt.bench.statistics import Mean, mean_of
from latentopt.reports import Table
from tables.stored import Cell, distinct, load, where
from tables.text import EMPTY, signed, table

RUNS = ("duel-gradient", "duel-real", "duel", "duel-digits")
"""A network's figures are those of the first run that has it."""


def _duel(family: str) -> list[Cell]:
    cells: list[Cell] = []
    for run in RUNS:
        known = distinct(cells, "network")
        cells += [cell for cell in where(load(run), family=family) if cell["network"] not in known]
    return cells


def _others(cells: Sequence[Cell], network: str) -> list[str]:
    return [name for name in distinct(where(cells, network=network), "method") if name not in (OURS, CONTROL)]


def _values(cells: Sequence[Cell], network: str, method: str, by: str) -> list[float]:
    return [value for cell in where(cells, network=network, method=method) for value in cell[by]]


def _differences(cells: Sequence[Cell], network: str, method: str, by: str) -> Mean:
    ours, theirs = (_values(cells, network, name, by) for name in (OURS, method))
    return mean_of([a - b for a, b in zip(ours, theirs, strict=True)])


def _bold(text: str, better: bool) -> str:
    return f"**{text}**" if better else text


def single() -> Table:
    """Shares of single starts that recover, ours less the others'."""
    cells = _duel("single")
    columns = ["generator", "`ADRGD()`, %", "gates off", "difference", "best other", "difference", "by passes"]
    rows = []
    for network in distinct(cells, "network"):
        means = {
            name: mean_of(_values(cells, network, name, "by_seconds")).mean
            for name in distinct(where(cells, network=network), "method")
        }
        passes = {name: mean_of(_values(cells, network, name, "by_passes")).mean for name in means}
        best = max(_others(cells, network), key=lambda name, means=means: means[name])
        rival = max(_others(cells, network), key=lambda name, passes=passes: passes[name])
        texts = []
        for method, by in ((CONTROL, "by_seconds"), (best, "by_seconds"), (rival, "by_passes")):
            found = _differences(cells, network, method, by)
            texts.append(signed(Mean(*(100 * x for x in found)), 1))
        ours, off, other = (f"{100 * means[name]:.0f}" for name in (OURS, CONTROL, best))
        rows.append([f"`{network}`", ours, off, texts[0], f"{other} (`{best}`)", texts[1], f"{texts[2]} (`{rival}`)"])
    return table(columns, rows)


def to_all() -> Table:
    """Time until all are recovered, ours in units of the others'."""
    cells = _duel("restarts")
    columns = ["generator", "`ADRGD()`, CPU s", "gates off", "times gates off", "`lbfgs`", "times `lbfgs`", "passes"]
    rows = []
    for network in distinct(cells, "network"):
        texts = []
        for method, by in ((CONTROL, "by_seconds"), ("lbfgs", "by_seconds"), ("lbfgs", "by_passes")):
            found = _differences(cells, network, method, by)
            text = f"{math.exp(found.mean):.2f} [{math.exp(found.low):.2f}, {math.exp(found.high):.2f}]"
            texts.append(_bold(text, found.high < 0))
        times = [
            f"{math.exp(mean_of(_values(cells, network, name, 'by_seconds')).mean):.2f}"
            for name in (OURS, CONTROL, "lbfgs")
        ]
        rows.append([f"`{network}`", times[0], times[1], texts[0], times[2], texts[1], texts[2]])
    return table(columns, rows)


def real() -> Table:
    """Errors of real images, and ours relative to the best other's."""
    cells = _duel("real")
    names = distinct(cells, "method")
    rows = []
    for network in distinct(cells, "network"):
        known = distinct(where(cells, network=network), "method")
        means = {name: mean_of(_values(cells, network, name, "by_seconds")).mean for name in known}
        best = min(_others(cells, network), key=lambda name, means=means: means[name])
        found = _differences(cells, network, best, "by_seconds")
        relative = [100 * x / means[best] for x in found[:3]]
        text = f"{relative[0]:+.1f} [{relative[1]:.1f}, {relative[2]:.1f}]"
        errors = [f"{means[name]:.5f}" if name in means else EMPTY for name in names]
        rows.append([f"`{network}`", *errors, _bold(text, relative[2] < 0)])
    return table(["generator", *(f"`{name}`" for name in names), "`ADRGD()` against the best other, %"], rows)


BLOCKS = {"duel-single": single, "duel-all": to_all, "duel-real": real}
