"""Do intervals of latents and pixels hold the truth as often as they say, and what do they cost?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

import latentopt as lo
from benchmarks.study import chosen, study
from benchmarks.timing import timed
from latentopt.inverse.calibrate import LEVELS
from latentopt.inverse.laplace import LaplaceMixture
from latentopt.inverse.posterior import PosteriorProblem
from latentopt.inverse.problem import Reconstruction
from latentopt.inverse.tempering import TemperedChains
from latentopt.objectives import GaussianNoise
from latentopt.operators import Gaussian
from latentopt.reports import Report, Row, Table
from latentopt.solver.result import Result
from latentopt.statistics import student
from latentopt.zoo import cards

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Shares of the true latents and pixels that central intervals of 50, 90 and 95 % hold, with 95 % intervals over "
    "the images. Images are of the generator's own latents; each of m random projections has Gaussian noise of this "
    "standard deviation. `laplace`: draws from the normal distributions at the modes, weighted by evidence, alone. "
    "`posterior`: the default of `latentopt.posterior`. `laplace + mala`: the same start and preconditioner, one "
    "leapfrog step and one temperature. `mala`: from the most probable latents, without a preconditioner. All chains "
    "take as many gradients; step sizes adapt to each image. All start from one search for the most probable latents; "
    "times are CPU seconds of all images, without the search, and in units of the search, with it."
)
CHAINS = 8
"""Chains of the two forms of MALA."""


@dataclass(frozen=True, eq=False)
class PosteriorCase:
    """Measurements of images whose latents are known, and the search's result."""

    problem: Reconstruction
    z: Tensor  # (B, n)
    images: Tensor  # (B, C, H, W)
    found: Result
    steps: int  # of the default

    @property
    def gradients(self) -> int:
        """Gradients that the chains of one image take."""
        return 8 * 5 * self.steps


PosteriorMethod = Callable[[PosteriorCase], lo.Posterior]


def default(case: PosteriorCase) -> lo.Posterior:
    """Sample by `latentopt.posterior`."""
    return lo.posterior(case.problem, case.found, steps=case.steps)


def langevin(case: PosteriorCase) -> lo.Posterior:
    """Sample by Langevin steps, preconditioned by Laplace's covariance."""
    steps = case.gradients // CHAINS
    return lo.posterior(case.problem, case.found, steps=steps, leapfrogs=1, chains=CHAINS, temperatures=1)


def laplace(case: PosteriorCase) -> lo.Posterior:
    """Draw from Laplace's mixture."""
    target = PosteriorProblem(case.problem)
    _, mixture = target.laplace(case.found, 0)
    random = torch.Generator().manual_seed(0)
    draws = list[Tensor]()
    for _ in range(168):
        normal = torch.randn(mixture.u.shape[1:], generator=random)
        draws.append(mixture.draw(normal, torch.rand(len(normal), generator=random)))
    return _summarised(case, target, torch.stack(draws)[:, None].to(case.z), mixture)


def plain(case: PosteriorCase) -> lo.Posterior:
    """Sample by Langevin steps from the most probable latents."""
    target, steps = PosteriorProblem(case.problem), case.gradients // CHAINS
    best = target.rows(1, 0).standard(case.found.x)
    u = best.repeat(CHAINS, 1)
    rows, eye = target.rows(CHAINS, 0), torch.eye(u.shape[1]).expand(1, len(best), -1, -1)
    chains, state = TemperedChains.starting(rows, u, [1.0], CHAINS, 1, eye, steps // 4)
    draws = list[Tensor]()
    for t in range(steps):
        state, _ = chains.step(t, state)
        draws += [chains.cold(state)] if t >= steps // 4 else []
    curvature = torch.zeros(1, len(best), u.shape[1], u.shape[1]).double()
    mixture = LaplaceMixture(best[None].double(), curvature[:, :, 0, 0], curvature, curvature[:, :, 0, 0] == 0)
    return _summarised(case, target, torch.stack(draws), mixture)


def _summarised(case: PosteriorCase, target: PosteriorProblem, u: Tensor, mixture: LaplaceMixture) -> lo.Posterior:
    nothing = torch.zeros(u.shape[2])
    summary, meta = target.summarise(u, mixture, 168), {"chains": u.shape[1]}
    return lo.Posterior(**summary, acceptance=nothing, forwards=nothing.long(), backwards=nothing.long(), meta=meta)


METHODS: dict[str, PosteriorMethod] = {
    "laplace": laplace,
    "posterior": default,
    "laplace + mala": langevin,
    "mala": plain,
}


@dataclass(frozen=True, eq=False)
class Coverage:
    """What the intervals of a method hold."""

    method: str
    latents: Tensor  # (levels, B)
    pixels: Tensor  # (levels, B)
    found: lo.Posterior
    seconds: float


@study
def posterior(
    model: str = "mnist-vae",
    methods: str = "all",
    measurements: int = 25,
    noise: float = 0.1,
    images: int = 100,
    steps: int = 112,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Measure the coverage of posterior intervals on images that the generator made.

    Args:
        model: name of a generator.
        methods: all, or some of laplace, posterior, laplace + mala, mala, between commas.
        measurements: number of random projections m, whose matrix has entries of variance 1 / m.
        noise: standard deviation of the noise of each projection.
        images: number of images.
        steps: of each chain of the default; the others take as many gradients.
        seed: seed of latents and noise.
        quick: 4 images and 16 steps, as a smoke test.
    """
    runs = chosen("methods", methods, METHODS)
    if quick:
        images, steps = 4, 16
    generator, likelihood, operator = cards.load_generator(model), GaussianNoise(noise), Gaussian(measurements)
    z = generator.latents(images, seed + 1000)
    with torch.no_grad():
        truth = generator(z)
        measured = likelihood.draw(operator(truth), seed)
    problem = Reconstruction(generator, measured, operator, loss=likelihood, measured=True)
    searched = list[Result]()
    seconds = timed(lambda: searched.append(PosteriorProblem(problem).search(seed)[0])).cpu
    case = PosteriorCase(problem, z, truth, searched[0], steps)
    cells = [_ran(name, run, case) for name, run in runs.items()]
    note = f"{images} images of {model}, m = {measurements}, noise {noise:g}. The search took {seconds:.1f} CPU s."
    head = ["method", "CPU s", "times the search", *(f"{of} {p:.0%}" for of in ("latents", "pixels") for p in LEVELS)]
    table = Table(model, note, [*head, "R-hat", "ESS"], [_shown(cell, seconds) for cell in cells])
    rows = [row for cell in cells for row in _rows(cell, model, seconds)]
    return Report("Posteriors", NOTE, [table], rows, partial(_draw, cells))


def _ran(name: str, run: PosteriorMethod, case: PosteriorCase) -> Coverage:
    done = list[lo.Posterior]()
    seconds = timed(lambda: done.append(run(case))).cpu
    shares = list[Tensor]()
    truths: dict[Literal["latents", "images"], Tensor] = {"latents": case.z, "images": case.images}
    for of, truth in truths.items():
        ends = [done[0].interval(level, of) for level in LEVELS]
        held = [((low <= truth) & (truth <= high)).double().flatten(1).mean(1) for low, high in ends]
        shares.append(torch.stack(held))
    return Coverage(name, shares[0], shares[1], done[0], seconds)


def _shown(cell: Coverage, search: float) -> list[str]:
    shares = [student(share.tolist()) for of in (cell.latents, cell.pixels) for share in of]
    held = [f"{100 * share.mean:.1f} +- {100 * share.half_width:.1f}" for share in shares]
    diagnostics = [f"{cell.found.r_hat.median():.2f}", f"{cell.found.effective_samples.median():.0f}"]
    return [cell.method, f"{cell.seconds:.1f}", f"{(cell.seconds + search) / search:.1f}", *held, *diagnostics]


def _rows(cell: Coverage, model: str, search: float) -> list[Row]:
    common = {"model": model, "method": cell.method, "seconds": round(cell.seconds, 2), "search": round(search, 2)}
    rows = list[Row]()
    for image in range(cell.latents.shape[1]):
        held = {f"latents_{p:g}": float(cell.latents[i, image]) for i, p in enumerate(LEVELS)}
        held |= {f"pixels_{p:g}": float(cell.pixels[i, image]) for i, p in enumerate(LEVELS)}
        found = {"r_hat": float(cell.found.r_hat[image]), "ess": float(cell.found.effective_samples[image])}
        rows.append({**common, "image": image, **held, **found})
    return rows


def _draw(cells: Sequence[Coverage], figure: Figure) -> None:
    figure.set_size_inches(9, 4)
    for axes, of in zip(figure.subplots(1, 2), ("latents", "pixels"), strict=True):
        axes.plot([0.4, 1], [0.4, 1], color="grey", lw=0.8)
        axes.set(title=of, xlabel="probability of the interval", ylabel="share that it holds")
        for cell in cells:
            axes.plot(LEVELS, getattr(cell, of).mean(1), "o-", ms=4, label=cell.method)
        axes.legend()
