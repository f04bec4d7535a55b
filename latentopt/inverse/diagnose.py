"""`latentopt.diagnose`: why images are not reconstructed, the optimiser's fault or the generator's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from latentopt import components
from latentopt.arguments import Files, Named, Values, checked
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import take
from latentopt.errors import InputError, positive, seed_within
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer
from latentopt.inverse.reconstruct import reconstruct
from latentopt.networks.generator import Generator
from latentopt.networks.generator_checks import finite_images
from latentopt.progress import ProgressLine
from latentopt.reports import Row
from latentopt.results import SavedResult, draw_sorted
from latentopt.solver.result import Result
from latentopt.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_RECOVERED = 0.5
"""Share of the generator's own images; below it the optimiser is at fault."""
MIN_FITTED = 0.5
"""Share of the targets; below it, while own images are recovered, the generator is at fault."""

Verdict = Literal["optimiser", "generator", "neither"]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(SavedResult):
    """The verdict of `diagnose`, and the results it follows from."""

    own: Result  # of images that the generator made
    images: Tensor  # (samples, C, H, W), those images
    found: Result | None  # of the targets
    recovered: float  # share of the own images that were recovered
    interval: tuple[float, float]  # of that share, 95 % (Wilson 1927)
    own_error: Tensor  # (samples,) loss of the own images
    error: Tensor | None  # (B,) loss of the targets
    verdict: Verdict  # who is at fault
    explanation: str  # the verdict and its figures, in sentences

    def __str__(self) -> str:
        return self.explanation

    @property
    def rows(self) -> list[Row]:
        """One row for each own image and each target: its kind and loss."""
        kinds = {"own": self.own_error, "target": self.error}
        return [
            {"kind": kind, "sample": sample, "loss": loss}
            for kind, losses in kinds.items()
            for sample, loss in enumerate([] if losses is None else losses.tolist())
        ]

    def summary(self) -> dict[str, Any]:
        """Return the verdict, the share of own images recovered with its interval, and the median losses, by name."""
        medians = {"median_own_loss": float(self.own_error.median())}
        if self.error is not None:
            medians["median_target_loss"] = float(self.error.median())
        return {"verdict": self.verdict, "recovered": self.recovered, "interval": self.interval, **medians}

    def _draw(self, figure: Figure) -> None:
        curves = {"own images": self.own_error} | ({} if self.error is None else {"targets": self.error})
        draw_sorted(figure.subplots(), curves, "loss")


@outside_inference_mode
@checked
def diagnose(
    generator: Generator,
    target: Values | Files | None = None,
    *,
    operator: Callable[[Tensor], Tensor] | Named | None = None,
    samples: int = 16,
    tolerance: float = 1e-4,
    seed: int = 0,
    **settings: Any,
) -> Diagnosis:
    """Tell why reconstructions are bad: reconstruct images that the generator made itself, which can be fitted exactly.

    An image is recovered, or fitted, where its loss is below ``tolerance``. The rule: where fewer than half of the
    generator's own images are recovered, the verdict is ``optimiser``, whatever the targets (``generator``, where it is
    randomised: then no image can be recovered exactly). Else, where fewer than half of the targets are fitted, it is
    ``generator``; else ``neither``. Own images are of the generator's own latents and measured as the targets are;
    where the operator, the loss or the prior differs from target to target, by those of the targets in turn.

    Args:
        generator: a pretrained generator, with one condition for all samples or none.
        target: images or measurements (B, ...), as in `latentopt.reconstruct`; None: only own images are tried, and
            the verdict is ``optimiser`` or ``neither``.
        operator: as in `latentopt.reconstruct`.
        samples: number of own images, >= 1; those that are not finite are left out.
        tolerance: > 0, in units of the loss, the prior's penalty included. With noise, it has to be above its square.
        seed: seed of the own images and of the search.
        settings: other arguments of `latentopt.reconstruct`, the same for own images and targets; ``measured`` and
            ``callbacks`` hold for the targets only.

    Returns:
        The verdict, and the results it follows from.

    Raises:
        InputError: an argument is not as described, or the start is latents or a result, which belong to the targets.

    Warns:
        NetworkWarning: as `latentopt.reconstruct`.
    """
    seed_within(seed)
    if "start" in settings:
        start = settings["start"]
        if not isinstance(start, FittedInitializer):
            settings["start"] = components.build("start", "initializer", start)
    positive("samples", samples, integer=True)
    positive("tolerance", tolerance)
    if any(len(values) > 1 for values in generator.conditions.values()):
        raise InputError("generator", "one condition for all samples, or none", "one a sample")
    z, rest = generator.hold_out(samples, seed + 2 * POOL_SEED)  # no pool has them
    z, images = finite_images(generator, z)
    randomised = not generator.is_deterministic()
    common = {"operator": operator, "tolerance": tolerance, "seed": seed}
    with ProgressLine("diagnose", 1 + (target is not None), "reconstruction") as line:
        of_targets = None if target is None else reconstruct(generator, target, **common, **settings)
        line.update(target is not None)
        own_settings = {
            **common,
            **{name: value for name, value in settings.items() if name not in ("measured", "callbacks")},
        }
        if of_targets is not None:
            rows = torch.arange(len(images), device="cpu") % len(of_targets.value)
            own_settings |= {n: take(own_settings[n], rows) for n in ("operator", "loss", "prior") if n in own_settings}
        own = reconstruct(rest, images, measured=False, **own_settings)
    recovered, error = int((own.value < tolerance).sum()), None if of_targets is None else of_targets.value
    fitted = None if error is None else int((error < tolerance).sum())
    verdict: Verdict = "neither"
    if recovered < MIN_RECOVERED * len(images):
        verdict = "generator" if randomised else "optimiser"
    elif error is not None and fitted is not None and fitted < MIN_FITTED * len(error):
        verdict = "generator"
    interval = wilson(recovered, len(images))
    explanation = _explain(verdict, own.value, interval, error, tolerance, randomised)
    return Diagnosis(own, images, of_targets, recovered / len(images), interval, own.value, error, verdict, explanation)


def _explain(
    verdict: Verdict,
    own: Tensor,
    interval: tuple[float, float],
    error: Tensor | None,
    tolerance: float,
    randomised: bool,
) -> str:
    recovered, (low, high) = int((own < tolerance).sum()), (100 * end for end in interval)
    text = f"Of {len(own)} images that the generator made itself, {recovered} are found again"
    text += f" (loss below {tolerance:g}; 95 % interval {low:.0f} to {high:.0f} %), median loss {own.median():.2g}."
    if error is not None:
        fitted = int((error < tolerance).sum())
        text += f" Of {len(error)} targets, {fitted} are fitted, median loss {error.median():.2g}."
    if randomised:
        text += " The generator gives another image at each call, so no image can be found again exactly, whatever the"
        text += " search: fix its noise first."
    elif verdict == "optimiser":
        text += " As an exact fit of the own images exists, the optimiser is at fault: take more steps or restarts,"
        text += " another start, another step size or another method."
    elif verdict == "generator":
        text += " As the same search finds what the generator can make, the targets are likely not among it:"
        text += " a longer search will hardly fit them; take another generator, or one trained on such images."
    elif error is None:
        text += " The optimiser does its work; without targets nothing is said of what the generator can make."
    else:
        text += " Neither the optimiser nor the generator is at fault."
    return text
