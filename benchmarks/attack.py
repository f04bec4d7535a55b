"""`latentopt bench attack`: every attack on pretrained classifiers, at equal gradient evaluations; ADR-GD's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Literal, get_args

from benchmarks.attack_cells import NOTE, Cell, draw, rows_of
from benchmarks.attack_methods import CONTROL, METHODS
from benchmarks.attack_parts import PARTS, Plan, Runs
from benchmarks.attack_tuning import tuning
from benchmarks.attacked import BARE, NETWORKS, Case, cases_of
from benchmarks.choices import chosen, numbers
from benchmarks.references import REFERENCES
from benchmarks.report import Bench
from benchmarks.timing import threads as pinned
from latentopt.errors import InputError, nonnegative, positive
from latentopt.reports import Report, Table, Written

Part = Literal["table", "curve", "ablation", "references", "all"]
IMAGES, FRESH = 100, 200
"""Images by default; those from `FRESH` on are for tuning."""
FEW = 20
"""Images by default where they are large."""


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
    threads: int = 1,
    out: str | None = None,
    overwrite: bool = False,
    quick: bool = False,
) -> Written:
    """Attack pretrained classifiers with every method: same images, same set, same start, success against cost.

    Args:
        networks: all, or some of mnist-pgd, mnist-clean, cnn-a-adv, resnet2b, cifar-base, marabou-large, resnet20,
            squeezenet (from LATENTOPT_DATA), vgg19, wide-resnet (random weights), between commas.
        eps: radii between commas, for pixels in [0, 1], such as .1 or 8/255; default each network's own.
        images: the first so many test images; default 100, 20 of ImageNet.
        evaluations: gradient evaluations of an image in the curve, between commas.
        budget: gradient evaluations of an image in the other parts.
        methods: all, or some, between commas; the control, pgd, is always among them.
        part: table, curve, ablation, references or all.
        tune: instead of the benchmark, find each method's size, on images from the 201st on.
        seed: of random starts and of the methods' own noise.
        threads: that torch computes with.
        out: folder for the results; default runs/bench/attack.
        overwrite: replace the results of an earlier run there.
        quick: one network, 8 images and few evaluations, to see that it works; without LATENTOPT_DATA, random weights
            and images.
    """
    settings = dict(locals())
    if part not in get_args(Part):
        raise InputError("part", f"one of {', '.join(get_args(Part))}", repr(part))
    settings["out"] = out or f"runs/bench/attack{'-tune' * tune}"
    bench = Bench("attack", settings)
    radii = None if eps is None else numbers("eps", eps, lambda word: float(Fraction(word)))
    for name, value in (("budget", budget), ("threads", threads), ("images", IMAGES if images is None else images)):
        positive(name, value, integer=True)
    nonnegative("seed", seed, integer=True)
    plan = Plan(
        chosen("methods", methods, METHODS, always=CONTROL),
        REFERENCES,
        numbers("evaluations", evaluations, int),
        budget,
    )
    sources = chosen("networks", networks, NETWORKS)
    bench.check_folder()
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
    with pinned(threads):
        return bench.write(tuning(cases, plan.methods, plan.budget) if tune else benchmark(cases, plan, part))


def _count(data: str, images: int | None) -> int:
    return images or (FEW if data == "imagenet" else IMAGES)


def _quick_case(seed: int) -> Case:
    """Where there are no data, random weights and images."""
    try:
        (case,) = cases_of("mnist-clean", NETWORKS["mnist-clean"], (0.1,), range(8), seed)
    except InputError:
        (case,) = cases_of("random weights and images", BARE, None, range(8), seed)
    return case


def benchmark(cases: Sequence[Case], plan: Plan, part: Part) -> Report:
    """All parts asked for, case by case."""
    tables, cells = list[Table](), list[Cell]()
    for case in cases:
        runs = Runs(case)
        for name, make in PARTS.items():
            if part in (name, "all"):
                for made, its_cells in make(runs, plan):
                    tables.append(made)
                    cells += its_cells
    return Report("Attacks", NOTE, tables, rows_of(cells), partial(draw, cells))
