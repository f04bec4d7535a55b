"""Real raw gradient ascent against the formulas that predict it, step by step (arXiv 2205.15130)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from latentopt.analysis.dynamics.ascent import Here, ascent, require_raw
from latentopt.analysis.dynamics.checks import check, step_sizes
from latentopt.analysis.dynamics.predict import METHODS, Local, Method
from latentopt.analysis.dynamics.region import pieces
from latentopt.batch_math import sample_norm, unit
from latentopt.classification import Loss
from latentopt.errors import InputError, positive
from latentopt.networks.freezing import frozen
from latentopt.optimizers import Optimizer
from latentopt.sets import FeasibleSet


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A real ascent of M steps beside what the formulas say; row m - 1 is step m."""

    error: Mapping[str, Tensor]  # (M, B) ||predicted - real|| / ||real||
    held: Mapping[str, Tensor]  # (M, B) the same against an ascent whose gates are held: what no flip explains
    cosine: Mapping[str, Tensor]  # (M, B) of predicted and real; 1 where both are 0
    length: Tensor  # (M, B) ||real||
    value: Tensor  # (M, B) the loss there
    flips: Tensor  # (M, B) long, gates that differ from those at the clean input
    first_flip: Tensor  # (B,) long, the first step with flips; M + 1: none
    delta: Tensor  # (B, *shape) the real perturbation after M steps
    values: Tensor  # (B, r) the Hessian's eigenvalues at the clean input, descending

    @property
    def inside(self) -> Tensor:
        """(M, B) whether no gate has flipped up to and including this step."""
        return torch.arange(1, len(self.flips) + 1, device=self.flips.device)[:, None] < self.first_flip


def compare_dynamics(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    step: float | Tensor,
    steps: int,
    loss: Loss = "ce",
    *,
    methods: Sequence[Method] = METHODS,
    optimizer: Optimizer | str | None = None,
    feasible: FeasibleSet | None = None,
) -> Dynamics:
    """Ascend for real, and compare with each formula after every step.

    ``region-exact`` is right until the first flip, and at it: the step that leaves the region still starts inside.

    Args:
        network, x, labels, loss: as in `input_hessian_eigs`.
        step, steps: as in `predict_perturbation`; steps >= 1.
        methods: which formulas.
        optimizer: the method whose steps are to be explained: `lo.GD(lr=step)` with neither ``normalize``, ``clip`` nor
            a schedule; the formulas hold for no other. None: that one.
        feasible: where the inputs have to stay. The formulas know no projection, so it may not move a step of the
            ascent. None: anywhere.

    Raises:
        InputError: as `predict_perturbation`; another optimiser; a step of a sample that the feasible set would
            change, or after which input or loss are not finite.
    """
    positive("steps", steps, integer=True)
    if not methods or any(method not in METHODS for method in methods):
        raise InputError("methods", f"some of {', '.join(METHODS)}", methods)
    with frozen(network):
        classes = check(network, x, labels, loss)
        a = step_sizes(step, x)
        require_raw(optimizer, a)
        feasible = None if feasible is None else feasible.broadcast_to(x.shape, x)
        parts = []
        for rows in pieces(x, classes):
            inside = None if feasible is None else feasible.take(torch.arange(len(x), device=x.device)[rows])
            local = Local(network, x[rows], labels[rows], loss, a[rows])
            walk = ascent(network, x[rows], labels[rows], loss, a[rows], steps, inside, rows.start)
            parts.append(_compared(local, walk, methods, steps, x[rows]))
    return joined(parts)


def _compared(local: Local, walk: Iterator[Here], methods: Sequence[Method], steps: int, x: Tensor) -> Dynamics:
    paths = [local.path(method, steps) for method in methods]
    error, held, cosine = ({name: list[Tensor]() for name in methods} for _ in range(3))
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    real = torch.zeros_like(x)
    for here, gates_held, *predicted in zip(walk, local.path("region-exact", steps), *paths, strict=True):
        real = here.delta.flatten(1)
        for name, delta in zip(methods, predicted, strict=True):
            error[name].append(_distance(delta, real))
            held[name].append(_distance(delta, gates_held))
            cosine[name].append(_cosine(delta, real))
        kept.append((sample_norm(real), here.value, here.flips))
    length, value, flips = (torch.stack(each) for each in zip(*kept, strict=True))
    steps_of = torch.arange(1, steps + 1, device=x.device)[:, None]
    return Dynamics(
        error={name: torch.stack(each) for name, each in error.items()},
        held={name: torch.stack(each) for name, each in held.items()},
        cosine={name: torch.stack(each) for name, each in cosine.items()},
        length=length,
        value=value,
        flips=flips,
        first_flip=torch.where(flips > 0, steps_of, steps + 1).amin(0),
        delta=real.reshape(x.shape),
        values=local.eigen[0],
    )


def _distance(delta: Tensor, real: Tensor) -> Tensor:
    """As a share of the real one's length; 0 where both are 0."""
    scale = real.abs().amax(1, keepdim=True)  # a confident sample's squares may be too small for a float
    scale = scale.masked_fill(scale == 0, 1)
    apart = sample_norm((delta - real) / scale)
    return torch.where(apart == 0, 0, apart / sample_norm(real / scale))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    both = ~(a.any(1) | b.any(1))
    return torch.where(both, 1, (unit(a) * unit(b)).sum(1))


def joined(parts: Sequence[Dynamics]) -> Dynamics:
    """The dynamics of samples that were done apart, in their order."""
    whole = {}
    for field in fields(Dynamics):
        each = [getattr(part, field.name) for part in parts]
        if isinstance(each[0], Mapping):
            whole[field.name] = {name: torch.cat([one[name] for one in each], 1) for name in each[0]}
        else:
            whole[field.name] = torch.cat(each, 1 if field.name in ("length", "value", "flips") else 0)
    return Dynamics(**whole)
