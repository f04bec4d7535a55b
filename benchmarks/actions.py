"""`latentopt bench actions`: better actions from pretrained critics, by every method in equal CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, get_args

import torch

from benchmarks.action_agents import AGENTS, States, states
from benchmarks.action_exact import Exact, certified
from benchmarks.action_methods import CONTROL, METHODS, Method
from benchmarks.action_report import Cell, Critic, report
from benchmarks.choices import chosen
from benchmarks.report import Bench
from benchmarks.timing import threads as pinned
from benchmarks.timing import timed
from latentopt.errors import InputError, nonnegative, positive
from latentopt.optimizers import GD, Optimizer
from latentopt.reports import Written
from latentopt.rl.refine import RefinementResult, Refiner

if TYPE_CHECKING:
    pass

TUNING = 1000
"""Added to the seeds of tuning."""
PRINTED = 100
"""Steps of the reference figures."""


def actions(
    agents: str = "all",
    methods: str = "all",
    critics: str = "first,min",
    radii: str = "0.25,1",
    states: int = 256,
    milliseconds: float = 1.0,
    exact: int = 4,
    exact_seconds: float = 20.0,
    seed: int = 0,
    tune: bool = False,
    threads: int = 1,
    out: str | None = None,
    overwrite: bool = False,
    quick: bool = False,
) -> Written:
    """Maximise pretrained critics around their actors' actions by every method in equal CPU time.

    Args:
        agents: all, or some of halfcheetah, hopper, walker2d, swimmer, bipedal-td3, lunar-td3, lunar-ddpg, between
            commas; from LATENTOPT_DATA.
        methods: all, or some, between commas.
        critics: first (the twin is held out), min, or both, between commas.
        radii: how far an action may move, in units of half the range, between commas.
        states: of each agent.
        milliseconds: CPU time of a method for a state.
        exact: states of each agent whose maximum on the first critic is bounded by branch and bound; 0: none.
        exact_seconds: CPU time for each of them, after which the gap is stated.
        seed: of the first episode, and of the methods.
        tune: instead of the benchmark, try each method's sizes, on states of other episodes.
        threads: that torch computes with.
        out: folder for the results; default runs/bench/actions.
        overwrite: replace the results of an earlier run there.
        quick: one agent, few states and methods, to see that it works.
    """
    settings = dict(locals())
    for name, value in (("states", states), ("threads", threads)):
        positive(name, value, integer=True)
    positive("milliseconds", milliseconds)
    positive("exact_seconds", exact_seconds)
    nonnegative("exact", exact, integer=True)
    nonnegative("seed", seed, integer=True)
    settings["out"] = out or f"runs/bench/actions{'-tune' * tune}"
    bench = Bench("actions", settings)
    names, known = chosen("agents", agents, AGENTS), chosen("methods", methods, METHODS, CONTROL)
    reduces = list(chosen("critics", critics, {name: name for name in get_args(Critic)}))
    sizes = _radii(radii)
    bench.check_folder()
    if quick:
        names, sizes, reduces, states, milliseconds = dict(list(names.items())[-1:]), sizes[:1], ["first"], 8, 0.5
        known = {name: known[name] for name in (CONTROL, "adam", "cem") if name in known}
        exact, exact_seconds = min(exact, 1), 1.0
    with pinned(threads):
        cells, optima = list[Cell](), list[Exact]()
        for name in names:
            met = _met(name, states, seed + TUNING * tune)
            for critic in reduces if met.twins else ["first"]:
                for box in sizes:
                    cells += _cells(met, known, critic, box, milliseconds, seed, tune)  # pyright: ignore[reportArgumentType]
            if exact and not tune:
                optima += [certified(met, box, exact, exact_seconds) for box in sizes]
        return bench.write(report(cells, optima, tune))


def _met(name: str, count: int, seed: int) -> States:
    return states(name, count, seed)


def _radii(words: str) -> list[float]:
    try:
        values = [float(word) for word in words.split(",")]
    except ValueError as error:
        raise InputError("radii", "numbers between commas", repr(words)) from error
    for value in values:
        positive("radii", value)
    return values


def _cells(
    met: States, methods: Mapping[str, Method], critic: Critic, box: float, milliseconds: float, seed: int, tune: bool
) -> Iterator[Cell]:
    if not tune and CONTROL in methods:
        reference = GD(lr=0.2, normalize=True)
        yield _cell(met, "reference: lr .2, 100 steps", reference, 1, critic, box, PRINTED, seed)
    for name, method in methods.items():
        for size in (method.sizes or (None,)) if tune else (None,):
            optimizer = method.at(name, critic, box, size)
            steps = _steps(met, optimizer, method.starts, critic, box, milliseconds)
            label = name if size is None else f"{name} at {size:g}"
            yield _cell(met, label, optimizer, method.starts, critic, box, steps, seed)


def _steps(met: States, optimizer: Optimizer, starts: int, critic: Critic, box: float, milliseconds: float) -> int:
    """As many as fit into the time, found from runs of few."""

    def run(steps: int) -> float:
        return min(timed(lambda: _refine(met, optimizer, starts, critic, box, steps, 0)).cpu for _ in range(2))

    short, longer = run(1), run(6)
    each = max((longer - short) / 5, 1e-6)
    budget = milliseconds / 1000 * len(met.observations)
    return max(1, int((budget - (short - each)) / each))


def _refine(
    met: States, optimizer: Optimizer, starts: int, critic: Critic, box: float, steps: int, seed: int
) -> RefinementResult:
    refiner = Refiner(met.agent.critics, -1.0, 1.0, box, optimizer, steps, critic, starts)
    return refiner(met.observations, met.actions, seed)


def _cell(
    met: States, name: str, optimizer: Optimizer, starts: int, critic: Critic, box: float, steps: int, seed: int
) -> Cell:
    found: list[RefinementResult] = []
    taken = timed(lambda: found.append(_refine(met, optimizer, starts, critic, box, steps, seed)))
    held_out = None
    if critic == "first" and met.twins:
        with torch.no_grad():
            before, after = (met.agent.critics(met.observations, a)[1][:, 0] for a in (met.actions, found[0].action))
        held_out = after - before
    return Cell(met, critic, box, name, steps, starts, taken.cpu, found[0], held_out)
