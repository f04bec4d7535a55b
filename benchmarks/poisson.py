"""Images from few photons, and from pixels with outliers: likelihoods against least squares with a tuned weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.generators import GENERATORS
from benchmarks.statistics import paired
from benchmarks.study import chosen, study
from benchmarks.timing import timed
from latentopt.inverse.initializers import FittedInitializer, Regression
from latentopt.inverse.priors import GaussianPrior, LatentPrior, Prior, Unconstrained
from latentopt.inverse.reconstruct import reconstruct
from latentopt.metrics import mse
from latentopt.networks.generator import Generator
from latentopt.objectives import L1, MSE, GaussianNoise, Loss, PoissonNoise, StudentNoise
from latentopt.operators import Identity
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = "mnist-vae", "celeba-vae"
SIGMA, OUTLIERS = 0.1, 0.1
"""Standard deviation of the noise with outliers, and the share of pixels that are random instead."""
WEIGHTS = 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2
"""Weights of the prior among which each baseline's is chosen."""
TUNING, TUNING_SEED = 50, 1000
"""Number of images on which a weight is chosen, and the seed of their noise; real ones are of the training set."""
NOTE = (
    "Mean squared error per pixel of the images that `lo.reconstruct` finds, against the true ones. `counts`: every "
    "pixel counts photons, {photons:g} on average at 1. `outliers`: noise of standard deviation "
    f"{SIGMA:g}, and {100 * OUTLIERS:.0f} % of the pixels random. `own` images are the generator's, `real` ones of the "
    "test set. A likelihood has the latents' own prior beside it, or none; the prior of other losses has the weight "
    f"that was best, of {len(WEIGHTS)}, on {TUNING} other images of the same kind. Last column: the error less that of "
    "the first method of the noise, image by image, with its 95 % interval."
)


@dataclass(frozen=True)
class Cell:
    """Outcome of a method on images."""

    generator: str
    noise: str
    images: str  # own or real
    method: str
    weight: float | None  # of the prior, where it was chosen
    mse: list[float]
    seconds: float  # of the CPU, for all images


Draw = Callable[[Tensor, int], Tensor]


def _with_outliers(images: Tensor, seed: int) -> Tensor:
    """Return noisy images of which a share of the pixels is uniform in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    replaced = torch.rand(images.shape, generator=generator) < OUTLIERS
    return torch.where(replaced, torch.rand(images.shape, generator=generator), GaussianNoise(SIGMA).draw(images, seed))


@study
def poisson(
    generators: str = "mnist-vae",
    photons: float = 5.0,
    images: int = 100,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Restore images from few photons and from pixels with outliers, by likelihoods and by least squares.

    Args:
        generators: all, or some of mnist-vae, celeba-vae, between commas.
        photons: expected number at a pixel of 1.
        images: number of images of each kind; of celeba-vae at most 16 real ones.
        seed: seed of own images, noise and starts.
        quick: few images, steps and weights, as a smoke test.
    """
    names = list(chosen("generators", generators, {name: GENERATORS[name] for name in NAMES}))
    if quick:
        images = 4
    cells = [cell for name in names for cell in _cells(name, photons, images, seed, quick)]
    tables = [_table(name, [c for c in cells if c.generator == name]) for name in names]
    return Report("Noise models", NOTE.format(photons=photons), tables, _rows(cells), partial(_draw, cells))


def _cells(name: str, photons: float, images: int, seed: int, quick: bool) -> list[Cell]:
    source = GENERATORS[name]
    generator = source.build().fused()
    start = Regression().fit(generator, Identity(), seed)
    with torch.no_grad():
        own = [generator(generator.latents(count, seed + 1 + shift)) for shift, count in ((0, images), (1, TUNING))]
    kinds = {
        "own": own,
        "real": [source.targets(0, images, held_out=True), source.targets(0, TUNING, held_out=False)],
    }
    noises: dict[str, tuple[Draw, Loss, Sequence[Loss]]] = {
        "counts": (PoissonNoise(photons).draw, PoissonNoise(photons), [MSE()]),
        "outliers": (_with_outliers, StudentNoise(SIGMA), [MSE(), L1()]),
    }
    run = partial(_restore, generator, start, seed, quick)
    cells = list[Cell]()
    for noise, (draw, likelihood, losses) in noises.items():
        for kind, (targets, others) in kinds.items():
            measured, tuning = draw(targets, seed), draw(others, TUNING_SEED)
            methods: dict[str, tuple[Loss, Prior, float | None]] = {
                f"{type(likelihood).__name__}, own prior": (likelihood, LatentPrior(), None),
                f"{type(likelihood).__name__}, no prior": (likelihood, Unconstrained(), None),
            }
            for loss in losses:
                errors = {
                    w: run(loss, GaussianPrior(w), others, tuning)[0] for w in (WEIGHTS[::4] if quick else WEIGHTS)
                }
                best = min(errors, key=lambda w, errors=errors: sum(errors[w]))
                methods[f"{type(loss).__name__}, best weight"] = (loss, GaussianPrior(best), best)
                methods[f"{type(loss).__name__}, no prior"] = (loss, Unconstrained(), None)
            for method, (loss, prior, weight) in methods.items():
                error, seconds = run(loss, prior, targets, measured)
                cells.append(Cell(name, noise, kind, method, weight, error, seconds))
    return cells


def _restore(
    generator: Generator,
    start: FittedInitializer,
    seed: int,
    quick: bool,
    loss: Loss,
    prior: Prior,
    images: Tensor,
    measured: Tensor,
) -> tuple[list[float], float]:
    """Return the errors of the images found from measurements, and the CPU seconds."""
    found = list[Tensor]()

    def search() -> None:
        result = reconstruct(
            generator,
            measured,
            measured=True,
            loss=loss,
            prior=prior,
            start=start,
            seed=seed,
            steps=3 if quick else 400,
        )
        found.append(result.output)

    seconds = timed(search).cpu
    return mse(found[0], images).tolist(), seconds


def _rows(cells: Sequence[Cell]) -> list[Row]:
    return [
        {**asdict(cell), "image": image, "mse": error, "seconds": round(cell.seconds, 2)}
        for cell in cells
        for image, error in enumerate(cell.mse)
    ]


def _table(name: str, cells: Sequence[Cell]) -> Table:
    rows, first = list[list[str]](), dict[tuple[str, str], Cell]()
    for cell in cells:
        base = first.setdefault((cell.noise, cell.images), cell)
        error = student(cell.mse)
        difference = paired(cell.mse, base.mse).difference
        against = "" if cell is base else f"{difference.mean:+.5f} [{difference.low:+.5f}, {difference.high:+.5f}]"
        weight = "" if cell.weight is None else f"{cell.weight:g}"
        texts = [cell.noise, cell.images, cell.method, weight, f"{error.mean:.5f} +- {error.error:.5f}", against]
        rows.append([*texts, f"{cell.seconds:.1f}"])
    return Table(name, "", ["noise", "images", "method", "weight", "MSE", "against the first", "CPU s"], rows)


def _draw(cells: Sequence[Cell], figure: Figure) -> None:
    groups: Mapping[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups = {**groups, (key := (cell.generator, cell.noise, cell.images)): [*groups.get(key, []), cell]}
    figure.set_size_inches(4.5 * len(groups), 3.6)
    for axes, (key, mine) in zip(figure.subplots(1, len(groups), squeeze=False).flat, groups.items(), strict=True):
        axes.set(title=", ".join(key), ylabel="MSE a pixel")
        axes.bar(range(len(mine)), [student(cell.mse).mean for cell in mine])
        axes.set_xticks(range(len(mine)), [cell.method for cell in mine], rotation=30, ha="right", fontsize=7)
