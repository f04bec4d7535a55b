"""Starts by name, and learnt of a generator whatever its conditions, and of an operator for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError
from latentopt.inverse.initializers.base import FittedInitializer, Initializer
from latentopt.inverse.initializers.encoder import Encoder
from latentopt.inverse.initializers.pools import Nearest, Regression
from latentopt.inverse.initializers.random import Random
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.checks import empty_like_parameters, warn
from latentopt.networks.generator import Generator

T = TypeVar("T")
Key = tuple[str, str]  # of a condition and of an operator
Learn = Callable[[Generator, Sequence[Callable[[Tensor], Tensor]], int], Sequence[FittedInitializer]]
INITIALIZERS: dict[str, Callable[[], Initializer]] = {
    "random": Random,
    "nearest": Nearest,
    "regression": Regression,
    "encoder": Encoder,
}


MANY = 20
"""Conditions of a batch from which on it is said what a pool for each of them costs."""


def get_initializer(start: Initializer | str) -> Initializer:
    """The start itself, or the one of a name.

    Raises:
        InputError: no such name.
    """
    if isinstance(start, Initializer):
        return start
    if start not in INITIALIZERS:
        raise InputError("start", f"one of {', '.join(INITIALIZERS)}, or a Initializer", repr(start))
    return INITIALIZERS[start]()


def fit_initializer(
    start: Initializer,
    generator: Generator,
    operator: Callable[[Tensor], Tensor],
    seed: int,
    batch: int = 1,
    learn: Learn | None = None,
    known: dict[Key, FittedInitializer] | None = None,
) -> FittedInitializer:
    """What a start learns; where each sample has its own condition or operator, of each different pair by itself.

    Args:
        start: a way to find starts.
        generator: with one condition for all samples, or one for each of them.
        operator: the same for all samples, or with ``take(rows)``.
        seed: of random numbers.
        batch: number of samples.
        learn: learns of several operators; None: `Initializer.fit_each`.
        known: guesses that were learnt before; what is learnt is added.

    Warns:
        NetworkWarning: there are more than `MANY` conditions, each of which costs the forwards of a pool.
    """
    learn, guesses = learn or start.fit_each, {} if known is None else known
    each = group_keys(generator, operator, batch)
    first = {key: row for row, key in reversed(list(enumerate(each)))}
    new = [key for key in first if key not in guesses]
    conditions = dict.fromkeys(condition for condition, _ in new)
    pool = getattr(start, "pool", 0)
    if len(conditions) > MANY and pool:
        words = f"start: it learns from {pool} samples of each of {len(conditions)} conditions,"
        warn(f"{words} {pool * len(conditions)} forwards; a smaller pool, or start='random', costs less")
    for condition in conditions:
        mine = [key for key in new if key[0] == condition]
        operators = [_Own(operator, first[key]) if hasattr(operator, "take") else operator for key in mine]
        guesses |= zip(mine, learn(_one(generator, first[mine[0]]), operators, seed), strict=True)
    if len(first) == 1:
        return guesses[each[0]]
    return Conditional(guesses, sum(guesses[key].forwards for key in first))


@dataclass(frozen=True)
class _Own:
    """The operator of one image, for any number of images."""

    operator: Callable[[Tensor], Tensor]
    row: int

    def __call__(self, images: Tensor) -> Tensor:
        return take(self.operator, torch.full((len(images),), self.row, device=images.device))(images)


def share_cost(forwards: int, targets: int, rows: Tensor) -> Tensor:
    """What each of some targets, ``rows`` (long) of so many, bears of the forwards that a start's learning cost.

    >>> share_cost(2000, 3, torch.arange(3))
    tensor([667, 667, 666])
    """
    share, rest = divmod(forwards, targets)
    return share + (rows < rest).long()


@dataclass(frozen=True)
class Conditional(FittedInitializer):
    """A guess for each condition of a generator and each operator."""

    guesses: Mapping[Key, FittedInitializer]
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        each = group_keys(problem.generator, problem.operator, problem.batch)
        found = dict[int, Tensor]()
        for key in dict.fromkeys(each):
            rows = [row for row, its in enumerate(each) if its == key]
            part = self.guesses[key](problem.take(torch.tensor(rows)), restarts, seed, wider)
            found |= dict(zip(rows, part.unbind(1), strict=True))
        return torch.stack([found[row] for row in range(problem.batch)], 1)


def group_keys(generator: Generator, operator: Callable[[Tensor], Tensor], batch: int) -> list[Key]:
    """By what the condition and the operator of each sample are told from others."""
    seen = [""] * batch
    if hasattr(operator, "take"):
        image = torch.rand(1, *generator.output_shape(), generator=torch.Generator().manual_seed(0))
        seen = [_seen(image.to(empty_like_parameters(generator)), _one(operator, row)) for row in range(batch)]
    return [(_condition(generator, row), seen[row]) for row in range(batch)]


@torch.no_grad()
def _seen(x: Tensor, function: Callable[[Tensor], Tensor]) -> str:
    """A checksum of what a function makes of ``x``."""
    return hashlib.blake2b(function(x).float().cpu().numpy().tobytes(), digest_size=16).hexdigest()


def _one(function: T, row: int) -> T:
    return take(function, torch.tensor([row]))


def _condition(generator: Generator, row: int) -> str:
    own: list[Any] = [values[row if len(values) > 1 else 0].tolist() for values in generator.conditions.values()]
    if hasattr(generator.module, "take"):
        own.append(_seen(generator.latents(1, 0), _one(generator, row)))
    return repr(own)
