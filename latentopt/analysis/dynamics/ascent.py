"""Raw gradient ascent on a classifier's loss: ``delta <- delta + a grad loss(x + delta)``, each sample by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.dynamics.linear_region import loss_at_input
from latentopt.batch_math import per_sample, sample_norm
from latentopt.classification import Loss
from latentopt.errors import InputError
from latentopt.optimizers import GD, Optimizer
from latentopt.optimizers.registry import method
from latentopt.sets import FeasibleSet


class AscentStep(NamedTuple):
    """The ascent after a step."""

    delta: Tensor  # (B, *shape)
    value: Tensor  # (B,) loss
    gradient: Tensor  # (B, *shape) of the loss
    flips: Tensor  # (B,) long, number of gates that differ from the clean input's


def ascend(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    loss: Loss,
    a: Tensor,
    steps: int,
    feasible: FeasibleSet | None = None,
    first: int = 0,
) -> Iterator[AscentStep]:
    """Yield the ascent after each step; perturbations are summed apart from the input, to keep small ones' digits.

    Args:
        network, x, labels, loss: validated.
        a: (B,) step sizes.
        steps: number of steps.
        feasible: a set that the ascent must not leave.
        first: the number of the first sample, for messages.

    Raises:
        InputError: an input or a loss is not finite, or the set would change a step.
    """
    start = loss_at_input(network, x, labels, loss)
    loss_at, delta = start, torch.zeros_like(x)
    for m in range(1, steps + 1):
        delta = delta + per_sample(a, x) * loss_at.gradient
        _require("step", "a step size with which the ascent stays finite", delta.flatten(1).isfinite().all(1), m, first)
        if feasible is not None:
            moved = sample_norm(feasible.project(x + delta) - (x + delta))
            slack = 10 * torch.finfo(x.dtype).eps * sample_norm(x + delta)
            expected = "a set that the ascent does not leave, as the formulas know no projection"
            _require("feasible", expected, moved <= slack, m, first)
        loss_at = loss_at_input(network, x + delta, labels, loss)
        _require("step", "a step size with which the loss stays finite", loss_at.value.isfinite(), m, first)
        yield AscentStep(delta, loss_at.value, loss_at.gradient, (loss_at.pattern != start.pattern).sum(1))


def _require(name: str, expected: str, is_valid: Tensor, m: int, first: int) -> None:
    broken = (~is_valid).nonzero()[:, 0].tolist()
    if broken:
        raise InputError(name, expected, f"sample {broken[0] + first}, which leaves it at step {m}")


def require_raw_ascent(optimizer: Optimizer | str | None, a: Tensor) -> None:
    """Raise `InputError` unless the method's step is ``x + a g``, with these step sizes (B,)."""
    if optimizer is None:
        return
    chosen = method(optimizer)
    expected = "raw gradient ascent, GD(lr=step) without normalize, clip or schedule: the formulas hold for no other"
    if not isinstance(chosen, GD) or chosen.normalize or chosen.clip is not None or chosen.schedule != "constant":
        raise InputError("optimizer", expected, repr(optimizer))
    if not bool((a == chosen.lr).all()):
        raise InputError("step", f"the lr of the optimiser, {chosen.lr}", a.tolist()[:8])
