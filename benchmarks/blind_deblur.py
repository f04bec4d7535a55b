"""Deblurring by an unknown Gaussian width, against the known one and a hand-written Adam loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.generators import GENERATORS
from benchmarks.study import study
from benchmarks.timing import timed
from latentopt.inverse.priors import GaussianPrior
from latentopt.inverse.reconstruct import reconstruct
from latentopt.metrics import mse
from latentopt.networks.generator import Generator
from latentopt.operators import BlindBlur
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NOISE = 0.01
LOW, HIGH = 0.5, 3.0
RESTARTS = 8
RATES = 0.01, 0.03, 0.1, 0.3
SCALES = 0.5, 1.0
"""Standard deviations of Adam's starts."""
TRAINING = 8
METHODS = "known", "unknown", "adam"
NOTE = (
    "Images of the generator, blurred by Gaussian widths of .5 to 3 pixels (uniform in the logarithm), with noise of "
    "standard deviation .01. `known` and `unknown`: `latentopt.reconstruct` with 8 restarts and the Gaussian prior of "
    "the MAP estimate, given the widths or not. `adam`: a hand-written loop on latents and logarithm of the width, "
    "from 8 random starts, with as much CPU time as `unknown` took; its rate (decaying to 0 by a cosine) and the "
    "standard deviation of its starts (.5 or 1) are the best on 8 other images."
)


@dataclass(frozen=True, eq=False)
class BlurCase:
    """Images of a generator and the widths that blur them."""

    generator: Generator
    images: Tensor  # (B, C, H, W)
    widths: Tensor  # (B,)
    seed: int

    @property
    def operator(self) -> BlindBlur:
        return BlindBlur((LOW, HIGH))

    @property
    def weight(self) -> float:
        return NOISE**2 / self.images[0].numel()

    @property
    def measured(self) -> Tensor:
        return self.operator.add_noise(self.operator.at(sigma=self.widths)(self.images), NOISE, self.seed)


@dataclass(frozen=True, eq=False)
class BlurResult:
    """Outcome of a method."""

    method: str
    errors: list[float]  # by image
    width_errors: list[float]  # relative, by image
    seconds: float
    chosen: str = ""  # Adam's rate and starts


def _case(generator: Generator, count: int, latents: int, seed: int) -> BlurCase:
    images = generator(generator.latents(count, latents)).detach()
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(latents))
    return BlurCase(generator, images, LOW * (HIGH / LOW) ** uniform, seed)


def _reconstruct(case: BlurCase, known: bool) -> tuple[Tensor, Tensor]:
    """Return images and widths."""
    found = reconstruct(
        case.generator,
        case.measured,
        operator=case.operator.at(sigma=case.widths) if known else case.operator,
        measured=True,
        prior=GaussianPrior(case.weight),
        restarts=RESTARTS,
        seed=case.seed,
    )
    return found.output, case.widths if known else found.unknowns["sigma"]


def _adam(case: BlurCase, rate: float, scale: float, steps: int) -> tuple[Tensor, Tensor]:
    """Minimise the penalised mean squared error by a plain Adam loop; return images and widths of the best start."""
    y = case.measured.repeat(RESTARTS, 1, 1, 1)
    z = (scale * case.generator.latents(len(y), case.seed)).requires_grad_()
    uniform = torch.rand(len(y), generator=torch.Generator().manual_seed(case.seed))
    log_width = (math.log(LOW) + math.log(HIGH / LOW) * uniform).requires_grad_()
    optimizer = torch.optim.Adam([z, log_width], lr=rate)
    best, best_z, best_width = torch.full((len(y),), math.inf), z.detach().clone(), log_width.detach().exp()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        width = log_width.exp()
        residual = case.operator.measure(case.generator(z), sigma=width) - y
        loss = residual.square().flatten(1).mean(1) + case.weight * z.square().sum(1)
        better = loss.detach() < best
        best = loss.detach().where(better, best)
        best_z[better], best_width[better] = z.detach()[better], width.detach()[better]
        z.grad, log_width.grad = torch.autograd.grad(loss.sum(), (z, log_width))
        optimizer.step()
        with torch.no_grad():
            log_width.clamp_(math.log(LOW), math.log(HIGH))
    winner = best.reshape(RESTARTS, -1).argmin(0) * len(case.images) + torch.arange(len(case.images))
    with torch.no_grad():
        return case.generator(best_z[winner]), best_width[winner]


@study
def blind_deblur(images: int = 32, seed: int = 0, quick: bool = False) -> Report:
    """Reconstruct images of `mnist-vae` that were blurred by unknown widths.

    Args:
        images: number of images of the generator.
        seed: seed of the noise and the starts.
        quick: 4 images, little time, as a smoke test.
    """
    generator = GENERATORS["mnist-vae"].build()
    case, training = _case(generator, 4 if quick else images, 7, seed), _case(generator, TRAINING, 8, seed)
    results = [_run(case, "known", partial(_reconstruct, case, True))]
    results.append(_run(case, "unknown", partial(_reconstruct, case, False)))
    steps = 5 if quick else _steps_within(results[1].seconds, case)
    tried = {
        (rate, scale): float(mse(_adam(training, rate, scale, steps)[0], training.images).mean())
        for rate, scale in product(RATES, SCALES)
    }
    rate, scale = min(tried, key=tried.__getitem__)
    chosen = f"rate {rate:g}, starts x {scale:g}"
    results.append(replace(_run(case, "adam", partial(_adam, case, rate, scale, steps)), chosen=chosen))
    rows = [row for r in results for row in _rows(case, r)]
    return Report("Blind deblurring", NOTE, [_table(results)], rows, partial(_draw, case, results))


def _steps_within(seconds: float, case: BlurCase) -> int:
    """Return the number of Adam's steps that take the CPU time."""
    _adam(case, RATES[0], 1.0, 2)  # a first step costs more
    return max(10, int(seconds / (timed(lambda: _adam(case, RATES[0], 1.0, 10)).cpu / 10)))


def _run(case: BlurCase, name: str, method: partial[tuple[Tensor, Tensor]]) -> BlurResult:
    found = list[tuple[Tensor, Tensor]]()
    seconds = timed(lambda: found.append(method())).cpu
    output, widths = found[0]
    return BlurResult(name, mse(output, case.images).tolist(), (widths / case.widths - 1).abs().tolist(), seconds)


def _table(results: Sequence[BlurResult]) -> Table:
    known, rows = np.mean(results[0].errors), list[list[str]]()
    for r in results:
        mean = student(r.errors)
        widths = [f"{100 * value:.2f}" for value in (np.mean(r.width_errors), np.max(r.width_errors))]
        within = f"{sum(error < 0.05 for error in r.width_errors)} of {len(r.errors)}"
        error = f"{mean.mean:.2e} +- {mean.error:.2e}"
        rows.append([r.method, error, f"{mean.mean / known:.2f}", *widths, within, f"{r.seconds:.1f}"])
    heads = ["method", "MSE", "by known", "width error %", "greatest %", "within 5 %", "CPU s"]
    return Table("mnist-vae", "", heads, rows)


def _rows(case: BlurCase, result: BlurResult) -> list[Row]:
    common = {"method": result.method, "chosen": result.chosen, "seconds": round(result.seconds, 2)}
    parts = zip(case.widths.tolist(), result.errors, result.width_errors, strict=True)
    return [
        {**common, "image": index, "width": width, "mse": error, "width_error": width_error}
        for index, (width, error, width_error) in enumerate(parts)
    ]


def _draw(case: BlurCase, results: Sequence[BlurResult], figure: Figure) -> None:
    axes = figure.subplots()
    axes.set(xlabel="width [pixels]", ylabel="MSE a pixel", yscale="log")
    for r in results:
        axes.plot(case.widths.tolist(), r.errors, "o", label=r.method, alpha=0.7)
    axes.legend()
