"""Starts by name, and learnt of a generator whatever its conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.generators import Generator
from latentopt.tasks.reconstruct import Reconstruction
from latentopt.tasks.starts.base import Guess, Start
from latentopt.tasks.starts.encoder import Encoder
from latentopt.tasks.starts.pools import Nearest, Regression
from latentopt.tasks.starts.random import Random

STARTS: dict[str, Callable[[], Start]] = {
    "random": Random,
    "nearest": Nearest,
    "regression": Regression,
    "encoder": Encoder,
}


def start_named(start: Start | str) -> Start:
    """The start itself, or the one of a name.

    Raises:
        InputError: no such name.
    """
    if isinstance(start, Start):
        return start
    if start not in STARTS:
        raise InputError("start", f"one of {', '.join(STARTS)}, or a Start", repr(start))
    return STARTS[start]()


def learnt(start: Start, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
    """What a start learns of a generator; where each sample has its own condition, of each condition by itself."""
    own = {name: values for name, values in generator.conditions.items() if len(values) > 1}
    if not own:
        return start.learn(generator, operator, seed)
    first = dict[str, int]()
    for row in range(max(map(len, own.values()))):
        first.setdefault(_condition(generator, row), row)
    parts = {key: generator.take(torch.tensor([row])) for key, row in first.items()}
    guesses = {key: start.learn(part, operator, seed) for key, part in parts.items()}
    return Conditional(guesses, sum(guess.forwards for guess in guesses.values()))


@dataclass(frozen=True)
class Conditional(Guess):
    """A guess for each condition of a generator."""

    guesses: dict[str, Guess]
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        keys = [_condition(problem.generator, row) for row in range(problem.batch)]
        found = dict[int, Tensor]()
        for key in dict.fromkeys(keys):
            rows = [row for row, its in enumerate(keys) if its == key]
            part = self.guesses[key](problem.samples(torch.tensor(rows)), restarts, seed, wider)
            found |= dict(zip(rows, part.unbind(1), strict=True))
        return torch.stack([found[row] for row in range(problem.batch)], 1)


def _condition(generator: Generator, row: int) -> str:
    return repr([values[row if len(values) > 1 else 0].tolist() for values in generator.conditions.values()])
