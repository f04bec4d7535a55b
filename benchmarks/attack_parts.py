"""The parts of the benchmark of attacks: methods at equal cost, by cost, other packages, and ADR-GD's own parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.attack_cells import Cell, curve, heading, table
from benchmarks.attack_methods import CONTROL, METHODS, Method, ablations, tuned
from benchmarks.attacked import Case, Judged, attacked
from benchmarks.references import Reference, versions
from latentopt.reports import Table

LARGE = 10_000
"""Images of more pixels are too many for what takes seconds on small ones."""
UNBOXED = " (the paper's setting: pixels may leave [0, 1])"


@dataclass(frozen=True)
class Plan:
    """What is run, and how much of it."""

    methods: Mapping[str, Method]
    references: Mapping[str, Reference]
    budgets: Sequence[int]  # gradient evaluations of an image in the curve
    budget: int  # in the other parts


class Runs:
    """The runs of methods on one case, each once."""

    def __init__(self, case: Case) -> None:
        self.case, self.done = case, dict[tuple[str, int], Judged]()
        self.note = f"{len(case.x)} images, of which {int(case.errors.sum())} are misclassified without an attack."
        attacked(case, METHODS["adr-gd-soft"].at(case), 1)  # first calls are slower

    def cell(self, part: str, name: str, method: Method, evaluations: int) -> Cell:
        evaluations = method.evaluations or evaluations
        if (name, evaluations) not in self.done:
            attack = method.at(self.case, tuned(self.case, name))
            self.done[name, evaluations] = attacked(self.case, attack, evaluations)
        return Cell(part, part, name, self.case, evaluations, self.done[name, evaluations])


Made = Iterator[tuple[Table, list[Cell]]]


def at_equal_cost(runs: Runs, plan: Plan) -> Made:
    """Every method with the same gradient evaluations."""
    cells = [runs.cell("table", name, method, plan.budget) for name, method in plan.methods.items()]
    yield table(f"{heading(runs.case)}: {plan.budget} gradient evaluations", runs.note, cells, CONTROL), cells


def by_cost(runs: Runs, plan: Plan) -> Made:
    """Every method with several budgets, each run planned for its own."""
    cells = [
        runs.cell("curve", name, method, evaluations)
        for name, method in plan.methods.items()
        for evaluations in (plan.budgets if method.evaluations is None else [method.evaluations])
    ]
    title = f"{heading(runs.case)}: success (CPU seconds of all images) by gradient evaluations"
    yield curve(title, runs.note, cells), cells


def others(runs: Runs, plan: Plan) -> Made:
    """Other packages, and beside them the methods of ours with the same settings."""
    ours = dict.fromkeys(
        [CONTROL, "portfolio", "portfolio-ungated", *(reference.ours for reference in plan.references.values())]
    )
    cells = [runs.cell("references", name, METHODS[name], plan.budget) for name in ours]
    missing = []
    for name, reference in plan.references.items():
        if reference.long and runs.case.x[0].numel() > LARGE:
            missing.append((name, "left out: takes minutes an image"))
            continue
        try:
            cells.append(runs.cell("references", name, reference.method(), plan.budget))
        except ImportError as error:
            missing.append((name, f"skipped: {error}"))
    note = f"{runs.note} {versions()}"
    yield table(f"{heading(runs.case)}: other packages", note, cells, "portfolio", missing), cells


def without_parts(runs: Runs, plan: Plan) -> Made:
    """Each form of ADR-GD without each of its parts, with and without the range of pixels."""
    for case, setting in ((runs.case, ""), (runs.case.unboxed(), UNBOXED)):
        for form, variants in ablations(case).items():
            group = form + setting
            cells = [
                Cell("ablation", group, name, case, plan.budget, attacked(case, attack, plan.budget))
                for name, attack in variants.items()
            ]
            title = f"{heading(case)}: {group}, {plan.budget} gradient evaluations"
            yield table(title, runs.note, cells, "whole"), cells


PARTS: dict[str, Callable[[Runs, Plan], Made]] = {
    "table": at_equal_cost,
    "curve": by_cost,
    "references": others,
    "ablation": without_parts,
}
