"""Better actions from pretrained critics, by every method in equal CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import get_args

import torch

from benchmarks.action_agents import AGENTS, AgentStates, ExactMaximum, agent_states, certified
from benchmarks.action_methods import CONTROL, METHODS, ActionMethod
from benchmarks.action_report import ActionResults, Critic, report
from benchmarks.study import chosen, numbers, study
from benchmarks.timing import timed
from benchmarks.tuning import tuning_report
from latentopt.optimizers import GD, Optimizer
from latentopt.reports import Report
from latentopt.rl.refine import RefinementResult, Refiner

TUNING = 1000
"""Offset of the tuning seeds."""
PRINTED, PRINTED_STEPS = GD(lr=0.2, normalize=True), 100
"""The method of the reference figures, and its steps."""


@study
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
    quick: bool = False,
) -> Report:
    """Maximise pretrained critics around their actors' actions by every method in equal CPU time.

    Args:
        agents: all, or some of halfcheetah, hopper, walker2d, swimmer, bipedal-td3, lunar-td3, lunar-ddpg, between
            commas; from LATENTOPT_DATA.
        methods: all, or some, between commas.
        critics: first (the twin is held out), min, or both, between commas.
        radii: radii of the box around the actor's action, in units of half the range, between commas.
        states: number of states per agent.
        milliseconds: CPU time of a method per state.
        exact: number of states per agent whose maximum on the first critic is bounded by branch and bound; 0: none.
        exact_seconds: CPU time limit for each of them; the remaining gap is reported.
        seed: seed of the first episode, and of the methods.
        tune: tune each method's size on states of other episodes, instead of the benchmark.
        quick: one agent, few states and methods, as a smoke test.
    """
    names, known = chosen("agents", agents, AGENTS), chosen("methods", methods, METHODS, CONTROL)
    reduces, radii_ = (
        list(chosen("critics", critics, {name: name for name in get_args(Critic)})),
        numbers("radii", radii),
    )
    if quick:
        names, radii_, reduces, states, milliseconds = dict(list(names.items())[-1:]), radii_[:1], ["first"], 8, 0.5
        known = {name: known[name] for name in (CONTROL, "adam", "cem") if name in known}
        exact, exact_seconds = min(exact, 1), 1.0
    met = [agent_states(name, states, seed + TUNING * tune) for name in names]
    if tune:
        return tuning(met, known, [(critic, radius) for critic in reduces for radius in radii_], milliseconds, seed)
    cells, optima = list[ActionResults](), list[ExactMaximum]()
    for one in met:
        for critic, radius in product(reduces if one.twins else ["first"], radii_):
            cells += _cells(one, known, critic, radius, milliseconds, seed)  # pyright: ignore[reportArgumentType]
        if exact:
            optima += [certified(one, radius, exact, exact_seconds) for radius in radii_]
    return report(cells, optima)


def tuning(
    met: Sequence[AgentStates],
    methods: Mapping[str, ActionMethod],
    settings: Sequence[tuple[str, float]],
    milliseconds: float,
    seed: int,
) -> Report:
    """Score every size of every method on states of other episodes, by the gain over the printed method's."""
    groups = {f"{critic}, radius {radius:g}": (critic, radius) for critic, radius in settings}

    def score(group: str, name: str, size: float) -> tuple[float]:
        critic, radius = groups[group]
        shares = []
        for one in met:
            if critic == "first" or one.twins:
                method = methods[name]
                optimizer = method.at(name, critic, radius, size)
                steps = _steps(one, optimizer, method.starts, critic, radius, milliseconds)  # pyright: ignore
                gain = _refine(one, optimizer, method.starts, critic, radius, steps, seed).gain  # pyright: ignore
                printed = _refine(one, PRINTED, 1, critic, radius, PRINTED_STEPS, seed).gain  # pyright: ignore
                shares.append(float(gain.mean() / printed.mean().clamp_min(1e-12)))
        return (sum(shares) / len(shares),)

    sizes = {name: method.sizes for name, method in methods.items() if method.sizes}
    return tuning_report("Sizes for actions", dict.fromkeys(groups, sizes), score, ("gain over the printed method's",))


def _cells(
    met: AgentStates, methods: Mapping[str, ActionMethod], critic: Critic, radius: float, milliseconds: float, seed: int
) -> Iterator[ActionResults]:
    if CONTROL in methods:
        yield _cell(met, "reference: lr .2, 100 steps", PRINTED, 1, critic, radius, PRINTED_STEPS, seed)
    for name, method in methods.items():
        optimizer = method.at(name, critic, radius)
        steps = _steps(met, optimizer, method.starts, critic, radius, milliseconds)
        yield _cell(met, name, optimizer, method.starts, critic, radius, steps, seed)


def _steps(met: AgentStates, optimizer: Optimizer, starts: int, critic: Critic, box: float, milliseconds: float) -> int:
    """Return how many steps fit into the time, from short runs."""

    def run(steps: int) -> float:
        return min(timed(lambda: _refine(met, optimizer, starts, critic, box, steps, 0)).cpu for _ in range(2))

    short, longer = run(1), run(6)
    step_seconds = max((longer - short) / 5, 1e-6)
    budget = milliseconds / 1000 * len(met.observations)
    return max(1, int((budget - (short - step_seconds)) / step_seconds))


def _refine(
    met: AgentStates, optimizer: Optimizer, starts: int, critic: Critic, box: float, steps: int, seed: int
) -> RefinementResult:
    refiner = Refiner(met.agent.critics, -1.0, 1.0, box, optimizer, steps, critic, starts)
    return refiner(met.observations, met.actions, seed)


def _cell(
    met: AgentStates, name: str, optimizer: Optimizer, starts: int, critic: Critic, box: float, steps: int, seed: int
) -> ActionResults:
    results: list[RefinementResult] = []
    times = timed(lambda: results.append(_refine(met, optimizer, starts, critic, box, steps, seed)))
    held_out = None
    if critic == "first" and met.twins:
        with torch.no_grad():
            before, after = (met.agent.critics(met.observations, a)[1][:, 0] for a in (met.actions, results[0].action))
        held_out = after - before
    return ActionResults(met, critic, box, name, steps, starts, times.cpu, results[0], held_out)
