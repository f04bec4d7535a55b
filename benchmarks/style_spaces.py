"""Digits in the latent spaces of a StyleGAN2 and beyond: z, w, w+, noise maps, layers (ILO), weights (PTI)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.generators import GENERATORS
from benchmarks.inversion_methods import GATES
from benchmarks.study import chosen, stored, study
from latentopt import metrics
from latentopt.inverse.priors import NoiseMapPrior
from latentopt.inverse.reconstruct import reconstruct
from latentopt.inverse.tune import tune
from latentopt.networks.generator import Generator
from latentopt.optimizers import ADRGD, LBFGS, Adam, Optimizer
from latentopt.reports import Report, Row, Table
from latentopt.statistics import student
from latentopt.zoo.stylegan2 import in_space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOISE_WEIGHT = 1e-3
"""Weight of the correlation of noise maps, beside a mean squared error."""
TUNING = Adam(3e-3, schedule="constant")
"""Method of PTI, of steps of 3e-4, 1e-3 and 3e-3 the best on three other digits; the paper's is the first."""
PROJECTED = 5
"""Steps of the projector, whose own number is 1,000, for each step of a stage."""
LAYERS = {"network.convs.1": 0.1, "network.convs.3": 0.1}
"""Radii of the balls in the layers of ILO: the last ones of 8 x 8 and 16 x 16 pixels."""
NOTE = (
    "Mean squared error per pixel with its standard error, on the first test images of MNIST, 32 x 32. Every method of "
    "ours is L-BFGS with a memory of 64 and at most the same number of steps in each stage. z and w start at the "
    "regression's prediction, with 8 restarts. w+ goes on from w, noise maps and ILO from w+, PTI (each image has its "
    "own weights, which Adam moves) from w. Radii of ILO: "
    f"{', '.join(f'{radius:g} in {name}' for name, radius in LAYERS.items())}. `projector`: the recipe of "
    "rosinality/stylegan2-pytorch written again, with a mean squared error and five times the steps, in w and noise "
    "maps. ADR-GD: its default in w, and with its gates off. CPU seconds for all images together, with those of the "
    "stages before."
)


@dataclass(frozen=True, eq=False)
class StyleCase:
    """Images (B, 1, 32, 32) for a StyleGAN2, a number of steps and a seed."""

    network: nn.Module
    targets: Tensor
    steps: int
    seed: int

    def generator(self, space: str, noise: bool = False) -> Generator:
        return in_space(self.network, space, noise=noise)


Latents = dict[str, Tensor]
Stage = Callable[[StyleCase, Latents], tuple[Tensor, Tensor]]
"""Maps latents of earlier stages by name to latents and images."""


def _search(
    case: StyleCase, generator: Generator, optimizer: Optimizer = LBFGS(memory=64), **settings: Any
) -> tuple[Tensor, Tensor]:
    result = reconstruct(generator, case.targets, optimizer=optimizer, steps=case.steps, seed=case.seed, **settings)
    return result.x, result.output


def from_samples(space: str, case: StyleCase, found: Latents, **settings: Any) -> tuple[Tensor, Tensor]:
    """Search from the regression's prediction."""
    return _search(case, case.generator(space), start="regression", **settings)


def styles(case: StyleCase, found: Latents) -> tuple[Tensor, Tensor]:
    """Search in w+ from w."""
    generator = case.generator("w+")
    start = found["w"][:, None].expand(-1, generator.latent_shape[0], -1)[None]
    return _search(case, generator, start=start, restarts=1)


def noise_maps(normal: bool, case: StyleCase, found: Latents) -> tuple[Tensor, Tensor]:
    """Search in w+ and the noise maps, which are free, or stay ``normal`` as in the projector."""
    generator = case.generator("w+", noise=True)
    drawn = generator.parts(generator.latents(len(case.targets), case.seed)) | {"w": found["w+"]}
    start = generator.join(drawn)
    if not normal:
        return _search(case, generator, start=start[None], restarts=1)
    prior = NoiseMapPrior(NOISE_WEIGHT)
    start = prior.feasible(generator).project(start)
    return _search(case, generator, start=start[None], restarts=1, prior=prior)


def layers(case: StyleCase, found: Latents) -> tuple[Tensor, Tensor]:
    """Search in layers from w+."""
    return _search(case, case.generator("w+"), start=found["w+"][None], restarts=1, layers=LAYERS)


def weights(case: StyleCase, found: Latents) -> tuple[Tensor, Tensor]:
    """Tune the weights to each image from its w."""
    generator = case.generator("w")
    settings: dict[str, Any] = {"optimizer": TUNING, "steps": case.steps, "anchors": 4}
    pairs = zip(found["w"].split(1), case.targets.split(1), strict=True)
    images = [tune(generator, w, target, seed=case.seed, **settings).output for w, target in pairs]
    return found["w"], torch.cat(images)


def projector(case: StyleCase, found: Latents) -> tuple[Tensor, Tensor]:
    """Run the projector's recipe by hand: Adam with a ramp up and down, noise on w, noise maps that stay normal."""
    generator = case.generator("w", noise=True)
    drawn = case.generator("w").latents(10_000, case.seed)
    mean = drawn.mean(0)
    spread = (drawn - mean).square().sum(1).mean().sqrt()
    parts = generator.parts(generator.latents(len(case.targets), case.seed))
    maps = {name: part.clone().requires_grad_() for name, part in parts.items() if name != "w"}
    w = mean.repeat(len(case.targets), 1).requires_grad_()
    adam, draws = torch.optim.Adam([w, *maps.values()], 0.1), torch.Generator().manual_seed(case.seed)
    steps = PROJECTED * case.steps
    for step in range(steps):
        t = step / steps
        adam.param_groups[0]["lr"] = 0.1 * (0.5 - 0.5 * math.cos(math.pi * min(1, (1 - t) / 0.25))) * min(1, t / 0.05)
        noise = 0.05 * spread * max(0.0, 1 - t / 0.75) ** 2 * torch.randn(w.shape, generator=draws)
        image = generator(_joined(generator, w + noise, maps))
        fit = (image - case.targets).square().flatten(1).mean(1).sum()
        adam.zero_grad()
        (fit + NOISE_WEIGHT * sum(map(_correlation, maps.values()))).backward()
        adam.step()
        with torch.no_grad():
            for part in maps.values():
                part.sub_(part.mean((1, 2, 3), keepdim=True)).div_(part.std((1, 2, 3), keepdim=True))
    with torch.no_grad():
        z = _joined(generator, w, maps)
        return z, generator(z)


def _joined(generator: Generator, w: Tensor, maps: Latents) -> Tensor:
    """Join latents as `Generator.join`, with their gradients."""
    return torch.cat([{"w": w, **maps}[name].flatten(1) for name in generator.part_shapes], 1)


def _correlation(noise: Tensor) -> Tensor:
    """Return the squared correlations of maps with their neighbours, on all scales from 8 x 8 pixels, summed."""
    total = torch.zeros(())
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square().sum()
        if noise.shape[-1] <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)


METHODS: dict[str, tuple[Stage, tuple[str, ...]]] = {
    "z": (partial(from_samples, "z"), ()),
    "w": (partial(from_samples, "w"), ()),
    "w+": (styles, ("w",)),
    "w+ and noise": (partial(noise_maps, False), ("w", "w+")),
    "w+ and normal noise": (partial(noise_maps, True), ("w", "w+")),
    "ILO": (layers, ("w", "w+")),
    "PTI": (weights, ("w",)),
    "projector": (projector, ()),
    "w by ADR-GD": (partial(from_samples, "w", optimizer=ADRGD(GATES[""])), ()),
    "w by ADR-GD without gates": (partial(from_samples, "w", optimizer=ADRGD(GATES["-gates-off"])), ()),
}
"""Methods, and the stages before them."""


@study
def style_spaces(
    methods: str = "all",
    images: int = 64,
    steps: int = 200,
    seed: int = 0,
    quick: bool = False,
    *,
    folder: Path,
) -> Report:
    """Invert digits in every latent space of mnist-stylegan2, and beyond it.

    Latents and errors of each method lie in ``out/outcomes`` and are not computed again.

    Args:
        methods: all, or some, between commas; the stages before them run too.
        images: number of test images.
        steps: steps of a stage.
        seed: seed of starts.
        quick: w and w+ of 2 images in 3 steps, as a smoke test.
    """
    known = chosen("methods", methods, METHODS)
    if quick:
        known, images, steps = {name: METHODS[name] for name in ("w", "w+")}, 2, 3
    names = [name for name in METHODS if name in known or any(name in before for _, before in known.values())]
    source = GENERATORS["mnist-stylegan2"]
    case = StyleCase(source.build().module, source.targets(0, images, True), steps, seed)
    found, outcomes = Latents(), dict[str, dict[str, Any]]()
    for name in names:

        def work(name: str = name) -> dict[str, Any]:
            begun = time.process_time()
            x, image = METHODS[name][0](case, found)
            seconds = time.process_time() - begun
            mse, psnr = (score(image, case.targets).tolist() for score in (metrics.mse, metrics.psnr))
            return {"x": x.tolist(), "mse": mse, "psnr": psnr, "seconds": seconds}

        settings = {"method": name, "images": images, "steps": steps, "seed": seed}
        outcomes[name] = stored(folder / "outcomes" / f"{name}.json", settings, work)
        found[name] = torch.tensor(outcomes[name]["x"])
    rows = [row for name in names for row in _rows(name, outcomes)]
    return Report("Spaces of a StyleGAN2", NOTE, [_table(names, outcomes)], rows, partial(_draw, names, outcomes))


def _seconds(name: str, outcomes: Mapping[str, dict[str, Any]]) -> float:
    return sum(outcomes[stage]["seconds"] for stage in (*METHODS[name][1], name))


def _table(names: Sequence[str], outcomes: Mapping[str, dict[str, Any]]) -> Table:
    lines = []
    for name in names:
        mean, psnr = student(outcomes[name]["mse"]), student(outcomes[name]["psnr"])
        error, seconds = f"{mean.mean:.5f} +- {mean.error:.5f}", f"{_seconds(name, outcomes):.1f}"
        lines.append([name, error, f"{psnr.mean:.2f}", seconds])
    images = len(outcomes[names[0]]["mse"])
    return Table("mnist-stylegan2", f"{images} test images.", ["method", "MSE", "PSNR", "CPU s"], lines)


def _rows(name: str, outcomes: Mapping[str, dict[str, Any]]) -> list[Row]:
    seconds = round(_seconds(name, outcomes), 2)
    return [{"method": name, "seconds": seconds, "image": i, "mse": mse} for i, mse in enumerate(outcomes[name]["mse"])]


def _draw(names: Sequence[str], outcomes: Mapping[str, dict[str, Any]], figure: Figure) -> None:
    axes = figure.subplots()
    axes.bar(names, [student(outcomes[name]["mse"]).mean for name in names])
    axes.set(ylabel="MSE", yscale="log")
    axes.tick_params(axis="x", rotation=45)
