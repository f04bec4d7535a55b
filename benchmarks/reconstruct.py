"""Generators inverted by every method in equal CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from benchmarks.generators import GENERATORS, GeneratorSource
from benchmarks.inversion_methods import METHODS, RECOVERED, InversionCase, InversionMethod, InversionOutcome, judge
from benchmarks.inversion_references import REFERENCES
from benchmarks.study import chosen, stored, study
from benchmarks.tuning import tuning_report
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Part = Literal["own", "real", "all"]
IMAGES = 16
TUNING = 1000
"""Offset of the tuning seeds; tuning uses real images of the training set."""
NOTE = (
    "Mean squared error per pixel of the best latent so far, by CPU seconds for all targets together. All work of a "
    "method counts, including the samples that it learns from. Methods with decreasing step sizes plan as many steps "
    "as the time allows (measured beforehand). Recovered: share of the generator's own images with an error below "
    f"{RECOVERED:g}; a method ends when all are recovered. Final errors are computed again with the original generator."
)


@dataclass(frozen=True, eq=False)
class InversionResults:
    """Outcome of a method on the cases (one per seed) of a generator and a kind of targets."""

    name: str
    cases: Sequence[InversionCase]
    judged: Sequence[InversionOutcome]


@study
def reconstruct(
    generators: str = "mnist-vae,mnist-dcgan,mlp-vae,dcgan64,celeba-vae,road-gan",
    methods: str = "all",
    part: Part = "all",
    seconds: float = 20.0,
    images: int = IMAGES,
    seeds: int = 3,
    seed: int = 0,
    tune: bool = False,
    quick: bool = False,
    *,
    folder: Path,
) -> Report:
    """Invert generators by every method in equal CPU time.

    The outcome of each method lies in ``out/outcomes`` and is not computed again: a call that was stopped goes on.

    Args:
        generators: all, or some of mnist-vae, mnist-dcgan (which ship), mlp-vae, dcgan64, celeba-vae, celeba-betab,
            celeba-betah, celeba-btcvae, mnist32-vae, road-gan, face-dcgan (from LATENTOPT_DATA), between commas.
        methods: all, or some, between commas.
        part: own (images that the generator made), real or all.
        seconds: CPU time of a method for all targets together.
        images: number of targets.
        seeds: number of seeds of starts, and of the generator's own images; real images use the first only.
        seed: the first seed.
        tune: tune each method's sizes on other seeds and on training images, instead of the benchmark.
        quick: mnist-vae, its own images, few methods and seconds, as a smoke test.
    """
    sources, known = chosen("generators", generators, GENERATORS), chosen("methods", methods, {**METHODS, **REFERENCES})
    if quick:
        sources, part, seconds, images, seeds = {"mnist-vae": GENERATORS["mnist-vae"]}, "own", 1.0, 4, 1
        known = {name: known[name] for name in ("reconstruct", "adam", "a hand-written Adam loop") if name in known}
    groups = [
        cases
        for name, source in sources.items()
        for kind in (("own", "real") if part == "all" else (part,))
        if (cases := _cases(name, source, kind == "own", images, range(seed, seed + seeds), tune))
    ]
    if tune:
        return tuning({cases[0].title: cases for cases in groups}, known, seconds)
    results, tables = list[InversionResults](), list[Table]()
    for cases in groups:
        new = list(_results(cases, known, seconds, folder / "outcomes"))
        tables.append(_table(new, seconds))
        results += new
    rows = [row for result in results for row in _rows(result, seconds)]
    return Report("Inversion of generators", NOTE, tables, rows, partial(_draw, results, seconds))


def tuning(
    cases: Mapping[str, Sequence[InversionCase]], methods: Mapping[str, InversionMethod], seconds: float
) -> Report:
    """Score every size of every method on other targets, by minus the final mean squared error."""

    def score(title: str, name: str, size: tuple[float, int]) -> tuple[float]:
        outcomes = [judge(case, methods[name].at(case, size), seconds) for case in cases[title]]
        return (-torch.cat([outcome.mse for outcome in outcomes]).mean().item(),)

    sizes = {name: method.sizes for name, method in methods.items() if method.sizes}
    return tuning_report("Sizes for inversion", dict.fromkeys(cases, sizes), score, ("- MSE",))


def _cases(name: str, source: GeneratorSource, own: bool, images: int, seeds: range, tune: bool) -> list[InversionCase]:
    generator, shift = source.build(), TUNING * tune
    if own:
        with torch.no_grad():
            own_images = {s: generator(generator.latents(images, 11 + s + shift)) for s in seeds}
        return [InversionCase(name, generator, own_images[s], True, s + shift) for s in seeds]
    if not source.images:
        return []
    return [InversionCase(name, generator, source.targets(0, images, not tune), False, seeds[0] + shift)]


def _results(
    cases: Sequence[InversionCase], methods: Mapping[str, InversionMethod], seconds: float, folder: Path
) -> Iterator[InversionResults]:
    def outcome(name: str, case: InversionCase) -> InversionOutcome:
        size = methods[name].size(case)
        settings = {"case": case.title, "targets": len(case.targets), "seed": case.seed}
        settings |= {"method": name, "size": size, "seconds": seconds}
        path = folder / f"{case.title}, {len(case.targets)}, seed {case.seed}, {name}.json"
        run = methods[name].at(case, size)
        return InversionOutcome.of_lists(stored(path, settings, lambda: judge(case, run, seconds).listed()))

    for name in methods:
        try:
            yield InversionResults(name, cases, [outcome(name, case) for case in cases])
        except ImportError as error:
            yield InversionResults(f"{name}: {error}", cases, [])


def _table(cells: Sequence[InversionResults], seconds: float) -> Table:
    case = cells[0].cases[0]
    shares = (0.1, 0.25, 0.5, 1.0)
    if case.own:
        columns = ["method", *(f"recovered @ {seconds * share:g} s" for share in shares), "s to all", "MSE in the end"]
    else:
        columns = ["method", *(f"MSE @ {seconds * share:g} s" for share in shares), "MSE in the end", "PSNR", "SSIM"]
    times = [seconds * share for share in shares]
    return Table(case.title, _targets(cells[0]), columns, [_line(cell, times) for cell in cells])


def _targets(cell: InversionResults) -> str:
    case = cell.cases[0]
    many = f", {len(cell.cases)} times, with other seeds" if len(cell.cases) > 1 else ""
    return f"{len(case.targets)} targets{many}."


def _line(cell: InversionResults, times: Sequence[float]) -> list[str]:
    if not cell.judged:
        return [cell.name, *[""] * (len(times) + 2 + (not cell.cases[0].own))]
    final = student(torch.cat([judged.mse for judged in cell.judged]).tolist())
    error = f"{final.mean:.5f} +- {final.error:.5f}"
    if cell.cases[0].own:
        shares = [
            sum((j.at(t) < RECOVERED).float().mean().item() for j in cell.judged) / len(cell.judged) for t in times
        ]
        whole = [judged.recovered_at() for judged in cell.judged]
        to_all = ", ".join("-" if t == float("inf") else f"{t:.1f}" for t in whole)
        return [cell.name, *(f"{100 * share:.0f} %" for share in shares), to_all, error]
    (judged,) = cell.judged
    falling = [f"{judged.at(t).mean().item():.5f}" for t in times]
    return [cell.name, *falling, error, f"{judged.psnr.mean().item():.2f}", f"{judged.ssim.mean().item():.4f}"]


def _rows(cell: InversionResults, seconds: float) -> list[Row]:
    return [
        {
            "generator": case.name,
            "targets": "own" if case.own else "real",
            "seed": case.seed,
            "method": cell.name,
            "target": index,
            "mse": mse,
            "psnr": psnr,
            "ssim": ssim,
            "seconds": round(judged.times[-1], 3),
            "recovered_at": _first(judged, index),
        }
        for case, judged in zip(cell.cases, cell.judged, strict=False)
        for index, (mse, psnr, ssim) in enumerate(
            zip(judged.mse.tolist(), judged.psnr.tolist(), judged.ssim.tolist(), strict=True)
        )
    ]


def _first(judged: InversionOutcome, index: int) -> float | str:
    under = (judged.values[:, index] < RECOVERED).nonzero()
    return round(judged.times[int(under[0])], 3) if len(under) else ""


def _draw(cells: Sequence[InversionResults], seconds: float, figure: Figure) -> None:
    titles = list(dict.fromkeys(cell.cases[0].title for cell in cells))
    figure.set_size_inches(11, 3.2 * -(-len(titles) // 2))
    for axes, title in zip(figure.subplots(-(-len(titles) // 2), 2, squeeze=False).flat, titles, strict=False):
        axes.set(title=title, xlabel="CPU s", ylabel="MSE", yscale="log", xlim=(0, seconds))
        for cell in cells:
            if cell.judged and cell.cases[0].title == title:
                judged = cell.judged[0]
                axes.plot(judged.times, judged.values.mean(1), label=cell.name, lw=1)
        axes.legend(fontsize=5)
