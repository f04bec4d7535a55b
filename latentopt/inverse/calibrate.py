"""`latentopt.calibrate`: do a posterior's intervals hold the truth as often as they say?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from latentopt import components
from latentopt.arguments import Named, checked
from latentopt.errors import InputError, positive, seed_within, within
from latentopt.inverse.initializers.base import POOL_SEED
from latentopt.inverse.posterior import Posterior, posterior
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.objectives import NoiseModel
from latentopt.operators import Identity
from latentopt.reports import Row
from latentopt.results import SavedResult
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.5, 0.9, 0.95)


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(SavedResult):
    """Shares of latents and pixels that the intervals of posteriors hold, of images whose latents are known."""

    levels: tuple[float, ...]  # of the intervals
    latents: Tensor  # (levels, N), share of each image's latents that its intervals hold
    pixels: Tensor  # (levels, N), share of each image's pixels
    posterior: Posterior  # of the N images

    @property
    def rows(self) -> list[Row]:
        """One row for each level: shares of latents and pixels, with the half-widths of their 95 % intervals."""
        rows = list[Row]()
        for i, level in enumerate(self.levels):
            latents, pixels = student(self.latents[i].tolist()), student(self.pixels[i].tolist())
            values = (level, latents.mean, latents.half_width, pixels.mean, pixels.half_width)
            rows.append(dict(zip(("level", "latents", "latents_+-", "pixels", "pixels_+-"), values, strict=True)))
        return rows

    def summary(self) -> dict[str, Any]:
        """Return the number of images, and the shares of latents and pixels at each level, by name."""
        shares = {}
        for row in self.rows:
            shares |= {f"latents_{row['level']:g}": row["latents"], f"pixels_{row['level']:g}": row["pixels"]}
        return {"images": self.latents.shape[1], **shares}

    def markdown(self) -> str:
        """Return a table of the shares in Markdown."""
        head = ["| interval | latents that it holds | pixels that it holds |", "|---|---|---|"]
        line = "| {level:.0%} | {latents:.1%} ± {latents_+-:.1%} | {pixels:.1%} ± {pixels_+-:.1%} |"
        return "\n".join([*head, *(line.format(**row) for row in self.rows)]) + "\n"

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="calibrated")
        for name in ("latents", "pixels"):
            shares, errors = ([row[key] for row in self.rows] for key in (name, f"{name}_+-"))
            axes.errorbar(self.levels, shares, errors, fmt="o-", ms=4, label=name)  # pyright: ignore[reportArgumentType]
        axes.set(xlabel="probability of the interval", ylabel="share that it holds", xlim=(0, 1), ylim=(0, 1))
        axes.legend()


@checked
def calibrate(
    generator: Generator,
    noise: NoiseModel,
    *,
    operator: Callable[[Tensor], Tensor] | Named | None = None,
    samples: int = 100,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    **settings: Any,
) -> Calibration:
    """Check the intervals of `latentopt.posterior` on images that the generator made, whose latents are known.

    Latents are drawn from the generator's own distribution, measured, and given noise of the model. Over such draws, an
    interval of probability p holds a latent or a pixel with probability p, if the posterior is right (Cook, Gelman and
    Rubin 2006; Talts et al. 2018, arXiv 1804.06788).

    Args:
        generator: a pretrained generator, with one condition for all samples or none.
        noise: the noise model, whose level is known.
        operator: maps images to measurements, or its name; None: the image itself is measured.
        samples: number of images N, >= 1; the check takes as long as the posteriors of as many targets.
        levels: probabilities of the intervals, in (0, 1).
        seed: seed of every random number.
        settings: other arguments of `latentopt.posterior`; its ``samples`` is ``draws`` here.

    Returns:
        A `Calibration`.

    Raises:
        InputError: an argument is not as described, or as `latentopt.posterior`.
    """
    positive("samples", samples, integer=True)
    seed_within(seed)
    if not levels:
        raise InputError("levels", "at least one", "none")
    for level in levels:
        within("levels", level, 0, 1, "()")
    if any(len(values) > 1 for values in generator.conditions.values()):
        raise InputError("generator", "one condition for all samples, or none", "one a sample")
    measure = Identity() if operator is None else components.build("operator", "operator", operator)
    if "draws" in settings:
        settings["samples"] = settings.pop("draws")
    z, rest = generator.hold_out(samples, seed + 3 * POOL_SEED)
    with frozen(generator), torch.no_grad():
        images = generator(z)
        measurement = noise.draw(measure(images), seed)
    problem = Reconstruction(rest, measurement, measure, loss=noise, measured=True)
    found = posterior(problem, seed=seed, **settings)
    truths: dict[Literal["latents", "images"], Tensor] = {"latents": z, "images": images}
    shares = {
        of: torch.stack([_held(truth, *found.interval(level, of)) for level in levels]) for of, truth in truths.items()
    }
    return Calibration(tuple(levels), shares["latents"], shares["images"], found)


def _held(truth: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the share (N,) of each sample's values that lie between two ends."""
    return ((low <= truth) & (truth <= high)).double().flatten(1).mean(1)
