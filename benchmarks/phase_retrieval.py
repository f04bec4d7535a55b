"""Images from the magnitudes of few random projections (phase retrieval), against the linear case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.generators import GENERATORS
from benchmarks.study import study
from benchmarks.timing import timed
from latentopt.inverse.initializers import Random
from latentopt.inverse.priors import GaussianPrior
from latentopt.inverse.reconstruct import reconstruct
from latentopt.metrics import mse
from latentopt.networks.generator import Generator
from latentopt.operators import Gaussian, Magnitude, Operator
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NOISE = 0.01
REPRESENTATION = {"own": 0.0, "real": 3.7}
"""Mean squared norm of what the generator cannot make of test digits (recipe `compressed-sensing`)."""
RESTARTS = 64
"""Of magnitudes; of the linear case 8."""
SCALE = 0.5
"""Standard deviation of random starts; of .3, .4, .5 and .7 the best on 100 other digits."""
RATES = 0.01, 0.03, 0.1, 0.3
STARTS = tuple((count, scale) for count in (8, RESTARTS) for scale in (SCALE, 1.0))
"""Numbers and standard deviations of Adam's starts."""
TRAINING = 8
METHODS = "linear", "reconstruct", "reconstruct-random", "adam", "spectral"
NOTE = (
    "Mean squared error per pixel with its standard error. The measurements are the magnitudes of m random "
    "projections with noise of standard deviation .01; of `linear`, the projections themselves, by the same matrix. "
    "`linear` (8 restarts), `reconstruct` (default start) and `reconstruct-random` (random starts of standard "
    "deviation .5), both with 64 restarts, are `latentopt.reconstruct` with the Gaussian prior of the MAP estimate, in "
    "which the generator's error on test digits counts as noise. `adam`: a hand-written loop on the same objective "
    "from random starts, with as much CPU time as `reconstruct` took; its rate (decaying to 0 by a cosine) and its "
    "starts (8 or 64, of standard deviation .5 or 1) are the best on other images. `spectral`: the spectral "
    "initial image alone, the leading eigenvector of the weighted covariance, scaled by the measurements' norm, with "
    "the better of its two signs. `ratio`: the errors of `reconstruct` and `reconstruct-random` by that of `linear`."
)


@dataclass(frozen=True, eq=False)
class PhaseCase:
    """A generator, images, images on which a rate is chosen, and a number of measurements."""

    part: str  # own: the generator's images, real: test digits
    generator: Generator
    images: Tensor  # (B, C, H, W)
    training: Tensor  # (B', C, H, W)
    m: int
    seed: int

    @property
    def linear(self) -> Gaussian:
        return Gaussian(self.m, self.seed)

    @property
    def weight(self) -> float:
        return (self.m * NOISE**2 + REPRESENTATION[self.part]) / self.m**2

    def measured(self, operator: Operator) -> Tensor:
        return operator.add_noise(operator(self.images), NOISE, self.seed)


@dataclass(frozen=True, eq=False)
class PhaseResult:
    """Outcome of a method on a case."""

    case: PhaseCase
    method: str
    errors: list[float]  # by image
    seconds: float
    chosen: str = ""  # Adam's rate and starts


def _reconstruct(case: PhaseCase, operator: Operator, restarts: int, start: str | Random = "auto") -> Tensor:
    found = reconstruct(
        case.generator,
        case.measured(operator),
        operator=operator,
        prior=GaussianPrior(case.weight),
        restarts=restarts,
        start=start,
        seed=case.seed,
    )
    return found.output


def _adam(case: PhaseCase, rate: float, starts: int, scale: float, steps: int) -> Tensor:
    """Minimise the penalised mean squared error of magnitudes by a plain Adam loop; return the best start's images."""
    operator = Magnitude(case.linear)
    y = case.measured(operator).repeat(starts, 1)
    z = (scale * case.generator.latents(len(y), case.seed)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    best, best_z = torch.full((len(y),), math.inf), z.detach().clone()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        loss = (operator(case.generator(z)) - y).square().mean(1) + case.weight * z.square().sum(1)
        better = loss.detach() < best
        best, best_z[better] = loss.detach().where(better, best), z.detach()[better]
        (z.grad,) = torch.autograd.grad(loss.sum(), z)
        optimizer.step()
    winner = best.reshape(starts, -1).argmin(0) * len(case.images) + torch.arange(len(case.images))
    with torch.no_grad():
        return case.generator(best_z[winner])


def _spectral(case: PhaseCase) -> Tensor:
    """Return the leading eigenvector of sum_i y_i^2 a_i a_i^T, of norm |y|, with the better sign."""
    shape = case.images.shape[1:]
    rows = case.linear.adjoint(torch.eye(case.m), shape).flatten(1)  # (m, n)
    images = list[Tensor]()
    for y, truth in zip(case.measured(Magnitude(case.linear)), case.images, strict=True):
        weighted = y[:, None] * rows
        image = (y.norm() * torch.linalg.svd(weighted, full_matrices=False).Vh[0]).reshape(shape)
        images.append(min((image, -image), key=lambda signed, truth=truth: float((signed - truth).square().sum())))
    return torch.stack(images)


@study
def phase_retrieval(measurements: int = 100, images: int = 50, seed: int = 0, quick: bool = False) -> Report:
    """Reconstruct images of `mnist-vae` from the magnitudes of random projections.

    Args:
        measurements: number of magnitudes.
        images: number of images, of the test set and of the generator each.
        seed: seed of the matrix, the noise and the starts.
        quick: 4 images of the generator, little time, as a smoke test.
    """
    source = GENERATORS["mnist-vae"]
    generator, images = source.build(), 4 if quick else images
    own, other = (generator(generator.latents(count, s)).detach() for count, s in ((images, 7), (TRAINING, 8)))
    parts = {"own": (own, other)}
    if not quick:
        parts["real"] = (source.targets(0, images, held_out=True), source.targets(0, TRAINING, held_out=False))
    results = list[PhaseResult]()
    for part, (truth, training) in parts.items():
        results += _results(PhaseCase(part, generator, truth, training, measurements, seed), 5 if quick else None)
    rows = [row for r in results for row in _rows(r)]
    return Report("Phase retrieval", NOTE, [_table(results)], rows, partial(_draw, results))


def _results(case: PhaseCase, steps: int | None) -> list[PhaseResult]:
    """Run all methods on a case; ``steps`` of Adam, None: as many as take the CPU time of `reconstruct`."""
    magnitude = Magnitude(case.linear)
    methods = {
        "linear": partial(_reconstruct, case, case.linear, 8),
        "reconstruct": partial(_reconstruct, case, magnitude, RESTARTS),
        "reconstruct-random": partial(_reconstruct, case, magnitude, RESTARTS, Random(SCALE)),
    }
    results = [_run(case, name, method) for name, method in methods.items()]
    training = replace(case, images=case.training)
    tried = list[tuple[float, str, partial[Tensor]]]()
    for starts, scale in STARTS:
        count = steps or _steps_within(results[1].seconds, case, starts)
        for rate in RATES:
            settings = {"rate": rate, "starts": starts, "scale": scale, "steps": count}
            error = float(mse(_adam(training, **settings), training.images).mean())
            tried.append((error, f"rate {rate:g}, {starts} starts x {scale:g}", partial(_adam, case, **settings)))
    _, chosen, adam = min(tried, key=lambda one: one[0])
    results.append(replace(_run(case, "adam", adam), chosen=chosen))
    return [*results, _run(case, "spectral", partial(_spectral, case))]


def _steps_within(seconds: float, case: PhaseCase, starts: int) -> int:
    """Return the number of Adam's steps that take the CPU time."""
    _adam(case, RATES[0], starts, 1.0, 2)  # a first step costs more
    return max(10, int(seconds / (timed(lambda: _adam(case, RATES[0], starts, 1.0, 10)).cpu / 10)))


def _run(case: PhaseCase, name: str, method: partial[Tensor]) -> PhaseResult:
    found = list[Tensor]()
    seconds = timed(lambda: found.append(method())).cpu
    return PhaseResult(case, name, mse(found[0], case.images).tolist(), seconds)


def _table(results: Sequence[PhaseResult]) -> Table:
    rows = list[list[str]]()
    for part in dict.fromkeys(r.case.part for r in results):
        own = {r.method: r for r in results if r.case.part == part}
        means = [student(own[method].errors) for method in METHODS]
        ratio = " / ".join(f"{mean.mean / means[0].mean:.2f}" for mean in means[1:3])
        seconds = (f"{own[method].seconds:.1f}" for method in ("reconstruct", "adam"))
        rows.append([part, *(f"{mean.mean:.5f} +- {mean.error:.5f}" for mean in means), ratio, *seconds])
    heads = ["images", *METHODS, "ratio", "CPU s: reconstruct", "CPU s: adam"]
    return Table(f"mnist-vae, m = {results[0].case.m}", "", heads, rows)


def _rows(result: PhaseResult) -> list[Row]:
    common = {"part": result.case.part, "m": result.case.m, "method": result.method}
    timing = {"chosen": result.chosen, "seconds": round(result.seconds, 2)}
    return [{**common, **timing, "image": index, "mse": error} for index, error in enumerate(result.errors)]


def _draw(results: Sequence[PhaseResult], figure: Figure) -> None:
    axes = figure.subplots()
    axes.set(ylabel="MSE a pixel", yscale="log")
    for part in dict.fromkeys(r.case.part for r in results):
        own = [r for r in results if r.case.part == part]
        axes.plot([r.method for r in own], [np.mean(r.errors) for r in own], "o", label=part, alpha=0.7)
    axes.legend()
