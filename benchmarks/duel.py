"""`latentopt bench duel`: ADR-GD's default against every simple method, at equal CPU time and at equal counted cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.choices import chosen
from benchmarks.duel_cases import FAMILIES, Case
from benchmarks.duel_fight import Fought, fight
from benchmarks.duel_methods import CONTROL, METHODS, OURS, SQUARES, Trials, chosen_trial
from benchmarks.inverted import RECOVERED
from benchmarks.report import Bench
from benchmarks.statistics import Mean, mean_of
from benchmarks.timing import threads as pinned
from latentopt.errors import nonnegative, positive
from latentopt.reports import Report, Row, Table, Written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Every method has the same CPU time (of all problems of a case together) or the same forwards and backwards, "
    "the same starts in the first round, and the best of eight settings on the seeds of tuning. Single: share of "
    "the generator's own images recovered (error below 1e-4) from one random start each. Restarts: until all 16 "
    "images of a seed are recovered; a method that does not get there counts as if it did at the end of its "
    "budget, and means are geometric. Attacks: the margin by which a class fell short of the label's, 0 where the "
    "image is broken. Against: the difference from the method in bold, by pairs, with its 95 % interval "
    "(restarts: the ratio; real images: in units of that method's error)."
)
BUDGETS = ("CPU s", "passes")


@dataclass(frozen=True, eq=False)
class Cell:
    """A method on all seeds of a network in a family."""

    family: str
    network: str
    method: str
    fought: Sequence[Fought]

    def scores(self, budget: str) -> list[float]:
        """What counts, one number a seed or a problem; more is better, but of restarts (log time) and real images."""
        return [score for fought in self.fought for score in _scores(self.family, fought, budget)]


def _scores(family: str, fought: Fought, budget: str) -> list[float]:
    case, timed = fought.case, budget == BUDGETS[0]
    most = case.seconds if timed else float(case.passes)
    if family == "restarts":
        return [math.log(fought.recovered_at(fought.times if timed else fought.passes, most))]
    values = fought.at(seconds=most) if timed else fought.at(passes=most)
    if family == "single":
        return [(values < RECOVERED).float().mean().item()]
    if family == "attacks":
        return (-values).clamp(max=0.0).tolist()  # what is broken is left, wherever its last step took it
    return (values if family == "real" else -values).tolist()


def duel(
    families: str = "single,restarts",
    networks: str = "all",
    methods: str = "all",
    seeds: int = 8,
    seed: int = 0,
    tune: bool = False,
    threads: int = 1,
    out: str | None = None,
    overwrite: bool = False,
    quick: bool = False,
) -> Written:
    """Fight every simple method with ADR-GD's default, at equal CPU time and at equal counted cost.

    Args:
        families: all, or some of nets (random networks), attacks, single (latents of a generator's own images, single
            starts), restarts (the same until all are recovered), real (latents of real images) and critics, between
            commas.
        networks: all of a family, or some, between commas.
        methods: all, or some, between commas; adr-gd is always among them.
        seeds: cases of each network.
        seed: the first of them.
        tune: instead of the duel, try the settings of each method, on other seeds, images and states.
        threads: that torch computes with.
        out: folder for the results; default runs/bench/duel.
        overwrite: replace the results of an earlier run there.
        quick: one network, few methods, a hundredth of the budgets, to see that it works.
    """
    settings = dict(locals())
    for name, value in (("seeds", seeds), ("threads", threads)):
        positive(name, value, integer=True)
    nonnegative("seed", seed, integer=True)
    settings["out"] = out or f"runs/bench/duel{'-tune' * tune}"
    bench = Bench("duel", settings)
    fought_over = _networks(families, networks)
    known = chosen("methods", methods, METHODS, always=OURS)
    bench.check_folder()
    if quick:
        fought_over, seeds = {"nets": ["A"]}, 2
        known = {name: known[name] for name in (OURS, "pgd") if name in known}
    shrunk, numbers = 0.01 if quick else 1.0, range(seed, seed + seeds)
    cells, tables = list[Cell](), list[Table]()
    with pinned(threads):
        for family, names in fought_over.items():
            for name in names:
                cases = [FAMILIES[family][1](family, name, number, tune).shrunk(shrunk) for number in numbers]
                new = list(_tried(cases, known) if tune else _cells(cases, known))
                tables.append(_tuning_table(new) if tune else _table(new))
                cells += new
    rows = [row for cell in cells for row in _rows(cell)]
    return bench.write(Report("The duel", NOTE, tables, rows, partial(_draw, cells)))


def _networks(families: str, networks: str) -> dict[str, list[str]]:
    known = chosen("families", families, FAMILIES)
    every = {name: name for names, _ in known.values() for name in names}
    wanted = chosen("networks", networks, every)
    return {family: [name for name in names if name in wanted] for family, (names, _) in known.items()}


def _fit(methods: Mapping[str, Trials], family: str) -> dict[str, Trials]:
    squares = family in ("single", "restarts", "real")
    return {name: trials for name, trials in methods.items() if squares or name not in SQUARES}


def _cells(cases: Sequence[Case], methods: Mapping[str, Trials]) -> Iterable[Cell]:
    case = cases[0]
    for name in _fit(methods, case.family):
        yield Cell(case.family, case.name, name, [fight(each, chosen_trial(name, each)) for each in cases])


def _tried(cases: Sequence[Case], methods: Mapping[str, Trials]) -> Iterable[Cell]:
    case = cases[0]
    for name, trials in _fit(methods, case.family).items():
        for at in range(len(trials(case)) if name != CONTROL else 0):  # it has ours
            yield Cell(case.family, case.name, f"{name} {at}", [fight(each, trials(each)[at]) for each in cases])


def _summary(cell: Cell, budget: str) -> str:
    found = mean_of(cell.scores(budget))
    match cell.family:
        case "single":
            return f"{100 * found.mean:.0f} %"
        case "restarts":
            return f"{math.exp(found.mean):.3g}"
        case _:
            return f"{found.mean:.4g}"


def against(cell: Cell, base: Cell, budget: str) -> Mean:
    """The method's scores less those of ``base``, by pairs; of ``restarts`` the ratio, of real images relative."""
    pairs = list(zip(cell.scores(budget), base.scores(budget), strict=True))
    if cell.family == "real":
        whole = sum(theirs for _, theirs in pairs) / len(pairs)
        return mean_of([(mine - theirs) / whole for mine, theirs in pairs])
    found = mean_of([mine - theirs for mine, theirs in pairs])
    if cell.family == "restarts":
        mean, low, high = (math.exp(min(x, 700)) for x in found[:3])
        return Mean(mean, low, high, found.error)
    return found


def _table(cells: Sequence[Cell]) -> Table:
    (base,) = (cell for cell in cells if cell.method == OURS)
    case = base.fought[0].case
    columns = ["method"]
    for budget, most in zip(BUDGETS, (f"{case.seconds:g} CPU s", f"{case.passes} passes"), strict=True):
        columns += [f"{budget} to all" if case.family == "restarts" else f"at {most}", "against [95 %]"]

    def row(cell: Cell) -> list[str]:
        line = [f"**{cell.method}**" if cell is base else cell.method]
        for budget in BUDGETS:
            versus = against(cell, base, budget)
            shown = f"{versus.mean:.3g} [{versus.low:.3g}, {versus.high:.3g}]"
            line += [_summary(cell, budget), "" if cell is base else shown]
        return line

    note = f"{len(base.fought)} seeds, {case.problem.batch} problems each."
    return Table(f"{case.family}: {case.name}", note, columns, [row(cell) for cell in cells])


def _tuning_table(cells: Sequence[Cell]) -> Table:
    less = cells[0].family in ("restarts", "real")
    best: dict[str, tuple[float, str]] = {}
    for cell in cells:
        name, score = cell.method.rsplit(" ", 1)[0], mean_of(cell.scores(BUDGETS[0])).mean
        best[name] = min(best.get(name, (math.inf, "")), (score if less else -score, cell.method))
    chosen_ones = {label for _, label in best.values()}
    rows = [
        [f"**{c.method}**" if c.method in chosen_ones else c.method, *(_summary(c, budget) for budget in BUDGETS)]
        for c in cells
    ]
    return Table(f"{cells[0].family}: {cells[0].network}", "", ["method, setting", *BUDGETS], rows)


def _rows(cell: Cell) -> list[Row]:
    return [
        {
            "family": cell.family,
            "network": cell.network,
            "method": cell.method,
            "seed": fought.case.seed,
            "problem": at if len(scores[0]) > 1 else "",
            "by_seconds": scores[0][at],
            "by_passes": scores[1][at],
            "seconds": fought.case.seconds,
            "passes": fought.case.passes,
            "optimizer": repr(fought.optimizer),
        }
        for fought in cell.fought
        for scores in [[_scores(cell.family, fought, budget) for budget in BUDGETS]]
        for at in range(len(scores[0]))
    ]


def _draw(cells: Sequence[Cell], figure: Figure) -> None:
    titles = list(dict.fromkeys((cell.family, cell.network) for cell in cells))
    figure.set_size_inches(11, 3.2 * -(-len(titles) // 2))
    for axes, title in zip(figure.subplots(-(-len(titles) // 2), 2, squeeze=False).flat, titles, strict=False):
        mine = [cell for cell in cells if (cell.family, cell.network) == title]
        own = title[0] in ("single", "restarts")
        axes.set(title=": ".join(title), xlabel="CPU s", ylabel="recovered" if own else "mean objective")
        for cell in mine:
            case = cell.fought[0].case
            grid = torch.linspace(case.seconds / 50, case.seconds, 50).tolist()
            at = [torch.cat([fought.at(seconds=t) for fought in cell.fought]) for t in grid]
            axes.plot(grid, [float(((v < RECOVERED).float() if own else v).mean()) for v in at], label=cell.method)
        axes.legend(fontsize=5)
