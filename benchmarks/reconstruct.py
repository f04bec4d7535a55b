"""`latentopt bench reconstruct`: generators inverted by every method in equal CPU time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import torch

from benchmarks.choices import chosen
from benchmarks.generators import GENERATORS, Source
from benchmarks.inverted import METHODS, RECOVERED, Case, Judged, Method, judge
from benchmarks.inverted_references import REFERENCES
from benchmarks.report import Bench
from benchmarks.statistics import mean_of
from benchmarks.timing import threads as pinned
from latentopt.errors import InputError, nonnegative, positive
from latentopt.reports import Report, Row, Table, Written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Part = Literal["own", "real", "all"]
IMAGES = 16
TUNING = 1000
"""Added to the seeds of tuning; real images are then of the training set."""
NOTE = (
    "Mean squared error a pixel of the best latent so far, by CPU seconds of all targets together; everything a method "
    "does counts, the samples it learns from included. Methods whose step sizes fall plan as many steps as the time "
    f"allows (measured beforehand). Recovered: share of the generator's own images with an error below {RECOVERED:g}; "
    "there a method ends when it has found them all. In the end errors are computed anew, through the generator as a "
    "user has it."
)


@dataclass(frozen=True, eq=False)
class Cell:
    """A method on the cases of a generator and a kind of targets, one a seed."""

    name: str
    cases: Sequence[Case]
    judged: Sequence[Judged]


def reconstruct(
    generators: str = "mnist-vae,mnist-dcgan,mlp-vae,dcgan64,celeba-vae,road-gan",
    methods: str = "all",
    part: Part = "all",
    seconds: float = 20.0,
    images: int = IMAGES,
    seeds: int = 3,
    seed: int = 0,
    tune: bool = False,
    threads: int = 1,
    out: str | None = None,
    overwrite: bool = False,
    quick: bool = False,
) -> Written:
    """Invert generators by every method in equal CPU time.

    Args:
        generators: all, or some of mnist-vae, mnist-dcgan (which ship), mlp-vae, dcgan64, celeba-vae, celeba-betab,
            celeba-betah, celeba-btcvae, mnist32-vae, road-gan (from LATENTOPT_DATA), between commas.
        methods: all, or some, between commas.
        part: own (images that the generator made), real or all.
        seconds: CPU time of a method for all targets together.
        images: targets.
        seeds: of starts, and of the generator's own images; real ones are tried with the first of them.
        seed: the first of them.
        tune: instead of the benchmark, try each method's sizes, on other seeds and on training images.
        threads: that torch computes with.
        out: folder for the results; default runs/bench/reconstruct.
        overwrite: replace the results of an earlier run there.
        quick: mnist-vae, its own images, few methods and seconds, to see that it works.
    """
    settings = dict(locals())
    if part not in get_args(Part):
        raise InputError("part", f"one of {', '.join(get_args(Part))}", repr(part))
    for name, value in (("images", images), ("seeds", seeds), ("threads", threads)):
        positive(name, value, integer=True)
    positive("seconds", seconds)
    nonnegative("seed", seed, integer=True)
    settings["out"] = out or f"runs/bench/reconstruct{'-tune' * tune}"
    bench = Bench("reconstruct", settings)
    sources, known = chosen("generators", generators, GENERATORS), chosen("methods", methods, {**METHODS, **REFERENCES})
    bench.check_folder()
    if quick:
        sources, part, seconds, images, seeds = {"mnist-vae": GENERATORS["mnist-vae"]}, "own", 1.0, 4, 1
        known = {name: known[name] for name in ("reconstruct", "adam", "a hand-written Adam loop") if name in known}
    cells, tables = list[Cell](), list[Table]()
    with pinned(threads):
        for name, source in sources.items():
            for kind in ("own", "real") if part == "all" else (part,):
                if cases := _cases(name, source, kind == "own", images, range(seed, seed + seeds), tune):
                    new = list(_cells(cases, known, seconds, tune))
                    tables.append(_table(new, seconds))
                    cells += new
        rows = [row for cell in cells for row in _rows(cell, seconds)]
        return bench.write(Report("Inversion of generators", NOTE, tables, rows, partial(_draw, cells, seconds)))


def _cases(name: str, source: Source, own: bool, images: int, seeds: range, tune: bool) -> list[Case]:
    generator, shift = source.build(), TUNING * tune
    if own:
        with torch.no_grad():
            made = {s: generator(generator.latents(images, 11 + s + shift)) for s in seeds}
        return [Case(name, generator, made[s], True, s + shift) for s in seeds]
    if not source.images:
        return []
    return [Case(name, generator, source.targets(0, images, not tune), False, seeds[0] + shift)]


def _cells(cases: Sequence[Case], methods: dict[str, Method], seconds: float, tune: bool):
    for name, method in methods.items():
        for size in method.sizes if tune else (None,):
            label = name if size is None else f"{name} at {size[0]:g}, {size[1]} starts"
            try:
                yield Cell(label, cases, [judge(case, method.at(case, size), seconds) for case in cases])
            except ImportError as error:
                yield Cell(f"{label}: {error}", cases, [])


def _table(cells: Sequence[Cell], seconds: float) -> Table:
    case = cells[0].cases[0]
    shares = (0.1, 0.25, 0.5, 1.0)
    if case.own:
        columns = ["method", *(f"recovered @ {seconds * share:g} s" for share in shares), "s to all", "MSE in the end"]
    else:
        columns = ["method", *(f"MSE @ {seconds * share:g} s" for share in shares), "MSE in the end", "PSNR", "SSIM"]
    times = [seconds * share for share in shares]
    return Table(case.title, _targets(cells[0]), columns, [_line(cell, times) for cell in cells])


def _targets(cell: Cell) -> str:
    case = cell.cases[0]
    many = f", {len(cell.cases)} times, with other seeds" if len(cell.cases) > 1 else ""
    return f"{len(case.targets)} targets{many}."


def _line(cell: Cell, times: Sequence[float]) -> list[str]:
    if not cell.judged:
        return [cell.name, *[""] * (len(times) + 2 + (not cell.cases[0].own))]
    final = mean_of(torch.cat([judged.mse for judged in cell.judged]).tolist())
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


def _rows(cell: Cell, seconds: float) -> list[Row]:
    return [
        {
            "generator": case.name,
            "targets": "own" if case.own else "real",
            "seed": case.seed,
            "method": cell.name,
            "target": at,
            "mse": mse,
            "psnr": psnr,
            "ssim": ssim,
            "seconds": round(judged.times[-1], 3),
            "recovered_at": _first(judged, at),
        }
        for case, judged in zip(cell.cases, cell.judged, strict=False)
        for at, (mse, psnr, ssim) in enumerate(
            zip(judged.mse.tolist(), judged.psnr.tolist(), judged.ssim.tolist(), strict=True)
        )
    ]


def _first(judged: Judged, at: int) -> float | str:
    under = (judged.values[:, at] < RECOVERED).nonzero()
    return round(judged.times[int(under[0])], 3) if len(under) else ""


def _draw(cells: Sequence[Cell], seconds: float, figure: Figure) -> None:
    titles = list(dict.fromkeys(cell.cases[0].title for cell in cells))
    figure.set_size_inches(11, 3.2 * -(-len(titles) // 2))
    for axes, title in zip(figure.subplots(-(-len(titles) // 2), 2, squeeze=False).flat, titles, strict=False):
        axes.set(title=title, xlabel="CPU s", ylabel="MSE", yscale="log", xlim=(0, seconds))
        for cell in cells:
            if cell.judged and cell.cases[0].title == title:
                judged = cell.judged[0]
                axes.plot(judged.times, judged.values.mean(1), label=cell.name, lw=1)
        axes.legend(fontsize=5)
