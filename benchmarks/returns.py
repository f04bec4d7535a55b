"""Returns of pretrained agents with every action refined, on the same seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.action_agents import AGENTS
from benchmarks.statistics import bootstrapped
from benchmarks.study import chosen, numbers, stored, study
from latentopt.errors import InputError
from latentopt.reports import Report, Row, Table
from latentopt.statistics import MeanInterval, student
from latentopt.zoo.paths import data_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latentopt.rl.actor_critic import RefinedEpisodes


METHODS: Mapping[str, str] = {
    "gradient-ascent": "gd-critic",
    "adam": "adam-critic",
    "adr-gd": "adr-gd-critic",
    "cem": "cem",
}
"""Methods of `refine_action` by name."""
CRITICS: Mapping[str, str] = {"first": "first", "min": "min"}
TUNING = 1000
"""Offset of the tuning seeds."""
NOTE = (
    "Sum of rewards of an episode. Every action of the actor is replaced by the refined one. *Difference*: to the "
    "actor alone on the same seeds, with its 95 % bootstrap interval over the seeds; **bold** if the interval is above "
    "0, *italic* if below. *Gain*: in Q per step, of the refined critic. Intervals are not corrected for multiple "
    "comparisons: of forty cells without any effect about two exclude 0, one on each side."
)


@dataclass(frozen=True, eq=False)
class AgentReturns:
    """Outcome of a method on an agent."""

    agent: str
    method: str  # or none
    critic: str
    box: float
    played: RefinedEpisodes

    @property
    def settings(self) -> tuple[str, str, float]:
        return self.method, self.critic, self.box


@study
def returns(
    agents: str = "all",
    methods: str = "all",
    critics: str = "first,min",
    radii: str = "0.05,0.25,1",
    steps: int = 20,
    episodes: int = 20,
    seed: int = 0,
    tune: bool = False,
    quick: bool = False,
    *,
    folder: Path,
) -> Report:
    """Play episodes of pretrained agents with and without refined actions.

    Cells that are done lie in ``out/played`` and are not done again: a call that was stopped goes on.

    Args:
        agents: all, or some of halfcheetah, hopper, walker2d, swimmer, bipedal-td3, lunar-td3, lunar-ddpg, between
            commas; from LATENTOPT_DATA.
        methods: all, or some of gradient-ascent, adam, adr-gd, cem, between commas.
        critics: for agents with twin critics first, min, or both, between commas; agents with one critic use first.
        radii: radii of the box around the actor's action, in units of half the range, between commas.
        steps: steps of each method.
        episodes: number of episodes per cell, on the same seeds.
        seed: seed of the first episode.
        tune: choose settings on other seeds, from 1000 on.
        quick: lunar-ddpg and gradient ascent alone, 2 episodes, 2 steps, as a smoke test.
    """
    files, runs = chosen("agents", agents, AGENTS), chosen("methods", methods, METHODS)
    counted, widths = chosen("critics", critics, CRITICS), numbers("radii", radii)
    if quick:
        files, runs = {"lunar-ddpg": AGENTS["lunar-ddpg"]}, {"gradient-ascent": "gd-critic"}
        widths, episodes, steps = widths[:1], 2, 2
    for file, _ in files.values():
        if not (data_root() / file).is_file():
            raise InputError("LATENTOPT_DATA", f"a folder with {file}", str(data_root()))
    seeds = [seed + tune * TUNING + number for number in range(episodes)]
    cells = [
        cell for name in files for cell in _cells(folder / "played", name, runs, list(counted), widths, steps, seeds)
    ]
    tables = [_summary(cells), *(_table([cell for cell in cells if cell.agent == name]) for name in files)]
    title = f"Returns with refined actions, {steps} steps a state, {episodes} episodes of seeds from {seeds[0]} on"
    return Report(title, NOTE, tables, [row for cell in cells for row in _rows(cell, seeds)], partial(_draw, cells))


def _cells(
    folder: Path,
    name: str,
    runs: Mapping[str, str],
    critics: Sequence[str],
    radii: Sequence[float],
    steps: int,
    seeds: Sequence[int],
) -> list[AgentReturns]:
    from latentopt.rl.actor_critic import RefinedEpisodes, load_actor_critic, play_refined
    from latentopt.rl.refine import Refiner
    from latentopt.rl.rollout import make_environment

    file, env = AGENTS[name]
    environments = [make_environment(env) for _ in seeds]
    digest = hashlib.sha256((data_root() / file).read_bytes()).hexdigest()
    player = load_actor_critic(data_root() / file, environments[0])
    counted = critics if len(player.critic.networks) > 1 else ["first"]
    cells = list[AgentReturns]()
    for method, critic, box in [("none", "", 0.0), *product(runs, counted, radii)]:
        refiner = None
        if method != "none":
            refiner = Refiner(player.critic, -1.0, 1.0, box, runs[method], steps, critic)  # pyright: ignore[reportArgumentType]
        settings = {"agent": name, "method": method, "critic": critic, "box": box, "steps": steps, "seeds": seeds}
        settings |= {"optimizer": repr(refiner and refiner.method), "agent_held": digest}

        def played(refiner: Refiner | None = refiner) -> dict[str, Any]:
            refined = play_refined(player, environments, seeds, refiner)
            return {key: value.tolist() if key != "seconds" else value for key, value in refined._asdict().items()}

        path = folder / f"{name}-{method}-{critic}-{box:g}-{seeds[0]}.json"
        episodes_played = stored(path, settings, played)
        total, count, gains = (np.array(episodes_played[key]) for key in ("returns", "steps", "gains"))
        cells.append(
            AgentReturns(name, method, critic, box, RefinedEpisodes(total, count, gains, episodes_played["seconds"]))
        )
    return cells


def difference(cell: AgentReturns, plain: AgentReturns) -> MeanInterval:
    """Tabulate the change of the return by refinement, paired by seed."""
    return bootstrapped((cell.played.returns - plain.played.returns).tolist())


def _table(cells: Sequence[AgentReturns]) -> Table:
    plain = cells[0]
    base = student(plain.played.returns.tolist())
    rows = [["none", "", "", f"{base.mean:.1f} +- {base.error:.1f}", "", "", ""]]
    for cell in cells[1:]:
        mean, gain = student(cell.played.returns.tolist()), cell.played.gains.mean()
        milliseconds = 1e3 * cell.played.seconds / cell.played.steps.sum()
        texts = [
            f"{mean.mean:.1f} +- {mean.error:.1f}",
            _shown(difference(cell, plain)),
            f"{gain:.3f}",
            f"{milliseconds:.3f}",
        ]
        rows.append([cell.method, cell.critic, f"{cell.box:g}", *texts])
    columns = ["method", "critic", "box", "return", "difference", "gain in Q", "CPU ms a state"]
    return Table(cells[0].agent, "", columns, rows)


def _shown(interval: MeanInterval) -> str:
    text = f"{interval.mean:+.1f} [{interval.low:.1f}, {interval.high:.1f}]"
    return f"**{text}**" if interval.low > 0 else f"*{text}*" if interval.high < 0 else text


def _summary(cells: Sequence[AgentReturns]) -> Table:
    """Tabulate each setting over all agents, in units of the standard deviation of the actor's returns."""
    plains = {cell.agent: cell for cell in cells if cell.method == "none"}
    rows = []
    for settings in dict.fromkeys(cell.settings for cell in cells if cell.method != "none"):
        own = [cell for cell in cells if cell.settings == settings]
        differences = [difference(cell, plains[cell.agent]) for cell in own]
        shares = [
            change.mean / abs(plains[cell.agent].played.returns.mean())
            for cell, change in zip(own, differences, strict=True)
        ]
        above, below = sum(change.low > 0 for change in differences), sum(change.high < 0 for change in differences)
        cells_ = [f"{100 * float(np.mean(shares)):+.2f} %", f"{100 * min(shares):+.2f} %", str(above), str(below)]
        rows.append([settings[0], settings[1], f"{settings[2]:g}", str(len(own)), *cells_])
    columns = ["method", "critic", "box", "agents", "mean change", "worst agent", "better", "worse"]
    note = "Change of the mean return in per cent of the actor's; better, worse: agents whose interval leaves 0."
    return Table("All agents", note, columns, rows)


def _rows(cell: AgentReturns, seeds: Sequence[int]) -> list[Row]:
    common: dict[str, Any] = {
        "agent": cell.agent,
        "method": cell.method,
        "critic": cell.critic,
        "box": cell.box,
        "seconds": round(cell.played.seconds, 3),
    }
    episodes = zip(seeds, cell.played.returns, cell.played.steps, cell.played.gains, strict=True)
    return [
        {**common, "seed": number, "return": float(r), "steps": int(n), "gain": float(g)}
        for number, r, n, g in episodes
    ]


def _draw(cells: Sequence[AgentReturns], figure: Figure) -> None:
    agents = list(dict.fromkeys(cell.agent for cell in cells))
    figure.set_size_inches(4.2 * len(agents), 5)
    for ax, agent in zip(figure.subplots(1, len(agents), squeeze=False).flat, agents, strict=True):
        plain, *own = (cell for cell in cells if cell.agent == agent)
        for index, cell in enumerate(own):
            change = difference(cell, plain)
            errors = [[change.mean - change.low], [change.high - change.mean]]
            ax.errorbar(change.mean, -index, xerr=errors, fmt="o", color="tab:blue", markersize=4, capsize=2)
        labels = [f"{cell.method} {cell.critic} {cell.box:g}" for cell in own]
        ax.set_yticks([-index for index in range(len(own))], labels, fontsize=6)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(title=agent, xlabel="return, difference to the actor")
        ax.grid(alpha=0.3)
