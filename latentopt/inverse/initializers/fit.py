"""Initializers, fitted for each condition of a generator and each operator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.inverse.initializers.base import FittedInitializer, Initializer
from latentopt.inverse.initializers.pools import Nearest, Regression
from latentopt.inverse.initializers.saved import Saved
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.generator import Generator

T = TypeVar("T")
Key = tuple[str, str]  # of a condition and of an operator
Fit = Callable[[Generator, Sequence[Callable[[Tensor], Tensor]], int], Sequence[FittedInitializer]]
MANY_CONDITIONS = 20
"""Number of conditions in a batch above which they share one pool."""
SHARED = "shared"
"""Stands for a condition in the key of a pool that conditions share."""


def fit_initializer(
    initializer: Initializer,
    generator: Generator,
    operator: Callable[[Tensor], Tensor],
    seed: int,
    batch: int = 1,
    fit: Fit | None = None,
    fitted: dict[Key, FittedInitializer] | None = None,
) -> FittedInitializer:
    """Fit an initializer, once for each different pair of a condition and an operator in a batch.

    Args:
        initializer: the initializer.
        generator: with one condition for all samples, or one for each.
        operator: the same for all samples, or with ``take(rows)``.
        seed: seed of random numbers.
        batch: number of samples.
        fit: fits to several operators; None: `Initializer.fit_each`.
        fitted: earlier fits by their pair; new ones are added.

    Returns:
        The fitted initializer of the whole batch. Many conditions, or continuous ones of which each sample has its own,
        share one pool, whose latents take them in turn.
    """
    if isinstance(initializer, Saved):  # fits nothing
        return initializer.fit(generator, operator, seed)
    fit, fitted = fit or initializer.fit_each, {} if fitted is None else fitted
    keys = group_keys(generator, operator, batch)
    if isinstance(initializer, Nearest | Regression) and _shares_pool(generator, keys):
        keys = [(SHARED, key) for _, key in keys]
    first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
    new = [key for key in first_row if key not in fitted]
    for condition in dict.fromkeys(condition for condition, _ in new):
        group = [key for key in new if key[0] == condition]
        operators = [_RowOperator(operator, first_row[key]) if hasattr(operator, "take") else operator for key in group]
        conditioned = generator if condition == SHARED else _take_row(generator, first_row[group[0]])
        fitted |= zip(group, fit(conditioned, operators, seed), strict=True)
    if len(first_row) == 1:
        return fitted[keys[0]]
    return GroupedInitializer(fitted, sum(fitted[key].forwards for key in first_row))


def _shares_pool(generator: Generator, keys: Sequence[Key]) -> bool:
    """Return whether the conditions of a batch are too many for a pool each, or have no other sample in common."""
    count = len({condition for condition, _ in keys})
    if count == 1 or hasattr(generator.module, "take"):
        return False
    values = [value for value in generator.conditions.values() if value.is_floating_point()]
    is_continuous = not all(bool(((value == 0) | (value == 1)).all()) for value in values)  # not classes, one-hot
    return count > MANY_CONDITIONS or (is_continuous and count == len(keys))


def share_cost(forwards: int, targets: int, rows: Tensor) -> Tensor:
    """Share the forwards of a fit among targets, to whole numbers.

    Args:
        forwards: of the fit.
        targets: number of targets that share them.
        rows: (k,) long, the targets asked for.

    Returns:
        Forwards (k,) long that each of them bears.

    >>> share_cost(2000, 3, torch.arange(3))
    tensor([667, 667, 666])
    """
    share, rest = divmod(forwards, targets)
    return share + (rows < rest).long()


@dataclass(frozen=True)
class GroupedInitializer(FittedInitializer):
    """A fitted initializer for each pair of a condition and an operator."""

    fitted: Mapping[Key, FittedInitializer]
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        keys = group_keys(problem.generator, problem.operator, problem.batch)
        keys = [key if key in self.fitted else (SHARED, key[1]) for key in keys]
        starts = dict[int, Tensor]()
        for key in dict.fromkeys(keys):
            rows = [row for row, row_key in enumerate(keys) if row_key == key]
            group = self.fitted[key](problem.take(torch.tensor(rows, device="cpu")), restarts, seed, spread)
            starts |= dict(zip(rows, group.unbind(1), strict=True))
        return torch.stack([starts[row] for row in range(problem.batch)], 1)


def group_keys(generator: Generator, operator: Callable[[Tensor], Tensor], batch: int) -> list[Key]:
    """Return for each sample a key that tells its condition and its operator from others."""
    operators = [""] * batch
    if hasattr(operator, "take"):
        seeded = torch.Generator("cpu").manual_seed(0)
        image = torch.rand(1, *generator.output_shape(), generator=seeded, device="cpu")
        image = image.to(empty_like_parameters(generator))
        operators = [_digest(_take_row(operator, row), image) for row in range(batch)]
    return list(zip([condition_key(generator, row) for row in range(batch)], operators, strict=True))


@dataclass(frozen=True)
class _RowOperator:
    """The operator of one sample, for any number of images."""

    operator: Callable[[Tensor], Tensor]
    row: int

    def __call__(self, images: Tensor) -> Tensor:
        return take(self.operator, torch.full((len(images),), self.row, device=images.device))(images)


@torch.no_grad()
def _digest(function: Callable[[Tensor], Tensor], x: Tensor) -> str:
    """Return a checksum of the values of a function at ``x``."""
    return hashlib.blake2b(function(x).float().cpu().numpy().tobytes(), digest_size=16).hexdigest()


def _take_row(function: T, row: int) -> T:
    return take(function, torch.tensor([row], device="cpu"))


def condition_key(generator: Generator, row: int) -> str:
    """Return a text that tells the condition of a sample from others."""
    values: list[Any] = [value[row if len(value) > 1 else 0].tolist() for value in generator.conditions.values()]
    if hasattr(generator.module, "take"):
        values.append(_digest(_take_row(generator, row), generator.latents(1, 0)))
    return repr(values)
