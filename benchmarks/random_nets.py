"""Random networks (arXiv 2406.00494) maximised by every method, and ablations of ADR-GD."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from benchmarks import random_net_tables as plots
from benchmarks.random_net_methods import CONTROL, PAPERS_ALPHA, STARTS, SizedMethod, ablations, alphas, tuned
from benchmarks.random_net_methods import methods as known_methods
from benchmarks.random_net_runs import NetworkSet, rate, run, steps_within
from benchmarks.random_net_tables import NOTE, NetsResults, groups, rows_of, table
from benchmarks.study import chosen, study
from benchmarks.tuning import tuning_report
from latentopt.errors import InputError
from latentopt.optimizers import Optimizer, RowNorms
from latentopt.reports import Report
from latentopt.zoo.random_nets import WIDTHS

Model = Literal["A", "B", "C", "D", "E"]
Part = Literal["table", "ablation", "alpha", "all"]
SEEDS: dict[str, int] = {"A": 20, "B": 10, "C": 8, "D": 8, "E": 8}
FRESH = 1000
"""First seed of the networks for tuning."""


@study
def random_nets(
    model: Model = "A",
    seeds: int | None = None,
    first_seed: int | None = None,
    steps: int = 3000,
    starts: int = 32,
    methods: str = "all",
    part: Part = "all",
    tune: bool = False,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Maximise the output of random networks over [-1, 1]^n with every method.

    Args:
        model: A, B or C of the paper; D or E, which are deeper and wider.
        seeds: number of networks; default 20 for A, 10 for B, 8 for the others.
        first_seed: seed of the first network; default 0, with --tune 1000.
        steps: steps of a single start; equal cost means the passes that the control needs for them.
        starts: number of starts for methods with restarts.
        methods: all, or some, between commas; the control, pgd, is always among them.
        part: table, ablation, alpha or all.
        tune: tune each method's size on networks that the benchmark does not use, instead of the benchmark.
        seed: seed of random starts and of the methods' own noise.
        quick: two networks and few steps, as a smoke test.
    """
    if quick:
        seeds, steps, starts = 2, 12, 4
    seeds = seeds if seeds is not None else SEEDS[model]
    first_seed = first_seed if first_seed is not None else FRESH * tune
    if tune and first_seed < FRESH:
        raise InputError("first_seed", f"one from {FRESH} on, for tuning", first_seed)
    todo = chosen("methods", methods, known_methods(model), always=CONTROL)
    plan = NetsPlan(model, NetworkSet(WIDTHS[model], tuple(range(first_seed, first_seed + seeds))), steps, starts, seed)
    if quick:
        plan = plan.shortened()
    return tuning(plan, todo) if tune else benchmark(plan, todo, part)


def tuning(plan: NetsPlan, methods: Mapping[str, SizedMethod]) -> Report:
    """Score every size of every method, from one start and from several, at equal counted cost."""

    def score(group: str, name: str, size: float) -> tuple[float]:
        restarts, optimizer = plan.starts if group == STARTS[True] else 1, methods[name].build(size)
        cost = rate(plan.nets, methods[name].build(methods[name].sizes[0]), restarts, plan.probe)
        ran = run(plan.nets, optimizer, steps_within(plan.passes / restarts, cost.passes), restarts, plan.seed)
        return (sum(ran.values) / len(ran.values),)

    grids = {group: {name: method.sizes for name, method in methods.items() if method.sizes} for group in STARTS}
    title = f"Sizes for random networks {plan.model}, seeds {plan.nets.seeds[0]} to {plan.nets.seeds[-1]}"
    return tuning_report(title, grids, score, ("mean value",))


def benchmark(plan: NetsPlan, methods: Mapping[str, SizedMethod], part: Part) -> Report:
    """Run all requested parts; the best known value of a network is the best over all of them."""
    parts: dict[str, Callable[[], Iterable[NetsResults]]] = {
        "table": partial(table_cells, plan, methods),
        "ablation": partial(ablation_cells, plan),
        "alpha": partial(alpha_cells, plan),
    }
    cells = [cell for name, run in parts.items() if part in (name, "all") for cell in run()]
    best = [max(values) for values in zip(*(cell.ran.values for cell in cells), strict=True)]
    tables = [
        table(f"{name}: {group}", NOTES[name, group], members, best)
        for name in parts
        for group, members in groups(cells, name).items()
    ]
    widths, mean = "-".join(map(str, plan.nets.widths)), sum(best) / len(best)
    title = f"Random networks {plan.model} ({widths}): {len(best)} seeds, best known {mean:.6g} in the mean"
    return Report(title, NOTE, tables, rows_of(cells, plan.nets.seeds, best), partial(plots.random_nets, cells))


PRINTED, PASSES, SECONDS = "one start", "equal passes", "equal CPU time"
NOTES: dict[tuple[str, str], str] = defaultdict(
    lambda: "One start at 0.",
    {
        ("table", PRINTED): "As in the paper: one start at 0, as many steps for all, whatever they cost.",
        ("table", PASSES): "As many forwards and backwards for all, in one long run from 0 and in shorter ones.",
        ("table", SECONDS): "The CPU time of the control for all, in one long run from 0 and in shorter ones.",
    },
)


@dataclass(frozen=True)
class NetsPlan:
    """Methods and budgets of a run."""

    model: str
    nets: NetworkSet
    steps: int  # of a single start
    starts: int  # where there are several
    seed: int
    control_steps: int = 200  # of each of the control's starts; its time is the budget of CPU time
    probe: int = RowNorms().refresh  # steps of the shorter run that finds what a step costs: norms are paid for once

    def shortened(self) -> NetsPlan:
        """The plan of a smoke test."""
        return replace(self, control_steps=6, probe=1)

    @property
    def passes(self) -> int:
        """Forwards and backwards per network that a gradient method needs for its single start."""
        return 2 * self.steps

    def cell(self, part: str, group: str, name: str, optimizer: Optimizer, steps: int, restarts: int) -> NetsResults:
        """Run it."""
        ran = run(self.nets, optimizer, steps, restarts, self.seed)
        return NetsResults(part, group, name, optimizer, restarts, steps, ran)


def table_cells(plan: NetsPlan, methods: Mapping[str, SizedMethod]) -> Iterator[NetsResults]:
    """Run every method as in the paper, at equal counted cost, and in equal CPU time."""
    control = methods[CONTROL].at(None)
    leader = plan.cell("table", SECONDS, CONTROL, control, plan.control_steps, plan.starts)
    for name, method in methods.items():
        for restarts in (1, plan.starts):
            optimizer, leads = method.at(tuned(plan.model, restarts > 1, name)), name == CONTROL and restarts > 1
            cost = rate(plan.nets, optimizer, restarts, plan.probe)
            steps = steps_within(plan.passes / restarts, cost.passes)
            equal = plan.cell("table", PASSES, name, optimizer, steps, restarts)
            if restarts == 1:
                same = steps == plan.steps
                printed = equal if same else plan.cell("table", PRINTED, name, optimizer, plan.steps, 1)
                yield replace(printed, group=PRINTED, control=name == CONTROL)
            yield replace(equal, control=leads)
            steps = steps_within(leader.ran.seconds, cost.seconds)
            yield (
                replace(leader, control=True)
                if leads
                else plan.cell("table", SECONDS, name, optimizer, steps, restarts)
            )


def ablation_cells(plan: NetsPlan) -> Iterator[NetsResults]:
    """Ablate each form of ADR-GD."""
    for form, variants in ablations(plan.model).items():
        for index, (name, optimizer) in enumerate(variants.items()):
            cell = plan.cell("ablation", form, name, optimizer, plan.steps, 1)
            yield replace(cell, control=index == 0)


def alpha_cells(plan: NetsPlan) -> Iterator[NetsResults]:
    """Run each form of ADR-GD with different slopes of its gates."""
    for form, variants in alphas(plan.model).items():
        for alpha, optimizer in variants.items():
            cell = plan.cell("alpha", form, f"{alpha:g}", optimizer, plan.steps, 1)
            yield replace(cell, control=alpha == PAPERS_ALPHA)
