"""Refined actions in the training of TD3 and DDPG (arXiv 2406.00494, section 6.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.statistics import bootstrapped
from benchmarks.study import chosen, numbers, stored, study
from benchmarks.timing import interleaved
from latentopt.optimizers.registry import method
from latentopt.reports import Report, Row, Table
from latentopt.rl.learning_curve import CurvePoint, final_return, mean_gain, mean_return, plot_spread
from latentopt.rl.training import TrainingSettings
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latentopt.rl.training import TrainingSettings


CHUNK = 100
"""Environment steps per turn."""


@dataclass(frozen=True)
class TrainingCost:
    """Cost of one cell."""

    algorithm: str
    refinement: str
    milliseconds: float  # median CPU time of a step
    ratio: float  # median over the rounds, to the plain algorithm


def costs(algorithm: str, trainings: Mapping[str, TrainingSettings], rounds: int) -> list[TrainingCost]:
    """Measure the cost of each training, including the plain one (none), after `CHUNK` steps of learning."""
    work: dict[str, Callable[[], object]] = {}
    for name, training in trainings.items():
        model = training.model(0).learn(training.learning_starts + CHUNK)
        work[name] = partial(model.learn, CHUNK, reset_num_timesteps=False)
    times = interleaved(work, 0.0, rounds, rounds)
    plain = [seconds.cpu for seconds in times["none"]]
    training_costs = list[TrainingCost]()
    for name, own in times.items():
        ratios = [seconds.cpu / base for seconds, base in zip(own, plain, strict=True)]
        training_costs.append(
            TrainingCost(algorithm, name, 1e3 * median(seconds.cpu for seconds in own) / CHUNK, median(ratios))
        )
    return training_costs


def cost_table(training_costs: list[TrainingCost], rounds: int, hidden: str) -> Table:
    note = f"CPU time of a step on hidden layers {hidden}: {rounds} rounds of {CHUNK} steps in turns, medians."
    cells = [
        [cost.algorithm.upper(), cost.refinement, f"{cost.milliseconds:.2f}", f"{cost.ratio:.3f}"]
        for cost in training_costs
    ]
    return Table("TrainingCost", note, ["algorithm", "refinement", "ms a step", "over none"], cells)


REFINED: Mapping[str, Mapping[str, Any] | None] = {
    "none": None,
    "gradient-ascent": {"optimizer": "gd-critic"},
    "adr-gd": {"optimizer": "adr-gd-critic"},
    "gradient-ascent-paper": {"optimizer": "gd-critic", "steps": 100, "radius": 1.0, "critic": "first"},
    "adr-gd-paper": {"optimizer": "adr-gd-paper-critic", "steps": 100, "radius": 1.0, "critic": "first"},
}
"""Settings of `RefinementSettings` by name."""
NOTE = (
    "Return of the actor alone, without noise and refinement, mean of 5 episodes per evaluation. *End*: the mean of "
    "the last fifth of a learning curve; *whole*: the mean of the whole curve. Both are means over the seeds, with the "
    "difference to the plain algorithm on the same seeds and its 95 % bootstrap interval. A refined action replaces "
    "the actor's, before noise, with probability .5. CPU seconds are those of training, without evaluations."
)


@dataclass(frozen=True)
class TrainingRun:
    """A training with its learning curve and CPU seconds."""

    algorithm: str
    refinement: str
    seed: int
    points: list[CurvePoint]

    @property
    def seconds(self) -> float:
        return self.points[-1].seconds


@study
def train_rl(
    env: str = "Pendulum-v1",
    algorithms: str = "td3,ddpg",
    refinements: str = "none,gradient-ascent,adr-gd",
    steps: int = 20_000,
    seeds: int = 5,
    hidden: str = "64,64",
    cost_rounds: int = 10,
    quick: bool = False,
    *,
    folder: Path,
) -> Report:
    """Train TD3 and DDPG with and without refined actions.

    Runs that are done lie in ``out/trained`` and are not done again: a call that was stopped goes on, one with more
    seeds adds them.

    Args:
        env: a gymnasium environment.
        algorithms: td3, ddpg or both, between commas.
        refinements: all, or some of none, gradient-ascent, adr-gd, gradient-ascent-paper, adr-gd-paper; none is always
            among them.
        steps: environment steps per run.
        seeds: number of seeds, from 0 on.
        hidden: widths of the hidden layers, between commas.
        cost_rounds: rounds of the cost table, which uses stable-baselines3's networks with 400 and 300 units.
        quick: 300 steps, 2 seeds, small networks, as a smoke test.
    """
    kinds = chosen("algorithms", algorithms, {"td3": "td3", "ddpg": "ddpg"})
    cells = chosen("refinements", refinements, REFINED, always="none")
    widths, wide = numbers("hidden", hidden, int), (400, 300)
    if quick:
        steps, seeds, widths, wide, cost_rounds = min(steps, 300), min(seeds, 2), (16, 16), (16, 16), 2
    every = max(1, steps // (3 if quick else 12))
    runs, spent = list[TrainingRun](), list[TrainingCost]()
    for seed in range(seeds):
        for kind in kinds:
            for name, training in _trainings(env, kind, cells, steps, widths, every).items():
                runs.append(_trained(folder / "trained", name, training, seed))
    for kind in kinds:
        spent += costs(kind, _trainings(env, kind, cells, 1000, wide, every), cost_rounds)
    tables = [_table(kind, [run for run in runs if run.algorithm == kind]) for kind in kinds]
    tables.append(cost_table(spent, cost_rounds, str(list(wide))))
    title = f"Refined actions in training: {env}, {steps} steps, {seeds} seeds, hidden layers {list(widths)}"
    rows = [*(row for run in runs for row in _rows(run)), *(asdict(cost) for cost in spent)]
    return Report(title, NOTE, tables, rows, partial(_draw, runs))


def _trainings(
    env: str, kind: str, cells: Mapping[str, Mapping[str, Any] | None], steps: int, widths: Sequence[int], every: int
) -> dict[str, TrainingSettings]:
    """By the name of a refinement."""
    from latentopt.rl.refine import RefinementSettings
    from latentopt.rl.training import TrainingSettings

    refinements = {name: None if how is None else RefinementSettings(**how) for name, how in cells.items()}
    return {
        name: TrainingSettings(env, kind, how, steps, widths, every=every)  # pyright: ignore[reportArgumentType]
        for name, how in refinements.items()
    }


def _trained(folder: Path, refinement: str, training: TrainingSettings, seed: int) -> TrainingRun:
    from latentopt.rl.training import train_agent

    path = folder / f"{training.algorithm}-{refinement}-{seed}.json"
    how = training.refinement and repr(method(training.refinement.optimizer))
    settings = {"training": asdict(training), "optimizer": how, "seed": seed}
    content = stored(path, settings, lambda: {"points": train_agent(training, seed)[1]})
    return TrainingRun(training.algorithm, refinement, seed, [CurvePoint(*point) for point in content["points"]])


def _table(kind: str, runs: Sequence[TrainingRun]) -> Table:
    names = list(dict.fromkeys(run.refinement for run in runs))
    by_refinement = {name: [run for run in runs if run.refinement == name] for name in names}
    plain = by_refinement["none"]
    columns = ["refinement", "end", "end - none", "whole", "whole - none", "gain in Q", "CPU s a run"]
    rows = []
    for name, own in by_refinement.items():
        cells = []
        for part in (final_return, mean_return):
            values, base = [part(run.points) for run in own], [part(run.points) for run in plain]
            cells += [f"{student(values).mean:.1f}", "" if name == "none" else _difference(values, base)]
        gain = float(np.mean([mean_gain(run.points) for run in own]))
        seconds = float(np.mean([run.seconds for run in own]))
        gains = "" if name == "none" else f"{gain:.3f}"
        rows.append([name, *cells, gains, f"{seconds:.1f}"])
    return Table(kind.upper(), "", columns, rows)


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    interval = bootstrapped(np.subtract(ours, theirs).tolist())
    return f"{interval.mean:+.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _rows(run: TrainingRun) -> list[Row]:
    return [
        {"algorithm": run.algorithm, "refinement": run.refinement, "seed": run.seed, **point._asdict()}
        for point in run.points
    ]


def _draw(runs: Sequence[TrainingRun], figure: Figure) -> None:
    kinds = list(dict.fromkeys(run.algorithm for run in runs))
    figure.set_size_inches(6 * len(kinds), 4)
    for ax, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
        for name in dict.fromkeys(run.refinement for run in runs):
            own = [run for run in runs if (run.algorithm, run.refinement) == (kind, name)]
            steps = [point.step for point in own[0].points]
            plot_spread(ax, steps, [[point.mean for point in run.points] for run in own], name)
        ax.set(title=kind.upper(), xlabel="steps", ylabel="return of the actor")
        ax.legend()
        ax.grid(alpha=0.3)
