"""Tables of docs/benchmarks/random-networks.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.random_net_methods import PAPERS_ALPHA
from benchmarks.random_nets import PRINTED, SECONDS
from benchmarks.statistics import paired, reached
from latentopt.reports import Table
from latentopt.statistics import MeanInterval, student
from tables.stored import Cell, distinct, load, one, where
from tables.text import bare, table

CONTROL, STARTS = "pgd", 32


def _name(method: str) -> str:
    return f"`{method}`" + (" (control)" if method == CONTROL else "")


def _difference(interval: MeanInterval, whole: bool = False) -> str:
    if whole:
        return f"{interval.mean:+.0f} [{interval.low:.0f}, {interval.high:.0f}]"
    text = f"{interval.mean:+.4g} [{interval.low:.4g}, {interval.high:.4g}]"
    return text.replace("+0.", "+.").replace("-0.", "-.").replace("[0.", "[.").replace(" 0.", " .")


def methods(model: str) -> Table:
    """Tabulate every method from one start at equal steps, and in the control's CPU time."""
    cells = where(load(f"random-nets-{model}"), part="table")
    large = model != "A"
    timed = where(cells, group=SECONDS)
    control = one(timed, method=CONTROL, restarts=STARTS)
    rows = [_row(cells, method, control, large) for method in distinct(cells, "method")]
    steps = one(cells, group=PRINTED, method=CONTROL)["steps"]
    columns = ["method", f"one start, {steps} steps", "passes", f"{STARTS} starts in the control's CPU time"]
    return table([*columns, "minus control [95 %]", "one start in that time" if large else "best known"], rows)


def _row(cells: Sequence[Cell], method: str, control: Cell, large: bool) -> list[str]:
    single = one(cells, group=PRINTED, method=method)
    starts = one(cells, group=SECONDS, method=method, restarts=STARTS)
    mean, many = student(single["value"]).mean, student(starts["value"]).mean
    against = "" if method == CONTROL else _difference(paired(starts["value"], control["value"]).difference, large)
    texts = [f"{mean:.0f}" if large else f"{mean:.2f}", str(single["forwards"] + single["backwards"])]
    texts += [f"{many:.0f}" if large else f"{many:.3f}", against]
    if large:
        alone = one(cells, group=SECONDS, method=method, restarts=1)
        return [_name(method), *texts, f"{student(alone['value']).mean:.0f}"]
    return [_name(method), *texts, f"{100 * reached(starts['value'], starts['best_known']):.0f} %"]


def parts(group: str) -> Table:
    """Tabulate one form of ADR-GD on A: its ablations, or the slope of its gates."""
    cells = where(load("random-nets-A"), part=group)
    rows = []
    for form in distinct(cells, "group"):
        own = where(cells, group=form)
        base = one(own, method=PAPERS_ALPHA if group == "alpha" else own[0]["method"])
        for cell in own:
            difference = "" if cell is base else _difference(paired(cell["value"], base["value"]).difference)
            rows.append([f"`{form}`", str(cell["method"]), f"{np.mean(cell['value']):.2f}", difference])
    return table(["form", "alpha" if group == "alpha" else "left out", "mean", "difference [95 %]"], rows)


def _costs() -> list[Cell]:
    """Return the latest run of each network."""
    again = load("cost-mnist")
    return again + [cell for cell in load("cost") if cell["network"] not in distinct(again, "network")]


def cost() -> Table:
    """Tabulate the cost of an iteration of each form of ADR-GD relative to PGD."""
    cells = _costs()
    rows = [
        [c["network"], str(c["batch"]), c["method"], f"{c['forwards']:.3g}", f"{c['backwards']:.3g}", _ratio(c)]
        for c in cells
        if c["method"] not in (CONTROL, "by hand", "solve")
    ]
    return table(["network", "batch", "method", "forwards", "backwards", "CPU time, median [quartiles]"], rows)


def _ratio(cell: Cell) -> str:
    return f"{cell['cpu_ratio']:.2f} [{cell['cpu_ratio_q1']:.2f}, {cell['cpu_ratio_q3']:.2f}]"


def _foretold(probes: int) -> str:
    return bare((1 / (np.pi * probes)) ** 0.5, 2)


def norms() -> Table:
    """Tabulate the mean error of estimated row norms by the number of probes."""
    cells = [cell for cell in load("norms") if cell["probes"] != "exact"]
    networks = distinct(cells, "network")
    rows = [
        [str(k), *(bare(one(cells, network=name, probes=k)["mean_error"], 2) for name in networks), _foretold(k)]
        for k in distinct(cells, "probes")
    ]
    return table(["probes", *networks, "1 / sqrt(pi K)"], rows)


def loop() -> Table:
    """Tabulate the time of `solve` relative to a hand-written loop."""
    cells = _costs()
    rows = [[c["network"], str(c["batch"]), _ratio(c)] for c in cells if c["method"] == "solve"]
    return table(["network", "batch", "CPU time, median [quartiles]"], rows)


BLOCKS = {
    "random-nets-A": lambda: methods("A"),
    "random-nets-C": lambda: methods("C"),
    "random-nets-parts": lambda: parts("ablation"),
    "random-nets-alpha": lambda: parts("alpha"),
    "cost": cost,
    "cost-loop": loop,
    "norms": norms,
}
