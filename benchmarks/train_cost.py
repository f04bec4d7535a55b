"""What refined actions add to the CPU time of training: all cells in turns, a few steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.timing import interleaved
from latentopt.reports import Row, Table
from latentopt.rl.training import TrainingSettings

CHUNK = 100
"""Steps of the environment in a turn."""


@dataclass(frozen=True)
class Cost:
    """Of one cell."""

    algorithm: str
    refinement: str
    milliseconds: float  # median CPU time of a step
    ratio: float  # median over the rounds, to the plain algorithm


def costs(algorithm: str, trainings: Mapping[str, TrainingSettings], rounds: int) -> list[Cost]:
    """Of each training, the plain one named none among them; every one has first learned for `CHUNK` steps."""
    work: dict[str, Callable[[], object]] = {}
    for name, training in trainings.items():
        model = training.model(0).learn(training.learning_starts + CHUNK)
        work[name] = partial(model.learn, CHUNK, reset_num_timesteps=False)
    taken = interleaved(work, 0.0, rounds, rounds)
    plain = [each.cpu for each in taken["none"]]
    found = list[Cost]()
    for name, own in taken.items():
        ratios = [each.cpu / base for each, base in zip(own, plain, strict=True)]
        found.append(Cost(algorithm, name, 1e3 * median(each.cpu for each in own) / CHUNK, median(ratios)))
    return found


def table(found: list[Cost], rounds: int, hidden: str) -> Table:
    note = f"CPU time of a step on hidden layers {hidden}: {rounds} rounds of {CHUNK} steps in turns, medians."
    cells = [
        [cost.algorithm.upper(), cost.refinement, f"{cost.milliseconds:.2f}", f"{cost.ratio:.3f}"] for cost in found
    ]
    return Table("Cost", note, ["algorithm", "refinement", "ms a step", "over none"], cells)


def rows(found: list[Cost]) -> list[Row]:
    return [
        {"algorithm": c.algorithm, "refinement": c.refinement, "milliseconds": c.milliseconds, "ratio": c.ratio}
        for c in found
    ]
