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
RESTARTS = 8
RATES = 0.01, 0.03, 0.1, 0.3
TRAINING = 8
METHODS = "linear", "reconstruct", "reconstruct-random", "adam", "spectral"
NOTE = (
    "Mean squared error per pixel with its standard error. The measurements are the magnitudes of m random "
    "projections with noise of standard deviation .01; of `linear`, the projections themselves, by the same matrix. "
    "`linear`, `reconstruct` (default start) and `reconstruct-random` (random starts) are `latentopt.reconstruct`, 8 "
    "restarts, with the Gaussian prior of the MAP estimate, in which the generator's error on test digits counts as "
    "noise. `adam`: a hand-written loop on the same objective from 8 random starts, with as much CPU time as "
    "`reconstruct` took and a rate (decaying to 0 by a cosine) chosen on other images. `spectral`: the spectral "
    "initial image alone, the leading eigenvector of the weighted covariance, scaled by the measurements' norm, with "
    "the better of its two signs. `ratio`: the error of `reconstruct` by that of `linear`."
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
    rate: float | None = None  # Adam's


def _reconstruct(case: PhaseCase, operator: Operator, start: str = "auto") -> Tensor:
    found = reconstruct(
        case.generator,
        case.measured(operator),
        operator=operator,
        prior=GaussianPrior(case.weight),
        restarts=RESTARTS,
        start=start,
        seed=case.seed,
    )
    return found.output


def _adam(case: PhaseCase, rate: float, steps: int) -> Tensor:
    """Minimise the penalised mean squared error of magnitudes by a plain Adam loop; return the best start's images."""
    operator = Magnitude(case.linear)
    y = case.measured(operator).repeat(RESTARTS, 1)
    z = case.generator.latents(len(y), case.seed).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    best, best_z = torch.full((len(y),), math.inf), z.detach().clone()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        loss = (operator(case.generator(z)) - y).square().mean(1) + case.weight * z.square().sum(1)
        better = loss.detach() < best
        best, best_z[better] = loss.detach().where(better, best), z.detach()[better]
        (z.grad,) = torch.autograd.grad(loss.sum(), z)
        optimizer.step()
    winner = best.reshape(RESTARTS, -1).argmin(0) * len(case.images) + torch.arange(len(case.images))
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
        "linear": partial(_reconstruct, case, case.linear),
        "reconstruct": partial(_reconstruct, case, magnitude),
        "reconstruct-random": partial(_reconstruct, case, magnitude, "random"),
    }
    results = [_run(case, name, method) for name, method in methods.items()]
    if steps is None:
        _adam(case, RATES[0], 2)  # a first step costs more
        steps = max(10, int(results[1].seconds / (timed(lambda: _adam(case, RATES[0], 10)).cpu / 10)))
    training = replace(case, images=case.training)
    errors = [float(mse(_adam(training, rate, steps), training.images).mean()) for rate in RATES]
    rate = RATES[int(np.argmin(errors))]
    results.append(replace(_run(case, "adam", partial(_adam, case, rate, steps)), rate=rate))
    return [*results, _run(case, "spectral", partial(_spectral, case))]


def _run(case: PhaseCase, name: str, method: partial[Tensor]) -> PhaseResult:
    found = list[Tensor]()
    seconds = timed(lambda: found.append(method())).cpu
    return PhaseResult(case, name, mse(found[0], case.images).tolist(), seconds)


def _table(results: Sequence[PhaseResult]) -> Table:
    rows = list[list[str]]()
    for part in dict.fromkeys(r.case.part for r in results):
        own = {r.method: r for r in results if r.case.part == part}
        means = [student(own[method].errors) for method in METHODS]
        ratio = means[1].mean / means[0].mean
        seconds = (f"{own[method].seconds:.1f}" for method in ("reconstruct", "adam"))
        rows.append([part, *(f"{mean.mean:.5f} +- {mean.error:.5f}" for mean in means), f"{ratio:.2f}", *seconds])
    heads = ["images", *METHODS, "ratio", "CPU s: reconstruct", "CPU s: adam"]
    return Table(f"mnist-vae, m = {results[0].case.m}", "", heads, rows)


def _rows(result: PhaseResult) -> list[Row]:
    common = {"part": result.case.part, "m": result.case.m, "method": result.method}
    timing = {"rate": "" if result.rate is None else result.rate, "seconds": round(result.seconds, 2)}
    return [{**common, **timing, "image": index, "mse": error} for index, error in enumerate(result.errors)]


def _draw(results: Sequence[PhaseResult], figure: Figure) -> None:
    axes = figure.subplots()
    axes.set(ylabel="MSE a pixel", yscale="log")
    for part in dict.fromkeys(r.case.part for r in results):
        own = [r for r in results if r.case.part == part]
        axes.plot([r.method for r in own], [np.mean(r.errors) for r in own], "o", label=part, alpha=0.7)
    axes.legend()
