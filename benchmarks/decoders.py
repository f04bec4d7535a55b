"""Photographs through the decoder of a latent diffusion model: inverted, and restored from measurements."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.utils import save_image

from benchmarks.decoder_cases import NOISE, TASKS, TUNING, DecoderCase, decoder_case
from benchmarks.decoder_methods import BASE, METHODS, DecoderMethod, DecoderTrace, Size
from benchmarks.study import chosen, stored, study
from benchmarks.tuned import TUNED
from benchmarks.tuning import tuning_report
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENCODER, DEEPINV = "encoder", "deepinv's total variation"
NOTE = (
    "TAEF2, the tiny autoencoder of FLUX.2, on the middle of photographs. Methods start at the encoder's latents of "
    "the photograph, or of the image that total variation makes of its measurement, whose seconds count. `no network`: "
    "bicubic upsampling, hidden pixels filled by nearby ones, the blurred image. An evaluation is a forward and a "
    "backward; `lbfgs-whitened` and "
    "`adr-gd-whitened` have four backwards more in the beginning, which their seconds include. Measurements have noise "
    f"of deviation {NOISE:g}; methods end once they fit to it, and the prior of their latents is normal, with the "
    "encoder's mean and deviation of each channel on other photographs. PSNR in dB, with its standard error; CPU "
    "seconds per image. The last column is the median of the CPU seconds until a method has the final PSNR of the best "
    "one, for which the hand-written loop goes on with whole photographs, three times as long."
)


@dataclass(frozen=True, eq=False)
class DecoderOutcome:
    """Outcome of a method on the photographs of a task: traces, of which the first ``evaluations`` count."""

    task: str
    method: str
    evaluations: int
    indices: Sequence[int]
    psnr: list[list[float]]
    seconds: list[list[float]]

    @property
    def final(self) -> list[float]:
        return [values[: self.evaluations][-1] for values in self.psnr]

    @property
    def whole(self) -> list[float]:
        """Seconds per photograph."""
        return [values[: self.evaluations][-1] for values in self.seconds]

    def until(self, goals: Sequence[float]) -> list[float]:
        """Return the seconds per photograph until its PSNR reached a goal; infinite if it did not."""
        reached = []
        for psnr, seconds, goal in zip(self.psnr, self.seconds, goals, strict=True):
            when = (t for value, t in zip(psnr, seconds, strict=True) if value >= goal)
            reached.append(next(when, float("inf")))
        return reached


@study
def decoders(
    tasks: str = "all",
    methods: str = "all",
    images: int = 16,
    size: int = 256,
    evaluations: int = 40,
    seed: int = 0,
    tune: bool = False,
    quick: bool = False,
    *,
    folder: Path,
) -> Report:
    """Invert and restore photographs through the decoder of a latent diffusion model, TAEF2 (from LATENTOPT_DATA).

    The outcome and the picture of each method and photograph lie in ``out/outcomes`` and are not computed again: a
    call that was stopped goes on.

    Args:
        tasks: all, or some of inversion, super-resolution, inpainting, deblurring, between commas.
        methods: all, or some, between commas; that of deepinv is left out where it is not installed.
        images: number of photographs.
        size: side of the images in pixels, a multiple of 8 up to 256.
        evaluations: evaluations of each method, at most.
        seed: number of the first photograph.
        tune: try each method's sizes on other photographs, from the 101st on, instead of the study.
        quick: inversion of one photograph of 32 x 32, few methods and evaluations, as a smoke test.
    """
    work, known = chosen("tasks", tasks, TASKS), chosen("methods", methods, METHODS)
    if quick:
        work, images, size, evaluations = {"inversion": TASKS["inversion"]}, 1, 32, 3
        known = {name: known[name] for name in (ENCODER, BASE, "lbfgs-whitened") if name in known}
    indices = range(seed + TUNING * tune, seed + TUNING * tune + images)
    if tune:
        return tuning(list(work), known, indices, size, evaluations)

    def outcome(task: str, name: str) -> DecoderOutcome:
        longest = evaluations * (METHODS[name].extension if task == "inversion" else 1)
        settings = {"size": size, "evaluations": longest, "method": name}
        traces = [_stored(folder / "outcomes", task, index, settings) for index in indices]
        return DecoderOutcome(
            task, name, evaluations, indices, *([t[key] for t in traces] for key in ("psnr", "seconds"))
        )

    if not find_spec("deepinv"):
        known.pop(DEEPINV, None)
    groups = [[outcome(task, name) for name, method in known.items() if method.fits(task)] for task in work]
    rows = [row for group in groups for result in group for row in _rows(result, group)]
    return Report("Photographs through a decoder", NOTE, list(map(_table, groups)), rows, partial(_draw, groups))


def tuning(
    tasks: Sequence[str], methods: Mapping[str, DecoderMethod], indices: Sequence[int], size: int, evaluations: int
) -> Report:
    """Score every size of every method on other photographs, by the final PSNR."""

    def score(task: str, name: str, chosen_size: Size) -> tuple[float]:
        values = []
        for index in indices:
            trace = DecoderTrace(decoder_case(task, index, size))
            methods[name].run(trace.case, chosen_size, evaluations, trace)
            values.append(trace.psnr[-1])
        return (sum(values) / len(values),)

    grids = {
        task: {name: method.sizes_of(task) for name, method in methods.items() if method.fits(task)} for task in tasks
    }
    grids = {task: {name: sizes for name, sizes in own.items() if len(sizes) > 1} for task, own in grids.items()}
    return tuning_report("Sizes for a decoder", grids, score, ("PSNR",))


def _stored(folder: Path, task: str, index: int, settings: dict[str, object]) -> dict[str, list[float]]:
    """Return the trace of a method on a photograph, run unless it is stored; its picture is stored too."""
    name = str(settings["method"])
    size = TUNED["decoders"].get(task, {}).get(name) or METHODS[name].sizes[0]
    stem = f"{task}, {index}, {name}"

    def work() -> dict[str, list[float]]:
        case = decoder_case(task, index, int(str(settings["size"])))
        trace = DecoderTrace(case)
        METHODS[name].run(case, (size[0], size[1]), int(str(settings["evaluations"])), trace)
        assert trace.image is not None
        folder.mkdir(parents=True, exist_ok=True)
        save_image(torch.cat([case.truth, _shown(case), trace.image]).clamp(0, 1), folder / f"{stem}.png", padding=0)
        return {"psnr": trace.psnr, "seconds": trace.seconds}

    return stored(folder / f"{stem}.json", {**settings, "task": task, "index": index, "sizes": list(size)}, work)


def _shown(case: DecoderCase) -> Tensor:
    """Return a measurement as an image of the photograph's size."""
    return torch.nn.functional.interpolate(case.measurement, case.truth.shape[-2:])


def _table(group: Sequence[DecoderOutcome]) -> Table:
    by_name = {result.method: result for result in group}
    base, encoder, best = by_name.get(BASE), by_name.get(ENCODER), _best(group)
    columns = [
        "method",
        "PSNR",
        "above the encoder",
        "above hand-written Adam",
        "CPU s",
        "CPU s to Adam's PSNR",
        "ratio",
        "CPU s to the best PSNR",
    ]
    rows = []
    for result in group:
        line = [result.method, _interval(result.final), "", "", f"{_mean(result.whole):.1f}", "", ""]
        line.append(_median(result.until(best.final)))
        if encoder and result is not encoder:
            line[2] = _interval(_minus(result, encoder))
        if base and result is not base:
            line[3] = _interval(_minus(result, base))
        if base:
            until, whole = result.until(base.final), base.until(base.final)
            if max(until) < float("inf"):
                ratio = [mine / theirs for mine, theirs in zip(until, whole, strict=True)]
                line[5:7] = [f"{_mean(until):.1f}", f"{_mean(ratio):.2f}"]
        rows.append(line)
    return Table(group[0].task, f"{len(group[0].indices)} photographs.", columns, rows)


def _best(group: Sequence[DecoderOutcome]) -> DecoderOutcome:
    """Return the outcome of the highest mean PSNR."""
    return max(group, key=lambda result: _mean(result.final))


def _median(seconds: Sequence[float]) -> str:
    """Format the median of seconds per photograph; "-" if it is infinite."""
    middle = statistics.median(seconds)
    return f"{middle:.1f}" if middle < float("inf") else "-"


def _minus(result: DecoderOutcome, other: DecoderOutcome) -> list[float]:
    return [mine - theirs for mine, theirs in zip(result.final, other.final, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _interval(values: Sequence[float]) -> str:
    interval = student(values)
    return f"{interval.mean:.2f}" + (f" +- {interval.error:.2f}" if len(values) > 1 else "")


def _rows(result: DecoderOutcome, group: Sequence[DecoderOutcome]) -> Iterator[Row]:
    """Yield a row for each photograph.

    ``until`` and ``until_best``: seconds until it had the final PSNR of the hand-written loop, and of the best method.
    """
    base = next((other for other in group if other.method == BASE), None)
    until = result.until(base.final if base else [float("inf")] * len(result.psnr))
    until_best = result.until(_best(group).final)
    columns = (result.indices, result.psnr, result.final, result.whole, until, until_best)
    for index, trace, psnr, seconds, reached, best in zip(*columns, strict=True):
        yield {
            "task": result.task,
            "method": result.method,
            "image": index,
            "evaluations": min(len(trace), result.evaluations),
            "psnr": psnr,
            "seconds": seconds,
            "until": "" if reached == float("inf") else reached,
            "until_best": "" if best == float("inf") else best,
        }


def _draw(groups: Sequence[Sequence[DecoderOutcome]], figure: Figure) -> None:
    figure.set_size_inches(4.5 * len(groups), 3.6)
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False).flat, groups, strict=True):
        axes.set(title=group[0].task, xlabel="evaluation", ylabel="PSNR")
        for result in group:
            columns = itertools.zip_longest(*(values[: result.evaluations] for values in result.psnr))
            # Those that ended keep their last value.
            means = [_mean([v if p is None else p for p, v in zip(c, result.final, strict=True)]) for c in columns]
            axes.plot(range(1, len(means) + 1), means, label=result.method, marker="." if len(means) == 1 else None)
        axes.legend(fontsize=5)
