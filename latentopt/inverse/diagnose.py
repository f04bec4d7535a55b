"""`latentopt.diagnose`: why images are not reconstructed, the optimiser's fault or the generator's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError, positive
from latentopt.inverse.initializers.base import POOL_SEED
from latentopt.inverse.reconstruct import reconstruct
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.solver.result import Result
from latentopt.statistics import wilson

FOUND = 0.5
"""Of the generator's own images; a share under this is the optimiser's fault."""
FITTED = 0.5
"""Of the targets; a share under this, while own images are found, is the generator's."""

Verdict = Literal["optimiser", "generator", "neither"]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found."""

    own: Result  # of images that the generator made
    images: Tensor  # (samples, C, H, W), those images
    found: Result | None  # of the targets
    recovered: float  # share of the own images found again
    interval: tuple[float, float]  # of that share, 95 % (Wilson 1927)
    own_error: Tensor  # (samples,) loss at what was found
    error: Tensor | None  # (B,) loss of the targets
    verdict: Verdict
    explanation: str

    def __str__(self) -> str:
        return self.explanation


def diagnose(
    generator: Generator,
    target: Tensor | None = None,
    *,
    operator: Callable[[Tensor], Tensor] | None = None,
    samples: int = 16,
    tolerance: float = 1e-4,
    seed: int = 0,
    **settings: Any,
) -> Diagnosis:
    """Tell why reconstructions are bad: invert images that the generator made itself, which can be fitted exactly.

    The rule, of an image found or fitted where its loss is below ``tolerance``: fewer than half of the generator's own
    images found is ``optimiser``, whatever the targets (``generator``, if it is randomised: then no image can be found
    again exactly); else fewer than half of the targets fitted is ``generator``; else ``neither``. Own images are of the
    generator's own latents, seen through the operator as the targets are; where that, the loss or the prior is another
    for each target, through those of the targets in turn.

    Args:
        generator: a pretrained generator, with one condition for all samples or none.
        target: images or measurements (B, ...), as in `latentopt.reconstruct`; None: only the own images are tried,
            and the verdict is ``optimiser`` or ``neither``.
        operator: as in `latentopt.reconstruct`.
        samples: own images, >= 1.
        tolerance: > 0, in units of the loss, the prior's penalty included.
        seed: of the own images and of the search.
        settings: others of `latentopt.reconstruct`, the same for own images and targets; ``measured`` and ``callbacks``
            are of the targets only. Of noise, the tolerance has to be above its square, or nothing can be found.

    Raises:
        InputError: an argument is not as described, or the start is latents or a result, which are of the targets.

    Warns:
        NetworkWarning: as `latentopt.reconstruct`.
    """
    if isinstance(settings.get("start"), Tensor | Result):
        raise InputError("start", "a way to find starts, for own images too", type(settings["start"]).__name__)
    positive("samples", samples, integer=True)
    positive("tolerance", tolerance)
    if any(len(values) > 1 for values in generator.conditions.values()):
        raise InputError("generator", "one condition for all samples, or none", "one a sample")
    with frozen(generator), torch.no_grad():
        z, rest = generator.hold_out(samples, seed + 2 * POOL_SEED)  # no pool has them
        images = generator(z)
    noisy = not generator.is_deterministic()
    common = {"operator": operator, "tolerance": tolerance, "seed": seed}
    found = None if target is None else reconstruct(generator, target, **common, **settings)
    alike = {**common, **{name: value for name, value in settings.items() if name not in ("measured", "callbacks")}}
    if target is not None:
        turn = torch.arange(samples) % len(target)
        alike |= {name: take(alike[name], turn) for name in ("operator", "loss", "prior") if name in alike}
    own = reconstruct(rest, images, measured=False, **alike)
    count = int((own.value < tolerance).sum())
    interval, error = wilson(count, samples), None if found is None else found.value
    fitted = None if error is None else int((error < tolerance).sum())
    verdict: Verdict = "neither"
    if count < FOUND * samples:
        verdict = "generator" if noisy else "optimiser"
    elif error is not None and fitted is not None and fitted < FITTED * len(error):
        verdict = "generator"
    said = _explained(verdict, own.value, interval, error, tolerance, noisy)
    return Diagnosis(own, images, found, count / samples, interval, own.value, error, verdict, said)


def _explained(
    verdict: Verdict,
    own: Tensor,
    interval: tuple[float, float],
    error: Tensor | None,
    tolerance: float,
    noisy: bool,
) -> str:
    count, (low, high) = int((own < tolerance).sum()), (100 * end for end in interval)
    said = f"Of {len(own)} images that the generator made itself, {count} are found again"
    said += f" (loss below {tolerance:g}; 95 % interval {low:.0f} to {high:.0f} %), median loss {own.median():.2g}."
    if error is not None:
        fitted = int((error < tolerance).sum())
        said += f" Of {len(error)} targets, {fitted} are fitted, median loss {error.median():.2g}."
    if noisy:
        return (
            said + " The generator gives another image at each call, so no image can be found again exactly, whatever"
            " the search: fix its noise first."
        )
    match verdict, error:
        case "optimiser", _:
            said += " As an exact fit of the own images exists, the optimiser is at fault: take more steps or restarts,"
            said += " another start, another step size or another method."
        case "generator", _:
            said += " As the same search finds what the generator can make, the targets are likely not among it:"
            said += " a longer search will hardly fit them; take another generator, or one trained on such images."
        case _, None:
            said += " The optimiser does its work; without targets nothing is said of what the generator can make."
        case _:
            said += " Neither the optimiser nor the generator is at fault."
    return said
