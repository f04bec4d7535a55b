"""Images from few random measurements (Bora et al. 2017, arXiv 1703.03208)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.generators import GENERATORS
from benchmarks.inversion_methods import GATES
from benchmarks.study import chosen, numbers, study
from benchmarks.timing import timed
from latentopt.inverse.priors import GaussianPrior
from latentopt.inverse.reconstruct import reconstruct
from latentopt.metrics import mse
from latentopt.networks.generator import Generator
from latentopt.operators import Gaussian
from latentopt.optimizers import ADRGD, Adam
from latentopt.reports import Report, Row, Table
from latentopt.statistics import MeanInterval, student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NOISE = 0.1
"""Root mean square norm of the noise vector; the standard deviation of one measurement is .1 / sqrt(m)."""
RESTARTS = 10
MEASUREMENTS = {1: (10, 25, 50, 100, 200, 300, 400, 500, 750), 3: (20, 50, 100, 200, 500, 1000, 2500, 5000, 10000)}
"""By number of colours."""
LAYERS = {"layers.2": 0.2, "layers.4": 0.4}
"""Radii of the balls in the layers of `mnist-vae`."""
ALPHAS = (1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1)
TRAINING = 8
"""Number of training images for Lasso's penalty and the generator's representation error."""
NOTE = (
    "Mean squared error per pixel with its standard error, over the test images. One Gaussian matrix per number of "
    "measurements m, with entries of variance 1 / m; noise of mean norm .1. `reconstruct`: the default of the library "
    "with the prior of the MAP estimate, in which the generator's representation error (measured on training images) "
    "is treated as noise. `reconstruct-layers` goes on from there in layers of `mnist-vae` (ILO): "
    f"{', '.join(f'{radius:g} in {name}' for name, radius in LAYERS.items())}, the best of several radii "
    "on 24 training digits. `adr-gd`: the first search by ADR-GD's default, and with its gates off, from the same "
    "starts. `csgm`: as published, Adam at .01 for 1000 steps from 10 random starts, prior weight .1. "
    "Lasso: on pixels, or on the discrete cosine transform of each colour; for each m its penalty is the best one on "
    "training images."
)


@dataclass(frozen=True, eq=False)
class SensingCase:
    """A generator, test images and training images, and a number of measurements."""

    name: str
    generator: Generator
    images: Tensor  # (B, C, H, W)
    training: Tensor  # (B', C, H, W)
    error: float  # mean squared norm of what the generator cannot make
    m: int
    seed: int

    @property
    def operator(self) -> Gaussian:
        return Gaussian(self.m, self.seed)

    @property
    def noise(self) -> float:
        """Standard deviation of the noise of one measurement."""
        return NOISE / self.m**0.5


SensingMethod = Callable[[SensingCase], Tensor]


def default(case: SensingCase, **settings: Any) -> Tensor:
    """Reconstruct by `latentopt.reconstruct` with the prior of the MAP estimate (see `NOTE`), and other settings."""
    weight = (NOISE**2 + case.error) / case.m**2
    result = reconstruct(
        case.generator,
        case.images,
        operator=case.operator,
        noise=case.noise,
        prior=GaussianPrior(weight),
        restarts=RESTARTS,
        seed=case.seed,
        **settings,
    )
    return result.output


def csgm(case: SensingCase) -> Tensor:
    """Reconstruct by CSGM as published."""
    result = reconstruct(
        case.generator,
        case.images,
        operator=case.operator,
        noise=case.noise,
        prior=GaussianPrior(0.1 / case.m),
        optimizer=Adam(0.01, schedule="constant"),
        start="random",
        steps=1000,
        restarts=RESTARTS,
        halving=(),
        patience=None,
        seed=case.seed,
    )
    return result.output


def lasso(case: SensingCase) -> Tensor:
    """Reconstruct by Lasso, with its penalty chosen on training images."""
    training = replace(case, images=case.training)
    errors = [mse(_lasso(training, alpha), training.images).mean().item() for alpha in ALPHAS]
    return _lasso(case, ALPHAS[int(np.argmin(errors))])


def _lasso(case: SensingCase, alpha: float) -> Tensor:
    import warnings

    from scipy.fft import dctn, idctn
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    shape = case.images.shape[1:]
    operator = case.operator
    y = operator.add_noise(operator(case.images), case.noise, case.seed)
    matrix = operator.adjoint(torch.eye(case.m), shape).numpy()  # (m, *shape)
    colours = shape[0] > 1
    rows = np.asarray(dctn(matrix, axes=(2, 3), norm="ortho")) if colours else matrix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Lasso(alpha, fit_intercept=False, max_iter=300, positive=not colours)
        coefficients = model.fit(rows.reshape(case.m, -1), y.numpy().T).coef_.reshape(-1, *shape)
    images = idctn(coefficients, axes=(2, 3), norm="ortho") if colours else coefficients
    return torch.tensor(np.asarray(images), dtype=torch.float32).clamp(0, 1)


METHODS: dict[str, SensingMethod] = {
    "reconstruct": default,
    "reconstruct-layers": partial(default, layers=LAYERS),
    "adr-gd": partial(default, optimizer=ADRGD(GATES[""])),
    "adr-gd-gates-off": partial(default, optimizer=ADRGD(GATES["-gates-off"])),
    "csgm": csgm,
    "lasso": lasso,
}
LAYERED = "mnist-vae"
"""The generator whose `LAYERS` are known."""


@dataclass(frozen=True, eq=False)
class SensingResults:
    """Outcome of a method on a case."""

    method: str
    case: SensingCase
    errors: list[float]
    seconds: float

    @property
    def mean(self) -> MeanInterval:
        return student(self.errors)


@study
def compressed_sensing(
    generators: str = "mlp-vae,mnist-vae,celeba-vae",
    methods: str = "all",
    measurements: str | None = None,
    images: int = 50,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Reconstruct images from few random measurements, with generators and with Lasso.

    Args:
        generators: all, or some of those of `python -m benchmarks reconstruct` with real images.
        methods: all, or some of reconstruct, reconstruct-layers (of mnist-vae alone), adr-gd, adr-gd-gates-off, csgm,
            lasso, between commas.
        measurements: numbers of measurements between commas; default 10 to 750, and 20 to 10000 for colour images.
        images: number of test images; there are 16 faces.
        seed: seed of matrices, noise and starts.
        quick: mnist-vae, 4 images of its own, 25 measurements, as a smoke test.
    """
    known = {name: source for name, source in GENERATORS.items() if source.images}
    sources, runs = chosen("generators", generators, known), chosen("methods", methods, METHODS)
    counts = None if measurements is None else numbers("measurements", measurements, int)
    if quick:
        sources, counts, images = {"mnist-vae": known["mnist-vae"]}, [25], 4
        runs = {name: run for name, run in runs.items() if name in ("reconstruct", "lasso")}
    cells = list[SensingResults]()
    for name, source in sources.items():
        generator = source.build()
        if quick:
            truth = training = generator(generator.latents(images, seed))
        else:
            truth, training = source.targets(0, images, True), source.targets(0, TRAINING, False)
        fitted = reconstruct(generator, training, seed=seed).output
        error = (fitted - training).square().flatten(1).sum(1).mean().item()
        base = SensingCase(name, generator, truth, training, error, 1, seed)
        for m in counts or MEASUREMENTS[truth.shape[1]]:
            fitting = {method: run for method, run in runs.items() if name == LAYERED or "layers" not in method}
            cells += [_ran(method, run, replace(base, m=m)) for method, run in fitting.items()]
    tables = [_table([cell for cell in cells if cell.case.name == name]) for name in sources]
    return Report("Compressed sensing", NOTE, tables, [row for c in cells for row in _rows(c)], partial(_draw, cells))


def _ran(name: str, run: SensingMethod, case: SensingCase) -> SensingResults:
    images = list[Tensor]()
    seconds = timed(lambda: images.append(run(case)))
    return SensingResults(name, case, mse(images[0], case.images).tolist(), seconds.cpu)


def _table(cells: Sequence[SensingResults]) -> Table:
    methods = list(dict.fromkeys(cell.method for cell in cells))
    by_method = {(cell.method, cell.case.m): cell for cell in cells}
    rows = [
        [
            str(m),
            *(_shown(by_method[name, m]) for name in methods),
            *(f"{by_method[name, m].seconds:.1f}" for name in methods),
        ]
        for m in dict.fromkeys(cell.case.m for cell in cells)
    ]
    case = cells[0].case
    note = f"{len(case.images)} images of {case.images[0].numel()} values; {case.generator.latent_shape[0]} latents."
    return Table(case.name, note, ["m", *methods, *(f"CPU s: {name}" for name in methods)], rows)


def _shown(cell: SensingResults) -> str:
    return f"{cell.mean.mean:.4f} +- {cell.mean.error:.4f}"


def _rows(cell: SensingResults) -> list[Row]:
    case = cell.case
    common = {"generator": case.name, "method": cell.method, "m": case.m, "seconds": round(cell.seconds, 2)}
    return [{**common, "image": index, "mse": error} for index, error in enumerate(cell.errors)]


def _draw(cells: Sequence[SensingResults], figure: Figure) -> None:
    names = list(dict.fromkeys(cell.case.name for cell in cells))
    figure.set_size_inches(4.5 * len(names), 3.6)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        axes.set(title=name, xlabel="measurements", ylabel="MSE a pixel", xscale="log", yscale="log")
        for method in dict.fromkeys(cell.method for cell in cells):
            own = [cell for cell in cells if (cell.case.name, cell.method) == (name, method)]
            means = [cell.mean for cell in own]
            axes.errorbar(
                [cell.case.m for cell in own],
                [mean.mean for mean in means],
                [mean.error for mean in means],
                label=method,
                marker=".",
                lw=1,
            )
        axes.legend()
