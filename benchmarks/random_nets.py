"""`latentopt bench random-nets`: every method on the random networks of arXiv 2406.00494, and ADR-GD's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal, get_args

from benchmarks import plots
from benchmarks.cells import NOTE, Cell, groups, rows_of, table
from benchmarks.choices import chosen
from benchmarks.methods import CONTROL, Method
from benchmarks.methods import methods as known_methods
from benchmarks.parts import NOTES, Plan, ablation_cells, alpha_cells, table_cells
from benchmarks.report import Bench
from benchmarks.runs import Nets
from benchmarks.timing import threads as pinned
from benchmarks.tuning import tuning
from latentopt.errors import InputError, nonnegative, positive
from latentopt.reports import Report, Written
from latentopt.zoo.random_nets import WIDTHS

Model = Literal["A", "B", "C", "D", "E"]
Part = Literal["table", "ablation", "alpha", "all"]
SEEDS: dict[str, int] = {"A": 20, "B": 10, "C": 8, "D": 8, "E": 8}
FRESH = 1000
"""Networks from this seed on are for tuning."""


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
    threads: int = 1,
    out: str | None = None,
    overwrite: bool = False,
    quick: bool = False,
) -> Written:
    """Maximise the output of random networks over [-1, 1]^n with every method.

    Args:
        model: A, B or C of the paper; D or E, deeper and wider.
        seeds: number of networks; default 20 of A, 10 of B, 8 of the others.
        first_seed: of the networks; default 0, with --tune 1000.
        steps: of a single start; equal cost means the passes that the control needs for them.
        starts: of a method that starts more than once.
        methods: all, or some, between commas; the control, pgd, is always among them.
        part: table, ablation, alpha or all.
        tune: instead of the benchmark, find each method's size, on networks that the benchmark does not use.
        seed: of random starts and of the methods' own noise.
        threads: that torch computes with.
        out: folder for the results; default runs/bench/random-nets-MODEL.
        overwrite: replace the results of an earlier run there.
        quick: two networks and few steps, to see that it works.
    """
    settings = dict(locals())
    for name, value, choices in (("model", model, Model), ("part", part, Part)):
        if value not in get_args(choices):
            raise InputError(name, f"one of {', '.join(get_args(choices))}", repr(value))
    seeds = seeds if seeds is not None else SEEDS[model]
    first_seed = first_seed if first_seed is not None else FRESH * tune
    out = out or f"runs/bench/random-nets-{model}{'-tune' * tune}"
    if quick:
        seeds, steps, starts = 2, 12, 4
    resolved = {"seeds": seeds, "first_seed": first_seed, "steps": steps, "starts": starts, "out": out}
    bench = Bench("random-nets", settings | resolved)
    for name, value in (("seeds", seeds), ("steps", steps), ("starts", starts), ("threads", threads)):
        positive(name, value, integer=True)
    for name, value in (("seed", seed), ("first_seed", first_seed)):
        nonnegative(name, value, integer=True)
    if tune and first_seed < FRESH:
        raise InputError("first_seed", f"one from {FRESH} on, for tuning", first_seed)
    todo = chosen("methods", methods, known_methods(model), always=CONTROL)
    bench.check_folder()
    plan = Plan(model, Nets(WIDTHS[model], tuple(range(first_seed, first_seed + seeds))), steps, starts, seed)
    if quick:
        plan = plan.shortened()
    with pinned(threads):
        return bench.write(tuning(plan, todo) if tune else benchmark(plan, todo, part))


def benchmark(plan: Plan, methods: Mapping[str, Method], part: Part) -> Report:
    """All parts asked for, with the best known value of each network over all that ran."""
    parts: dict[str, Callable[[], Iterable[Cell]]] = {
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
