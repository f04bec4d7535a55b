"""Images from saturated, quantised and JPEG-compressed ones, by the loss through the operator and by consistency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.generators import GENERATORS
from benchmarks.study import chosen, study
from benchmarks.timing import timed
from latentopt.inverse.reconstruct import reconstruct
from latentopt.metrics import mse
from latentopt.networks.generator import Generator
from latentopt.objectives import MSE, Consistent, Loss
from latentopt.operators import JPEG, Clip, Identity, Operator, Quantize
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAMES = "mnist-vae", "celeba-vae"
OPERATORS: dict[str, Operator] = {"jpeg": JPEG(10), "clip": Clip(high=0.5), "quantize": Quantize(4)}
RESTARTS, STEPS = 4, 150
RATES = 0.01, 0.03, 0.1, 0.3
TRAINING = 4
"""Number of images on which Adam's rate is chosen: other ones than those of the table."""
NOTE = (
    "Mean squared error per pixel against the image before the operator, with its standard error. `jpeg`: quality 10. "
    "`clip`: saturation at .5. `quantize`: 4 levels. `ignore`: least squares between the generator's image and the "
    "degraded one. `through`: least squares through the operator. `consistent`: the loss of what contradicts the "
    "measurement. These three are `latentopt.reconstruct`, 4 restarts, 150 steps. `adam`: a hand-written loop, Adam "
    "from 4 random starts by least squares through the operator, with as much CPU time as `consistent` took and a rate "
    "(decaying to 0 by a cosine) chosen on other images. `degraded`: the error of the measurement itself."
)


@dataclass(frozen=True, eq=False)
class NonlinearCase:
    """A generator, images, images on which a rate is chosen, and an operator."""

    name: str
    part: str  # own: the generator's images, real: others
    generator: Generator
    images: Tensor  # (B, C, H, W)
    training: Tensor  # (B', C, H, W)
    operator: str
    seed: int

    @property
    def measurement(self) -> Tensor:
        return OPERATORS[self.operator](self.images)


@dataclass(frozen=True, eq=False)
class NonlinearResult:
    """Outcome of a method on a case."""

    case: NonlinearCase
    method: str
    errors: list[float]  # by image
    seconds: float
    rate: float | None = None  # Adam's


def _reconstruct(case: NonlinearCase, operator: Operator, loss: Loss) -> Tensor:
    """Reconstruct by the library's defaults."""
    found = reconstruct(
        case.generator,
        case.measurement,
        operator=operator,
        loss=loss,
        measured=True,
        restarts=RESTARTS,
        steps=STEPS,
        seed=case.seed,
    )
    return found.output


def adam(case: NonlinearCase, rate: float, steps: int) -> Tensor:
    """Minimise the mean squared error through the operator by a plain Adam loop; return the best start's images."""
    operator, y = OPERATORS[case.operator], case.measurement.repeat(RESTARTS, 1, 1, 1)
    z = case.generator.latents(len(y), case.seed).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    best, best_z = torch.full((len(y),), math.inf), z.detach().clone()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        loss = (operator(case.generator(z)) - y).square().flatten(1).mean(1)
        better = loss.detach() < best
        best, best_z[better] = loss.detach().where(better, best), z.detach()[better]
        (z.grad,) = torch.autograd.grad(loss.sum(), z)
        optimizer.step()
    winner = best.reshape(RESTARTS, -1).argmin(0) * len(case.images) + torch.arange(len(case.images))
    with torch.no_grad():
        return case.generator(best_z[winner])


METHODS: dict[str, Callable[[NonlinearCase], Tensor]] = {
    "ignore": lambda case: _reconstruct(case, Identity(), MSE()),
    "through": lambda case: _reconstruct(case, OPERATORS[case.operator], MSE()),
    "consistent": lambda case: _reconstruct(case, OPERATORS[case.operator], Consistent()),
}


@study
def nonlinear(
    generators: str = "mnist-vae,celeba-vae",
    operators: str = "all",
    images: int = 16,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Reconstruct images from saturated, quantised and JPEG-compressed ones.

    Args:
        generators: mnist-vae, celeba-vae or both, between commas.
        operators: all, or some of jpeg, clip, quantize, between commas.
        images: number of images, of the test set and of the generator each; there are 16 faces.
        seed: seed of starts and of the generator's images.
        quick: mnist-vae, 4 images, little time, as a smoke test.
    """
    sources = chosen("generators", generators, {name: GENERATORS[name] for name in NAMES})
    names = list(chosen("operators", operators, OPERATORS))
    if quick:
        sources, images = {NAMES[0]: GENERATORS[NAMES[0]]}, 4
    results = list[NonlinearResult]()
    for name, source in sources.items():
        generator = source.build()
        own, other = (generator(generator.latents(count, s)).detach() for count, s in ((images, 7), (TRAINING, 8)))
        parts = {"own": (own, other)}
        if not quick:
            parts["real"] = (source.targets(0, images, held_out=True), source.targets(0, TRAINING, held_out=False))
        for part, (truth, training) in parts.items():
            for operator in names:
                case = NonlinearCase(name, part, generator, truth, training, operator, seed)
                results += _results(case, steps=5 if quick else None)
    tables = [_table([r for r in results if r.case.name == name]) for name in sources]
    return Report(
        "Non-linear operators", NOTE, tables, [row for r in results for row in _rows(r)], partial(_draw, results)
    )


def _results(case: NonlinearCase, steps: int | None) -> list[NonlinearResult]:
    """Run all methods on a case; ``steps`` of Adam, None: as many as take the CPU time of `consistent`."""
    results = [NonlinearResult(case, "degraded", mse(case.measurement, case.images).tolist(), 0.0)]
    for name, method in METHODS.items():
        found = list[Tensor]()
        seconds = timed(lambda method=method, found=found: found.append(method(case))).cpu
        results.append(NonlinearResult(case, name, mse(found[0], case.images).tolist(), seconds))
    if steps is None:
        adam(case, RATES[0], 2)  # a first step costs more
        steps = max(10, int(results[-1].seconds / (timed(lambda: adam(case, RATES[0], 10)).cpu / 10)))
    training = replace(case, images=case.training)
    errors = [float(mse(adam(training, rate, steps), training.images).mean()) for rate in RATES]
    rate, found = RATES[int(np.argmin(errors))], list[Tensor]()
    seconds = timed(lambda: found.append(adam(case, rate, steps))).cpu
    return [*results, NonlinearResult(case, "adam", mse(found[0], case.images).tolist(), seconds, rate)]


def _table(results: Sequence[NonlinearResult]) -> Table:
    methods = ["degraded", *METHODS, "adam"]
    cases = dict.fromkeys((r.case.part, r.case.operator) for r in results)
    rows = list[list[str]]()
    for part, operator in cases:
        own = {r.method: r for r in results if (r.case.part, r.case.operator) == (part, operator)}
        means = [student(own[method].errors) for method in methods]
        seconds = f"{own['consistent'].seconds:.1f}"
        rows.append([part, operator, *(f"{mean.mean:.5f} +- {mean.error:.5f}" for mean in means), seconds])
    return Table(results[0].case.name, "", ["images", "operator", *methods, "CPU s: consistent"], rows)


def _rows(result: NonlinearResult) -> list[Row]:
    case = result.case
    common = {"generator": case.name, "part": case.part, "operator": case.operator, "method": result.method}
    timing = {"rate": "" if result.rate is None else result.rate, "seconds": round(result.seconds, 2)}
    return [{**common, **timing, "image": index, "mse": error} for index, error in enumerate(result.errors)]


def _draw(results: Sequence[NonlinearResult], figure: Figure) -> None:
    cases = list(dict.fromkeys((r.case.name, r.case.part) for r in results))
    figure.set_size_inches(4.5 * len(cases), 3.6)
    for axes, (name, part) in zip(figure.subplots(1, len(cases), squeeze=False).flat, cases, strict=True):
        axes.set(title=f"{name}, {part}", ylabel="MSE a pixel", yscale="log")
        for method in ("degraded", *METHODS, "adam"):
            own = [r for r in results if (r.case.name, r.case.part, r.method) == (name, part, method)]
            axes.plot([r.case.operator for r in own], [np.mean(r.errors) for r in own], "o", label=method, alpha=0.7)
        axes.legend()
