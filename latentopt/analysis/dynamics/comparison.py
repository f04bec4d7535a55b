"""Raw gradient ascent against the formulas that predict it, step by step (arXiv 2205.15130)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentopt.analysis.dynamics.ascent import AscentStep, ascend, require_raw_ascent
from latentopt.analysis.dynamics.linear_region import slices_in_memory
from latentopt.analysis.dynamics.prediction import FORMULAS, Formula, RegionFormulas
from latentopt.analysis.dynamics.validation import per_sample_steps, validate_classifier
from latentopt.arguments import Values
from latentopt.batch_math import sample_norm, unit
from latentopt.classification import Loss
from latentopt.errors import InputError, positive
from latentopt.networks.freezing import frozen
from latentopt.optimizers import Optimizer
from latentopt.results import SavedResult
from latentopt.sets import FeasibleSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Dynamics(SavedResult):
    """An ascent of M steps beside the formulas' predictions; row m - 1 is step m."""

    error: Mapping[str, Tensor]  # (M, B) ||predicted - real|| / ||real|| of each formula
    held: Mapping[str, Tensor]  # (M, B) the same against an ascent with fixed gates: the error without flips
    cosine: Mapping[str, Tensor]  # (M, B) of predicted and real; 1 where both are 0
    length: Tensor  # (M, B) ||real||
    value: Tensor  # (M, B) loss
    flips: Tensor  # (M, B) long, number of gates that differ from the clean input's
    first_flip: Tensor  # (B,) long, the first step with flips; M + 1: none
    delta: Tensor  # (B, *shape) the real perturbation after M steps
    values: Tensor  # (B, r) the Hessian's eigenvalues at the clean input, descending

    def summary(self) -> dict[str, Any]:
        """Return the numbers of samples and steps, and the mean error of each formula at the last step, by name."""
        errors = {f"error_{name}": float(error[-1].double().mean()) for name, error in self.error.items()}
        return {"samples": len(self.first_flip), "steps": len(self.flips), **errors}

    def _draw(self, figure: Figure) -> None:
        axes, steps = figure.subplots(), range(1, len(self.flips) + 1)
        for name, error in self.error.items():
            axes.plot(steps, error.detach().cpu().double().mean(1), label=name)
        axes.set(xlabel="step", ylabel="mean relative error", yscale="symlog")
        axes.grid(alpha=0.3)
        axes.legend()

    @property
    def inside(self) -> Tensor:
        """(M, B) whether no gate has flipped up to and including this step."""
        return torch.arange(1, len(self.flips) + 1, device=self.flips.device)[:, None] < self.first_flip


def compare_dynamics(
    network: Callable[[Tensor], Any],
    x: Values,
    labels: Values,
    step: float | Tensor,
    steps: int,
    loss: Loss = "ce",
    *,
    methods: Sequence[Formula] = FORMULAS,
    optimizer: Optimizer | str | None = None,
    feasible: FeasibleSet | None = None,
) -> Dynamics:
    """Run raw gradient ascent, and compare it with each formula after every step.

    ``region-exact`` is exact until the first flip, and at it: the step that leaves the region still starts inside.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`.
        step: step size a, >= 0: a number, or one for each sample (B,).
        steps: number of steps, >= 1.
        methods: names of the formulas.
        optimizer: the method to explain: `lo.GD(lr=step)` with neither ``normalize``, ``clip`` nor a schedule; the
            formulas hold for no other. Default: that one.
        feasible: a set for the inputs. The formulas know no projection, so the set may not change a step of the ascent.
            Default: the whole space.

    Returns:
        Errors, cosines, losses and flips (M, B) of every step, and the last perturbation (B, *shape).

    Raises:
        InputError: as `predict_perturbation`; another optimiser; a step of a sample that the feasible set would
            change, or after which input or loss are not finite.
    """
    positive("steps", steps, integer=True)
    if not methods or any(method not in FORMULAS for method in methods):
        raise InputError("methods", f"some of {', '.join(FORMULAS)}", methods)
    with frozen(network):
        network, x, labels, classes = validate_classifier(network, x, labels, loss)
        a = per_sample_steps(step, x)
        require_raw_ascent(optimizer, a)
        feasible = None if feasible is None else feasible.broadcast_to(x.shape, x)
        parts = []
        for rows in slices_in_memory(x, classes):
            inside = None if feasible is None else feasible.take(torch.arange(len(x), device=x.device)[rows])
            formulas = RegionFormulas(network, x[rows], labels[rows], loss, a[rows])
            path = ascend(network, x[rows], labels[rows], loss, a[rows], steps, inside, rows.start)
            parts.append(_compare(formulas, path, methods, steps, x[rows]))
    return concatenate(parts)


def _compare(
    formulas: RegionFormulas, path: Iterator[AscentStep], methods: Sequence[Formula], steps: int, x: Tensor
) -> Dynamics:
    predictions = [formulas.path(method, steps) for method in methods]
    error, held, cosine = ({name: list[Tensor]() for name in methods} for _ in range(3))
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    real = torch.zeros_like(x)
    for step, fixed_gates, *predicted in zip(path, formulas.path("region-exact", steps), *predictions, strict=True):
        real = step.delta.flatten(1)
        for name, delta in zip(methods, predicted, strict=True):
            error[name].append(_relative_distance(delta, real))
            held[name].append(_relative_distance(delta, fixed_gates))
            cosine[name].append(_cosine(delta, real))
        rows.append((sample_norm(real), step.value, step.flips))
    length, value, flips = (torch.stack(column) for column in zip(*rows, strict=True))
    numbers = torch.arange(1, steps + 1, device=x.device)[:, None]
    return Dynamics(
        *({name: torch.stack(column) for name, column in columns.items()} for columns in (error, held, cosine)),
        length=length,
        value=value,
        flips=flips,
        first_flip=torch.where(flips > 0, numbers, steps + 1).amin(0),
        delta=real.reshape(x.shape),
        values=formulas.eigen[0],
    )


def _relative_distance(delta: Tensor, real: Tensor) -> Tensor:
    """Return the distance as a share of the real one's length; 0 where both are 0."""
    scale = real.abs().amax(1, keepdim=True)  # a confident sample's squares may be too small for a float
    scale = scale.masked_fill(scale == 0, 1)
    distance = sample_norm((delta - real) / scale)
    return torch.where(distance == 0, 0, distance / sample_norm(real / scale))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    both_zero = ~(a.any(1) | b.any(1))
    return torch.where(both_zero, 1, (unit(a) * unit(b)).sum(1))


def concatenate(parts: Sequence[Dynamics]) -> Dynamics:
    """Concatenate the dynamics of batches of samples."""
    columns = {}
    for field in fields(Dynamics):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Mapping):
            columns[field.name] = {name: torch.cat([value[name] for value in values], 1) for name in values[0]}
        else:
            columns[field.name] = torch.cat(values, 1 if field.name in ("length", "value", "flips") else 0)
    return Dynamics(**columns)
