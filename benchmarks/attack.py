"""Attacks on pretrained classifiers at equal gradient evaluations, and ablations of ADR-GD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Literal

from benchmarks.attack_methods import CONTROL, METHODS, AttackMethod, ablations, tuned
from benchmarks.attack_references import REFERENCES, ReferenceAttack, versions
from benchmarks.attack_runs import BARE, NETWORKS, AttackCase, AttackOutcome, cases_of, run_attack
from benchmarks.attack_tables import NOTE, AttackResults, curve, draw, heading, rows_of, table
from benchmarks.study import chosen, numbers, study
from benchmarks.tuning import tuning_report
from latentopt.errors import InputError
from latentopt.reports import Report, Table

Part = Literal["table", "curve", "ablation", "references", "all"]
IMAGES, FRESH = 100, 200
"""Default number of images; images from `FRESH` on are for tuning."""
FEW = 20
"""Default number of large images."""


@study
def attack(
    networks: str = "all",
    eps: str | None = None,
    images: int | None = None,
    evaluations: str = "40,100,300,1000",
    budget: int = 100,
    methods: str = "all",
    part: Part = "all",
    tune: bool = False,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Attack pretrained classifiers with every method: same images, same set, same start, success against cost.

    Args:
        networks: all, or some of mnist-pgd, mnist-clean, cnn-a-adv, resnet2b, cifar-base, marabou-large, resnet20,
            squeezenet (from LATENTOPT_DATA), vgg19, wide-resnet (random weights), between commas.
        eps: radii between commas, for pixels in [0, 1], such as .1 or 8/255; default: each network's own.
        images: number of test images, from the first on; default 100, 20 for ImageNet.
        evaluations: gradient evaluations per image in the curve, between commas.
        budget: gradient evaluations per image in the other parts.
        methods: all, or some, between commas; the control, pgd, is always among them.
        part: table, curve, ablation, references or all.
        tune: tune each method's size on images from the 201st on, instead of the benchmark.
        seed: seed of random starts and of the methods' own noise.
        quick: one network, 8 images and few evaluations, as a smoke test; without LATENTOPT_DATA, random weights and
            images.
    """
    radii = None if eps is None else numbers("eps", eps, lambda word: float(Fraction(word)))
    budgets = numbers("evaluations", evaluations, int)
    plan = AttackStudyPlan(chosen("methods", methods, METHODS, always=CONTROL), REFERENCES, budgets, budget)
    sources = chosen("networks", networks, NETWORKS)
    if quick:
        plan = replace(plan, budgets=(4, 8), budget=8, references={n: r for n, r in REFERENCES.items() if not r.long})
        cases = [_quick_case(seed)]
    else:
        first = FRESH * tune
        cases = [
            case
            for name, source in sources.items()
            for case in cases_of(name, source, radii, range(first, first + _count(source.images, images)), seed)
        ]
    return tuning(cases, plan) if tune else benchmark(cases, plan, part)


def tuning(cases: Sequence[AttackCase], plan: AttackStudyPlan) -> Report:
    """Score every size of every method over all networks and radii of a data set: success, then the mean margin."""

    def score(data: str, name: str, size: float) -> tuple[float, float]:
        own = [case for case in cases if case.data == data]
        outcomes = [run_attack(case, plan.methods[name].at(case, size), plan.budget) for case in own]
        rates = [outcome.success.float().mean().item() for outcome in outcomes]
        margins = [outcome.margin.mean().item() for outcome in outcomes]
        return sum(rates) / len(rates), sum(margins) / len(margins)

    sizes = {name: method.sizes for name, method in plan.methods.items() if method.sizes}
    title = f"Sizes for attacks, {plan.budget} gradient evaluations: {', '.join(heading(case) for case in cases)}"
    return tuning_report(title, {case.data: sizes for case in cases}, score, ("success", "margin"))


def _count(data: str, images: int | None) -> int:
    return images or (FEW if data == "imagenet" else IMAGES)


def _quick_case(seed: int) -> AttackCase:
    """Return a case with random weights and images, for use without data."""
    try:
        (case,) = cases_of("mnist-clean", NETWORKS["mnist-clean"], (0.1,), range(8), seed)
    except InputError:
        (case,) = cases_of("random weights and images", BARE, None, range(8), seed)
    return case


def benchmark(cases: Sequence[AttackCase], plan: AttackStudyPlan, part: Part) -> Report:
    """Run all requested parts, case by case."""
    tables, cells = list[Table](), list[AttackResults]()
    for case in cases:
        runs = AttackRuns(case)
        for name, make in PARTS.items():
            if part in (name, "all"):
                for report_part, its_cells in make(runs, plan):
                    tables.append(report_part)
                    cells += its_cells
    return Report("Attacks", NOTE, tables, rows_of(cells), partial(draw, cells))


LARGE = 10_000
"""Images with more pixels are too large for the parts that take seconds on small images."""
UNBOXED = " (the paper's setting: pixels may leave [0, 1])"


@dataclass(frozen=True)
class AttackStudyPlan:
    """Parts, methods and budgets of a run."""

    methods: Mapping[str, AttackMethod]
    references: Mapping[str, ReferenceAttack]
    budgets: Sequence[int]  # gradient evaluations of an image in the curve
    budget: int  # in the other parts


class AttackRuns:
    """Runs of methods on one case, each cached."""

    def __init__(self, case: AttackCase) -> None:
        self.case, self.done = case, dict[tuple[str, int], AttackOutcome]()
        self.note = f"{len(case.x)} images, of which {int(case.errors.sum())} are misclassified without an attack."
        run_attack(case, METHODS["adr-gd-soft"].at(case), 1)  # first calls are slower

    def cell(self, part: str, name: str, method: AttackMethod, evaluations: int) -> AttackResults:
        evaluations = method.evaluations or evaluations
        if (name, evaluations) not in self.done:
            attack = method.at(self.case, tuned(self.case, name))
            self.done[name, evaluations] = run_attack(self.case, attack, evaluations)
        return AttackResults(part, part, name, self.case, evaluations, self.done[name, evaluations])


TablesWithResults = Iterator[tuple[Table, list[AttackResults]]]


def at_equal_cost(runs: AttackRuns, plan: AttackStudyPlan) -> TablesWithResults:
    """Compare all methods at the same gradient evaluations."""
    cells = [runs.cell("table", name, method, plan.budget) for name, method in plan.methods.items()]
    yield table(f"{heading(runs.case)}: {plan.budget} gradient evaluations", runs.note, cells, CONTROL), cells


def by_cost(runs: AttackRuns, plan: AttackStudyPlan) -> TablesWithResults:
    """Run every method with several budgets, each a separate run."""
    cells = [
        runs.cell("curve", name, method, evaluations)
        for name, method in plan.methods.items()
        for evaluations in (plan.budgets if method.evaluations is None else [method.evaluations])
    ]
    title = f"{heading(runs.case)}: success (CPU seconds of all images) by gradient evaluations"
    yield curve(title, runs.note, cells), cells


def others(runs: AttackRuns, plan: AttackStudyPlan) -> TablesWithResults:
    """Compare other packages with our methods at the same settings."""
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


def without_parts(runs: AttackRuns, plan: AttackStudyPlan) -> TablesWithResults:
    """Ablate each form of ADR-GD, with and without the range of pixels."""
    for case, setting in ((runs.case, ""), (runs.case.unboxed(), UNBOXED)):
        for form, variants in ablations(case).items():
            group = form + setting
            cells = [
                AttackResults("ablation", group, name, case, plan.budget, run_attack(case, attack, plan.budget))
                for name, attack in variants.items()
            ]
            title = f"{heading(case)}: {group}, {plan.budget} gradient evaluations"
            yield table(title, runs.note, cells, "whole"), cells


PARTS: dict[str, Callable[[AttackRuns, AttackStudyPlan], TablesWithResults]] = {
    "table": at_equal_cost,
    "curve": by_cost,
    "references": others,
    "ablation": without_parts,
}
