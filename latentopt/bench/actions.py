"""`latentopt bench actions`: better actions from the critics of pretrained agents, by every method in equal CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from latentopt.bench.action_agents import AGENTS, States, states
from latentopt.bench.action_exact import Exact, certified
from latentopt.bench.action_methods import CONTROL, METHODS, Method
from latentopt.bench.choices import chosen
from latentopt.bench.report import Bench, Report, Row, Table, Written
from latentopt.bench.statistics import Pairs, mean_of, paired
from latentopt.bench.timing import threads as pinned
from latentopt.bench.timing import timed
from latentopt.errors import InputError, nonnegative, positive
from latentopt.optimizers import GD, Optimizer
from latentopt.rl.refine import Refined, refine_action

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Critic = Literal["first", "min"]
TUNING = 1000
"""Added to the seeds of tuning."""
PRINTED = 100
"""Steps of the reference figures."""
NOTE = (
    "Mean gain in Q over the actor's action, of states that the agent meets (its actions drawn, where it is "
    "stochastic, as in training), with Student's 95 % interval. Every method has the same CPU time a state, all states "
    "in one batch; its steps are as many as fit, found from a short run. Each has the best of a grid of sizes, chosen "
    "on other states. Held-out twin: the gain on the second critic, where the first is maximised. Best: of all methods "
    "and states by state. The box is in units of half the range of actions."
)


@dataclass(frozen=True, eq=False)
class Cell:
    """A method on the states of an agent."""

    states: States
    critic: Critic
    box: float
    name: str
    steps: int
    starts: int
    seconds: float
    refined: Refined
    held_out: Tensor | None  # (B,) gain on the twin

    @property
    def key(self) -> tuple[str, str, float]:
        return self.states.name, self.critic, self.box


def actions(
    agents: str = "all",
    methods: str = "all",
    critics: str = "first,min",
    boxes: str = "0.25,1",
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
        boxes: how far an action may move, in units of half the range, between commas.
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
    sizes = _boxes(boxes)
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
        return bench.write(_report(cells, optima, tune))


def _met(name: str, count: int, seed: int) -> States:
    return states(name, count, seed)


def _boxes(words: str) -> list[float]:
    try:
        values = [float(word) for word in words.split(",")]
    except ValueError as error:
        raise InputError("boxes", "numbers between commas", repr(words)) from error
    for value in values:
        positive("boxes", value)
    return values


def _cells(
    met: States, methods: Mapping[str, Method], critic: Critic, box: float, milliseconds: float, seed: int, tune: bool
) -> Iterator[Cell]:
    if not tune and CONTROL in methods:
        yield _cell(met, "as printed: lr .2, 100 steps", GD(lr=0.2), 1, critic, box, PRINTED, seed)
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
) -> Refined:
    settings: dict[str, Any] = {"optimizer": optimizer, "restarts": starts, "steps": steps, "seed": seed}
    return refine_action(
        met.agent.critics, met.observations, met.actions, -1.0, 1.0, box=box, critic=critic, **settings
    )


def _cell(
    met: States, name: str, optimizer: Optimizer, starts: int, critic: Critic, box: float, steps: int, seed: int
) -> Cell:
    found: list[Refined] = []
    taken = timed(lambda: found.append(_refine(met, optimizer, starts, critic, box, steps, seed)))
    held_out = None
    if critic == "first" and met.twins:
        with torch.no_grad():
            before, after = (met.agent.critics(met.observations, a)[1][:, 0] for a in (met.actions, found[0].action))
        held_out = after - before
    return Cell(met, critic, box, name, steps, starts, taken.cpu, found[0], held_out)


def _report(cells: Sequence[Cell], optima: Sequence[Exact], tune: bool) -> Report:
    groups: dict[tuple[str, str, float], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.key, []).append(cell)
    tables = [_table(group) for group in groups.values()]
    if optima:
        tables.append(_exact_table(optima, groups))
    rows = [row for group in groups.values() for row in _rows(group)]
    appendix = f"```python\n{_constants(groups)}\n```" if tune else ""
    return Report("Better actions from a critic", NOTE, tables, rows, partial(_draw, list(groups.values())), appendix)


def _best(group: Sequence[Cell]) -> Tensor:
    return torch.stack([cell.refined.gain for cell in group]).amax(0)


COLUMNS = (
    "method",
    "starts x steps",
    "CPU ms / state",
    "gain in Q [95 %]",
    "of the best",
    "minus control [95 %]",
    "held-out twin [95 %]",
)


def _table(group: Sequence[Cell]) -> Table:
    first, best = group[0], _best(group)
    control = next((cell for cell in group if cell.name == CONTROL), None)

    def row(cell: Cell) -> list[str]:
        gain = cell.refined.gain
        versus = "control" if cell is control else "" if control is None else _against(gain, control.refined.gain)
        return [
            f"**{cell.name}**" if cell is control else cell.name,
            f"{cell.starts} x {cell.steps}",
            f"{1000 * cell.seconds / len(gain):.2f}",
            _mean(gain),
            f"{float(gain.mean() / best.mean().clamp_min(1e-12)):.1%}",
            versus,
            "" if cell.held_out is None else _mean(cell.held_out),
        ]

    title = f"{first.states.name}, critic {first.critic}, box {first.box:g}"
    before = mean_of(first.refined.before.tolist()).mean
    note = f"{len(best)} states; Q of the actor {before:.2f}; best {float(best.mean()):.4f}."
    return Table(title, note, COLUMNS, [row(cell) for cell in group])


def _mean(values: Tensor) -> str:
    mean = mean_of(values.tolist())
    return f"{mean.mean:.4f} [{mean.low:.3f}, {mean.high:.3f}]"


def _against(ours: Tensor, theirs: Tensor) -> str:
    pairs: Pairs = paired(ours.tolist(), theirs.tolist())
    return f"{pairs.difference.mean:+.4f} [{pairs.difference.low:.4f}, {pairs.difference.high:.4f}]"


def _exact_table(optima: Sequence[Exact], groups: Mapping[tuple[str, str, float], Sequence[Cell]]) -> Table:
    """The best gain of the methods beside the exact one."""

    def row(exact: Exact) -> list[str]:
        group = groups.get((exact.name, "first", exact.box), [])
        count = len(exact.gains)
        best = [f"{float(_best(group)[:count].mean()):.4f}"] if group else [""]
        gains, bounds = torch.tensor(exact.gains), torch.tensor(exact.bounds)
        within = f"{exact.closed} of {count}"
        return [
            exact.name,
            f"{exact.box:g}",
            *best,
            f"{gains.mean():.4f}",
            f"{bounds.mean():.4f}",
            within,
            f"{exact.seconds:.1f}",
        ]

    columns = ("agent", "box", "best method", "branch and bound", "upper bound", "gap closed", "CPU s")
    note = "Mean gain on the first critic, of the first states only; a gap is closed below a thousandth of Q's unit."
    return Table("The exact maximum", note, columns, [row(exact) for exact in optima])


def _rows(group: Sequence[Cell]) -> Iterator[Row]:
    best = _best(group).tolist()
    for cell in group:
        twin = cell.held_out.tolist() if cell.held_out is not None else [""] * len(best)
        numbers = zip(cell.refined.gain.tolist(), cell.refined.before.tolist(), twin, best, strict=True)
        for state, (gain, before, held_out, most) in enumerate(numbers):
            yield {
                "agent": cell.states.name,
                "critic": cell.critic,
                "box": cell.box,
                "method": cell.name,
                "starts": cell.starts,
                "steps": cell.steps,
                "state": state,
                "before": before,
                "gain": gain,
                "held_out": held_out,
                "best": most,
                "cpu_seconds_of_all": round(cell.seconds, 4),
                "forwards": int(cell.refined.forwards[state]),
                "backwards": int(cell.refined.backwards[state]),
            }


def _constants(groups: Mapping[tuple[str, str, float], Sequence[Cell]]) -> str:
    """Of each critic, box and method the size with the greatest mean share of the best, over the agents."""
    shares: dict[tuple[str, float], dict[str, dict[float, float]]] = {}
    for (_, critic, box), group in groups.items():
        best = float(_best(group).mean())
        for cell in group:
            name, at, size = cell.name.partition(" at ")
            if at:
                sums = shares.setdefault((critic, box), {}).setdefault(name, {})
                sums[float(size)] = sums.get(float(size), 0.0) + float(cell.refined.gain.mean()) / max(best, 1e-12)
    lines = []
    for key, methods in shares.items():
        sizes = ", ".join(f'"{name}": {max(by, key=lambda size: by[size])!r}' for name, by in methods.items())
        lines.append(f'("{key[0]}", {key[1]!r}): {{{sizes}}},')
    return "\n".join(lines)


def _draw(groups: Sequence[Sequence[Cell]], figure: Figure) -> None:
    figure.set_size_inches(11, 2.6 * -(-len(groups) // 3))
    for axes, group in zip(figure.subplots(-(-len(groups) // 3), 3, squeeze=False).flat, groups, strict=False):
        names = [cell.name for cell in group]
        axes.barh(names, [float(cell.refined.gain.mean()) for cell in group])
        axes.invert_yaxis()
        axes.tick_params(labelsize=5)
        axes.set_title(f"{group[0].states.name}, {group[0].critic}, box {group[0].box:g}: gain in Q", fontsize=6)
