"""ADR-GD's default against every simple method, at equal CPU time and at equal counted cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.head_to_head_problems import FAMILIES, BudgetedProblem
from benchmarks.head_to_head_trials import (
    CONTROL,
    METHODS,
    OURS,
    SQUARES,
    MethodTrace,
    TrialGrid,
    chosen_trial,
    run_trial,
)
from benchmarks.inversion_methods import RECOVERED
from benchmarks.study import chosen, study
from benchmarks.tuning import tuning_report
from latentopt.reports import Report, Row, Table
from latentopt.statistics import MeanInterval, student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NOTE = (
    "Every method has the same CPU time (for all problems of a case together) or the same forwards and backwards, the "
    "same starts in the first round, and the best of eight settings on tuning seeds. Single: share of the generator's "
    "own images recovered (error below 1e-4) from one random start each. Restarts: time until all 16 images of a seed "
    "are recovered; a method that does not recover all counts with its full budget, and means are geometric. Attacks: "
    "the margin of the best wrong class below the label, 0 if the image is broken. Against: the paired difference from "
    "the method in bold, with its 95 % interval (restarts: the ratio; real images: relative to that method's error)."
)
BUDGETS = ("CPU s", "passes")


@dataclass(frozen=True, eq=False)
class TraceGroup:
    """Outcome of a method on all seeds of a network in a family."""

    family: str
    network: str
    method: str
    traces: Sequence[MethodTrace]

    def scores(self, budget: str) -> list[float]:
        """Score per seed or problem; higher is better, except for restarts (log time) and real images."""
        return [score for trace in self.traces for score in _scores(self.family, trace, budget)]


def _scores(family: str, trace: MethodTrace, budget: str) -> list[float]:
    case, timed = trace.case, budget == BUDGETS[0]
    limit = case.seconds if timed else float(case.passes)
    if family == "restarts":
        return [math.log(trace.recovered_at(trace.times if timed else trace.passes, limit))]
    values = trace.at(seconds=limit) if timed else trace.at(passes=limit)
    if family == "single":
        return [(values < RECOVERED).float().mean().item()]
    if family == "attacks":
        return (-values).clamp(max=0.0).tolist()  # what is broken is left, wherever its last step took it
    return (values if family == "real" else -values).tolist()


@study
def head_to_head(
    families: str = "single,restarts",
    networks: str = "all",
    methods: str = "all",
    seeds: int = 8,
    seed: int = 0,
    tune: bool = False,
    quick: bool = False,
) -> Report:
    """Compare every simple method with ADR-GD's default, at equal CPU time and at equal counted cost.

    Args:
        families: all, or some of nets (random networks), attacks, single (latents of a generator's own images, single
            starts), restarts (the same until all are recovered), real (latents of real images) and critics, between
            commas.
        networks: all networks of a family, or some, between commas.
        methods: all, or some, between commas; adr-gd is always among them.
        seeds: number of cases per network.
        seed: the first seed.
        tune: tune the settings of each method on other seeds, images and states, instead of the study.
        quick: one network, few methods, a hundredth of the budgets, as a smoke test.
    """
    networks_by_family = _networks(families, networks)
    known = chosen("methods", methods, METHODS, always=OURS)
    if quick:
        networks_by_family, seeds = {"nets": ["A"]}, 2
        known = {name: known[name] for name in (OURS, "pgd") if name in known}
    shrunk = 0.01 if quick else 1.0
    groups = {
        (family, name): [
            FAMILIES[family][1](family, name, number, tune).shrunk(shrunk) for number in range(seed, seed + seeds)
        ]
        for family, names in networks_by_family.items()
        for name in names
    }
    if tune:
        return tuning(groups, known)
    results = [list(_results(cases, known)) for cases in groups.values()]
    cells = [cell for group in results for cell in group]
    rows = [row for cell in cells for row in _rows(cell)]
    return Report("ADR-GD head to head", NOTE, [_table(group) for group in results], rows, partial(_draw, cells))


def tuning(groups: Mapping[tuple[str, str], Sequence[BudgetedProblem]], methods: Mapping[str, TrialGrid]) -> Report:
    """Tune: try the eight settings of every method on other seeds, images and states, by CPU time."""
    cases = {f"{family}: {name}": own for (family, name), own in groups.items()}

    def score(group: str, method: str, setting: int) -> tuple[float]:
        own = cases[group]
        traces = [run_trial(case, methods[method](case)[setting]) for case in own]
        mean = student(TraceGroup(own[0].family, own[0].name, method, traces).scores(BUDGETS[0])).mean
        return (-mean if own[0].family in ("restarts", "real") else mean,)

    grids = {
        group: {
            name: range(len(trials(own[0]))) for name, trials in _fit(methods, own[0].family).items() if name != CONTROL
        }
        for group, own in cases.items()
    }
    return tuning_report("Settings of the methods", grids, score, ("score",))


def _networks(families: str, networks: str) -> dict[str, list[str]]:
    known = chosen("families", families, FAMILIES)
    every = {name: name for names, _ in known.values() for name in names}
    chosen_networks = chosen("networks", networks, every)
    return {family: [name for name in names if name in chosen_networks] for family, (names, _) in known.items()}


def _fit(methods: Mapping[str, TrialGrid], family: str) -> dict[str, TrialGrid]:
    squares = family in ("single", "restarts", "real")
    return {name: trials for name, trials in methods.items() if squares or name not in SQUARES}


def _results(cases: Sequence[BudgetedProblem], methods: Mapping[str, TrialGrid]) -> Iterable[TraceGroup]:
    case = cases[0]
    for name in _fit(methods, case.family):
        yield TraceGroup(
            case.family,
            case.name,
            name,
            [run_trial(case_of_seed, chosen_trial(name, case_of_seed)) for case_of_seed in cases],
        )


def _summary(cell: TraceGroup, budget: str) -> str:
    interval = student(cell.scores(budget))
    match cell.family:
        case "single":
            return f"{100 * interval.mean:.0f} %"
        case "restarts":
            return f"{math.exp(interval.mean):.3g}"
        case _:
            return f"{interval.mean:.4g}"


def against(cell: TraceGroup, base: TraceGroup, budget: str) -> MeanInterval:
    """Return paired differences of scores to ``base``; for ``restarts`` the ratio, for real images relative."""
    pairs = list(zip(cell.scores(budget), base.scores(budget), strict=True))
    if cell.family == "real":
        whole = sum(theirs for _, theirs in pairs) / len(pairs)
        return student([(mine - theirs) / whole for mine, theirs in pairs])
    interval = student([mine - theirs for mine, theirs in pairs])
    if cell.family == "restarts":
        mean, low, high = (math.exp(min(x, 700)) for x in interval[:3])
        return MeanInterval(mean, low, high, interval.error)
    return interval


def _table(cells: Sequence[TraceGroup]) -> Table:
    (base,) = (cell for cell in cells if cell.method == OURS)
    case = base.traces[0].case
    columns = ["method"]
    for budget, limit in zip(BUDGETS, (f"{case.seconds:g} CPU s", f"{case.passes} passes"), strict=True):
        columns += [f"{budget} to all" if case.family == "restarts" else f"at {limit}", "against [95 %]"]

    def row(cell: TraceGroup) -> list[str]:
        line = [f"**{cell.method}**" if cell is base else cell.method]
        for budget in BUDGETS:
            versus = against(cell, base, budget)
            difference = f"{versus.mean:.3g} [{versus.low:.3g}, {versus.high:.3g}]"
            line += [_summary(cell, budget), "" if cell is base else difference]
        return line

    note = f"{len(base.traces)} seeds, {case.problem.batch} problems each."
    return Table(f"{case.family}: {case.name}", note, columns, [row(cell) for cell in cells])


def _rows(cell: TraceGroup) -> list[Row]:
    return [
        {
            "family": cell.family,
            "network": cell.network,
            "method": cell.method,
            "seed": trace.case.seed,
            "problem": index if len(scores[0]) > 1 else "",
            "by_seconds": scores[0][index],
            "by_passes": scores[1][index],
            "seconds": trace.case.seconds,
            "passes": trace.case.passes,
            "optimizer": repr(trace.optimizer),
        }
        for trace in cell.traces
        for scores in [[_scores(cell.family, trace, budget) for budget in BUDGETS]]
        for index in range(len(scores[0]))
    ]


def _draw(cells: Sequence[TraceGroup], figure: Figure) -> None:
    titles = list(dict.fromkeys((cell.family, cell.network) for cell in cells))
    figure.set_size_inches(11, 3.2 * -(-len(titles) // 2))
    for axes, title in zip(figure.subplots(-(-len(titles) // 2), 2, squeeze=False).flat, titles, strict=False):
        mine = [cell for cell in cells if (cell.family, cell.network) == title]
        own = title[0] in ("single", "restarts")
        axes.set(title=": ".join(title), xlabel="CPU s", ylabel="recovered" if own else "mean objective")
        for cell in mine:
            case = cell.traces[0].case
            grid = torch.linspace(case.seconds / 50, case.seconds, 50).tolist()
            values = [torch.cat([trace.at(seconds=t) for trace in cell.traces]) for t in grid]
            axes.plot(grid, [float(((v < RECOVERED).float() if own else v).mean()) for v in values], label=cell.method)
        axes.legend(fontsize=5)
