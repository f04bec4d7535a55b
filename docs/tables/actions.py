"""Tables of docs/benchmarks/actions.md."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from latentopt.reports import Table
from latentopt.statistics import student
from tables.stored import Cell, distinct, load, one, where
from tables.text import bare, box_of, interval, table

REFERENCE = "reference: lr .2, 100 steps"
OTHERS = ("gradient ascent", "pgd", "adam", "adr-gd", "multi-start pgd", "cem")
TWIN = "pgd"
TITLES = {"swimmer": "Swimmer (SAC)", "lunar-td3": "LunarLander (TD3)", "lunar-ddpg": "LunarLander (DDPG)"}


def _mean(values: Sequence[float], digits: int = 3) -> str:
    return f"{student(values).mean:.{digits}f}"


def agent(name: str) -> Table:
    """Tabulate every method on one agent: both critic settings, both boxes."""
    cells = where(load("actions-cheetah-hopper"), agent=name)
    boxes = sorted(distinct(cells, "box"))
    groups = [("first", box) for box in boxes] + [("min", box) for box in boxes]
    columns, rows = ["method"], []
    for critic, box in groups:
        columns += [f"first, {box_of(box)}", "held-out"] if critic == "first" else [f"least, {box_of(box)}"]
    for method in distinct(cells, "method"):
        texts = []
        for critic, box in groups:
            cell = one(cells, method=method, critic=critic, box=box)
            texts.append(_mean(cell["gain"]))
            texts += [interval(student(cell["held_out"]), 2)] if critic == "first" else []
        rows.append(["normalised, .2, 100 steps" if method == REFERENCE else method, *texts])
    return table(columns, [*rows, _best(cells, groups)])


def _best(cells: Sequence[Cell], groups: Sequence[tuple[str, float]]) -> list[str]:
    row = ["best of all, state by state"]
    for critic, box in groups:
        gains = [cell["gain"] for cell in where(cells, critic=critic, box=box)]
        row += [f"{np.max(gains, 0).mean():.3f}", *([""] if critic == "first" else [])]
    return row


def others() -> Table:
    """Tabulate the other agents, on the first critic."""
    cells = where(load("actions-others"), critic="first")
    rows = []
    for name, box in distinct(cells, "agent", "box"):
        rows_of_agent = [one(cells, agent=name, box=box, method=method) for method in OTHERS]
        twin = one(cells, agent=name, box=box, method=TWIN)["held_out"]
        interval = student(twin) if twin else None
        text = f"{interval.mean:.3f} [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
        rows.append([f"{name}, {box:g}", *(_mean(cell["gain"]) for cell in rows_of_agent), text])
    return table(["agent, box", *OTHERS, f"twin of `{TWIN}`"], rows)


def exact() -> Table:
    """Compare the exact maximum with the methods' best."""
    cells, rows = load("actions-exact"), []
    for maxima in load("actions-exact-maxima"):
        gains = [c["gain"] for c in where(cells, agent=maxima["agent"], box=maxima["box"], critic="first")]
        closed, count = map(int, maxima["gap closed"].split(" of "))
        best = np.max([values[:count] for values in gains], 0).mean()
        figures = [best, maxima["branch and bound"], maxima["upper bound"]]
        texts = [bare(value, 4) for value in figures]
        rows.append(
            [TITLES[maxima["agent"]], box_of(maxima["box"]), *texts, f"{closed} of {count}", f"{maxima['CPU s']:.1f}"]
        )
    columns = ["agent", "box", "best of three runs of ascent and Adam", "branch and bound", "upper bound"]
    return table([*columns, "gap closed", "CPU s"], rows)


BLOCKS = {
    "actions-halfcheetah": partial(agent, "halfcheetah"),
    "actions-hopper": partial(agent, "hopper"),
    "actions-others": others,
    "actions-exact": exact,
}
