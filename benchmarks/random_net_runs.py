"""Random networks maximised by one method: all seeds and restarts as one batch, its cost and time counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from benchmarks.networks import RandomNets
from benchmarks.timing import timed
from latentopt.objectives import Unit
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.sets import Box
from latentopt.solver.loop import solve
from latentopt.solver.result import Result


@dataclass(frozen=True)
class NetworkSet:
    """The networks of a benchmark: maximise the output over [-1, 1]^n; the first start is 0."""

    widths: tuple[int, ...]
    seeds: tuple[int, ...]

    def problem(self) -> Problem:
        return Problem(_drawn(self), Unit(0), (self.widths[0],), len(self.seeds), Box(-1.0, 1.0))


@lru_cache(maxsize=2)
def _drawn(nets: NetworkSet) -> RandomNets:
    return RandomNets(nets.widths, nets.seeds)


class NetsRun(NamedTuple):
    """Values and cost of a run."""

    values: list[float]  # of each seed, the greatest output met
    forwards: int  # of each seed, all restarts together
    backwards: int
    seconds: float  # CPU time of all seeds together


class StepCost(NamedTuple):
    """Cost of one step."""

    passes: float  # forwards and backwards of one restart of one seed
    seconds: float  # CPU time of all seeds and restarts together


def run(nets: NetworkSet, optimizer: Optimizer, steps: int, restarts: int, seed: int) -> NetsRun:
    """Maximise all networks; ``seed`` seeds the starts and the method's own noise."""
    problem, results = nets.problem(), list[Result]()
    start = torch.zeros(len(nets.seeds), nets.widths[0])
    took = timed(
        lambda: results.append(solve(problem, optimizer, steps=steps, restarts=restarts, seed=seed, start=start))
    )
    (result,) = results
    return NetsRun((-result.value).tolist(), int(result.forwards.max()), int(result.backwards.max()), took.cpu)


def rate(nets: NetworkSet, optimizer: Optimizer, restarts: int, probe: int) -> StepCost:
    """Return the cost of a step, from two runs that differ by ``2 * probe`` steps."""
    run(nets, optimizer, 1, restarts, 0)  # first calls are slower
    short, long = (run(nets, optimizer, steps, restarts, 0) for steps in (probe, 3 * probe))
    if probe > 1 and long.seconds < 0.2 and probe < 1000:  # too short to tell the time
        return rate(nets, optimizer, restarts, 5 * probe)
    passes = long.forwards + long.backwards - short.forwards - short.backwards
    seconds = (long.seconds - short.seconds) / (2 * probe)
    noise = long.seconds / (12 * probe)  # a quarter of what a step takes at most
    return StepCost(passes / (2 * probe * restarts), max(seconds, noise))


def steps_within(budget: float, a_step: float) -> int:
    """Return the number of steps that fit into a budget; at least one."""
    return max(1, round(budget / a_step))
