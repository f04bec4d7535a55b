"""Search in the activations of a generator's layers, one after the other (ILO, Daras et al. 2021, arXiv 2102.07364)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from latentopt.errors import InputError, nonnegative
from latentopt.inverse.initializers.fit import condition_key
from latentopt.inverse.problem import Reconstruction
from latentopt.inverse.split import Activations, Layers
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.sets import L1Ball, L2Ball
from latentopt.solver.callbacks import Callback, Progress
from latentopt.solver.loop import solve
from latentopt.solver.result import Result, Status

BallNorm = Literal["l1", "l2"]
PAIRS = 32
"""Pairs of random activations whose mean distance is the unit of a radius."""


class LayerSearch:
    """Search that goes on from latents in the activations of layers, each time in a ball around what was found before.

    Args:
        generator: the generator.
        radii: of the ball in each layer by its name, >= 0, in the order in which the layers are called, as multiples of
            the mean distance between the activations of two random latents, under each sample's own condition.
        norm: of the balls and the distances: l1, in which few activations may differ much, or l2.
        seed: of the random latents.
        gradient: whether the search needs a gradient.

    Raises:
        InputError: a radius is negative, or a layer is none at which `latentopt.split` cuts.
    """

    def __init__(
        self, generator: Generator, radii: Mapping[str, float], norm: BallNorm, seed: int, gradient: bool = True
    ) -> None:
        if norm not in get_args(BallNorm):
            raise InputError("norm", f"one of {', '.join(get_args(BallNorm))}", repr(norm))
        for name, radius in radii.items():
            nonnegative(f"layers: radius of {name}", radius)
        self.radii, self.norm, self.seed = {str(name): float(radius) for name, radius in radii.items()}, norm, seed
        layers = Layers(generator, list(self.radii))
        halves = {name: layers.halves(name) for name in self.radii}
        self.before = {name: before for name, (before, _) in halves.items()}
        self.after = {name: after for name, (_, after) in halves.items()}
        steps = [first for first, _ in list(halves.values())[:1]] + [layers.between(*p) for p in pairwise(self.radii)]
        self.step = dict(zip(self.radii, steps, strict=True))  # to each layer from the latents, or the layer before it
        samples = max(map(len, generator.conditions.values()), default=1)
        self.keys = [condition_key(generator, row) for row in range(samples)]  # of each sample, or one of all
        self.rows = {key: row for row, key in reversed(list(enumerate(self.keys)))}
        self.known = dict[tuple[str, str], float]()  # units by layer and condition, shared with parts
        for name, after in self.after.items() if gradient else ():
            try:
                after.require_gradient()
            except InputError as error:
                raise InputError("layers", "layers with a gradient", f"{name}, to which images have none") from error

    @property
    def forwards(self) -> int:
        """Forwards that the units cost, those of each different condition once."""
        return 2 * PAIRS * len(self.radii) * len(set(self.keys))

    def unit(self, name: str) -> float | Tensor:
        """Return the mean distance between the activations of two random latents in a layer.

        One number, or (B,) where samples have conditions of their own: under its condition.
        """
        for key in dict.fromkeys(self.keys):
            if (name, key) not in self.known:
                self.known[name, key] = self._measure(name, self.rows[key])
        units = [self.known[name, key] for key in self.keys]
        return units[0] if len(units) == 1 else torch.tensor(units, dtype=torch.float64, device="cpu")

    def _measure(self, name: str, row: int) -> float:
        """Return the unit in a layer under the condition of a sample."""
        draw, total = Activations(self.before[name].take(torch.tensor([row], device="cpu"))), 0.0
        for chunk in draw.chunks(2 * PAIRS, torch.Generator("cpu").manual_seed(self.seed)):
            apart = (chunk[::2] - chunk[1::2]).flatten(1).double()
            total += float(torch.linalg.vector_norm(apart, 1 if self.norm == "l1" else 2, dim=1).sum())
        return total / PAIRS

    def take(self, rows: Tensor) -> Self:
        """Return the search of some samples, with their conditions."""
        part = copy.copy(self)
        part.keys = self.keys if len(self.keys) == 1 else [self.keys[row] for row in rows.tolist()]
        part.after = {name: after.take(rows) for name, after in self.after.items()}
        part.step = {name: step.take(rows) for name, step in self.step.items()}
        return part

    def __call__(
        self,
        problem: Reconstruction,
        result: Result,
        optimizer: Optimizer,
        seed: int,
        callbacks: Sequence[Callback],
        t: int,
        **settings: Any,
    ) -> Result:
        """Return the result of a reconstruction, carried on in the layers.

        Args:
            problem: the reconstruction, of B targets.
            result: of the search in its latents.
            optimizer, seed, callbacks, settings: as in `latentopt.solve`, for each layer.
            t: steps of the earlier searches, which callbacks see.
        """
        x = result.x
        for number, (name, radius) in enumerate(self.radii.items()):
            if Status.STOPPED in result.status:
                break
            with torch.no_grad(), frozen(self.step[name]):
                x = self.step[name](x).contiguous()
            ball = (L1Ball if self.norm == "l1" else L2Ball)(x, radius * self.unit(name))
            after = self.after[name]
            stage = Problem(after, problem.objective, after.latent_shape, problem.batch, ball, problem.success, x)
            watching = [_Later(callback, result, t + number * settings["steps"]) for callback in callbacks]
            found = solve(stage, optimizer, seed=seed, start=x, callbacks=watching, **settings)
            result, x = _carry_on(result, found, name), found.x
        return result


@dataclass(frozen=True, eq=False)
class _Later:
    """A callback that sees a search as the continuation of the earlier ones."""

    callback: Callback
    earlier: Result
    t: int  # steps of the earlier ones

    def __call__(self, progress: Progress) -> bool | None:
        whole = replace(
            progress,
            t=self.t + progress.t,
            forwards=progress.forwards + int(self.earlier.forwards.sum()),
            backwards=progress.backwards + int(self.earlier.backwards.sum()),
            seconds=progress.seconds + self.earlier.meta["seconds"],
        )
        return self.callback(whole)


def _carry_on(earlier: Result, found: Result, name: str) -> Result:
    """Return the result of a search, carried on in the layer ``name``."""
    return replace(
        earlier,
        value=found.value,
        output=found.output,
        status=found.status,
        forwards=earlier.forwards + found.forwards + 1,
        backwards=earlier.backwards + found.backwards,
        history=_join_histories(earlier.history, found.history),
        meta={**earlier.meta, "seconds": earlier.meta["seconds"] + found.meta["seconds"]},
        activations={**earlier.activations, name: found.x},
    )


def _join_histories(first: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the histories, name to (steps, restarts, B), one after the other; the later one has one restart."""
    steps = len(first["loss"])
    joined = dict[str, Tensor]()
    for name, values in first.items():
        joined[name] = values.new_full((steps + len(later["loss"]), *values.shape[1:]), torch.nan)
        joined[name][:steps] = values
        if name in later:
            joined[name][steps:, :1] = later[name]
    return joined
