"""Many real images inverted from a trained encoder's prediction and from kernel regression's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.generators import GENERATORS
from benchmarks.study import chosen, numbers, study
from benchmarks.timing import timed
from latentopt.inverse.initializers import Encoder, FittedInitializer, Initializer, Regression
from latentopt.inverse.reconstruct import HALVING, reconstruct
from latentopt.jobs.train_encoder import train_encoder
from latentopt.networks.generator import Generator
from latentopt.operators import Identity
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAMES = "mnist-vae", "mnist-dcgan"
CHUNK = 250
"""Images inverted together."""
RESTARTS, STEPS = 8, 400
"""Those of the default search, which is measured beside single restarts."""
NOTE = (
    "Mean squared error per pixel over the first test images of MNIST, by L-BFGS with a memory of 64. `encoder`: from "
    "what an encoder predicts that `latentopt train train-encoder` trained on the generator's own samples. "
    "`regression`: from the prediction of kernel regression on 2,000 samples, the default. Evaluations are forwards "
    "and backwards of an image. What the start costs once is in a column of its own. With 1 restart, all steps are "
    f"its; with {RESTARTS}, the default search, the best go on to {STEPS} steps."
)


@dataclass(frozen=True)
class StartResult:
    """Outcome of a search from a start."""

    generator: str
    start: str
    restarts: int
    steps: int
    images: int
    mse: float
    standard_error: float
    evaluations: float  # forwards and backwards of an image, without those of the fit
    seconds: float  # of the CPU, for all images
    learning: float  # CPU seconds of the training or fit


@study
def learnt_starts(
    generators: str = "all",
    steps: str = "5,10,20,40,80",
    images: int = 1000,
    whole: int = 250,
    epochs: int = 10,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Invert many real images from a trained encoder and from regression.

    Args:
        generators: all, or some of mnist-vae, mnist-dcgan, between commas.
        steps: numbers of steps of single restarts, between commas.
        images: number of test images.
        whole: number of images of the default search, which costs most.
        epochs: epochs of the encoder's training, of 200 batches of 64 samples each.
        seed: seed of the training and of starts.
        quick: mnist-vae, few images, steps and epochs, as a smoke test.
    """
    counts = numbers("steps", steps, int)
    names = list(chosen("generators", generators, {name: GENERATORS[name] for name in NAMES}))
    training: dict[str, Any] = {"epochs": epochs, "seed": seed, "wandb": "disabled", "device": "cpu"}
    if quick:
        names, counts, images, whole = [NAMES[0]], (5,), 8, 4
        training |= {"epochs": 1, "batches": 3, "batch_size": 8, "width": 4, "hidden": 16}
    longest = 20 if quick else STEPS
    results = [r for name in names for r in _results(name, counts, longest, images, whole, seed, training)]
    tables = [_table(name, [r for r in results if r.generator == name]) for name in names]
    return Report("Learnt starts", NOTE, tables, [_row(r) for r in results], partial(_draw, results))


def _results(
    name: str,
    counts: Sequence[int],
    longest: int,
    images: int,
    whole: int,
    seed: int,
    training: dict[str, Any],
) -> list[StartResult]:
    source = GENERATORS[name]
    generator, targets = source.build().fused(), source.targets(0, images, held_out=True)
    fitted, learning = dict[str, FittedInitializer](), dict[str, float]()
    with TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder.safetensors"
        train = partial(train_encoder, model=name, out=str(encoder), log=folder, **training)
        work: dict[str, Callable[[], Initializer]] = {
            "encoder": lambda: Encoder(path=train()),
            "regression": Regression,
        }
        for start, make in work.items():

            def fit(start: str = start, make: Callable[[], Initializer] = make) -> None:
                fitted[start] = make().fit(generator, Identity(), seed)

            learning[start] = timed(fit).cpu
    results = list[StartResult]()
    for start, first in fitted.items():
        searches = [(1, count, targets) for count in counts] + [(RESTARTS, longest, targets[:whole])]
        for restarts, count, part in searches if start == "regression" else searches[:-1]:
            results.append(_search(name, generator, part, start, first, restarts, count, learning[start], seed))
    return results


def _search(
    name: str,
    generator: Generator,
    targets: Tensor,
    start: str,
    first: FittedInitializer,
    restarts: int,
    steps: int,
    learning: float,
    seed: int,
) -> StartResult:
    values, evaluations, seconds = list[Tensor](), list[Tensor](), 0.0
    halving = HALVING if restarts > 1 else ()
    for part in targets.split(CHUNK):
        search = partial(
            reconstruct, generator, part, start=first, steps=steps, restarts=restarts, halving=halving, seed=seed
        )

        def invert(search: Any = search) -> None:
            result = search()
            values.append(result.value)
            evaluations.append(result.forwards + result.backwards)

        seconds += timed(invert).cpu
    mean = student(torch.cat(values).tolist())
    cost = float(torch.cat(evaluations).double().mean())
    return StartResult(name, start, restarts, steps, len(targets), mean.mean, mean.error, cost, seconds, learning)


def _row(result: StartResult) -> Row:
    return {**asdict(result), "seconds": round(result.seconds, 2), "learning": round(result.learning, 2)}


def _table(name: str, results: Sequence[StartResult]) -> Table:
    header = ["start", "restarts", "steps", "images", "MSE", "evaluations", "CPU s for 1,000", "CPU s once"]
    rows = [
        [
            result.start,
            str(result.restarts),
            str(result.steps),
            str(result.images),
            f"{result.mse:.5f} +- {result.standard_error:.5f}",
            f"{result.evaluations:.0f}",
            f"{1000 * result.seconds / result.images:.1f}",
            f"{result.learning:.1f}",
        ]
        for result in results
    ]
    return Table(name, "", header, rows)


def _draw(results: Sequence[StartResult], figure: Figure) -> None:
    names = list(dict.fromkeys(result.generator for result in results))
    figure.set_size_inches(4.5 * len(names), 3.6)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        axes.set(title=name, xlabel="evaluations of an image", ylabel="MSE a pixel", xscale="log", yscale="log")
        for start in ("encoder", "regression"):
            own = [r for r in results if (r.generator, r.start, r.restarts) == (name, start, 1)]
            axes.plot([r.evaluations for r in own], [r.mse for r in own], label=start, marker=".", lw=1)
        for r in results:
            if (r.generator, r.restarts) == (name, RESTARTS):
                axes.scatter(r.evaluations, r.mse, label=f"{r.start}, default", marker="x")
        axes.legend()
