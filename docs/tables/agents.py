"""Tables of docs/agents.md, with the rows and columns of the results."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from benchmarks.statistics import bootstrapped
from latentopt.reports import Table
from latentopt.rl.learning_curve import CurvePoint, final_return, mean_gain, mean_return
from latentopt.statistics import student
from tables.stored import Cell, distinct, load, made, named, several, where
from tables.text import bare, box_of, signed, table

AGENTS = {
    "halfcheetah": "HalfCheetah, SAC",
    "hopper": "Hopper, SAC",
    "walker2d": "Walker2d, SAC",
    "swimmer": "Swimmer, SAC",
    "bipedal-td3": "BipedalWalker, TD3",
    "lunar-td3": "LunarLander, TD3",
    "lunar-ddpg": "LunarLander, DDPG",
}
METHODS = {"gradient-ascent": "gradient ascent", "adr-gd": "ADR-GD", "adam": "Adam", "cem": "CEM"}
CRITICS = {"min": "least of the twins", "first": "first critic"}
ONE_CRITIC = "lunar-ddpg"
"""The agent with a single critic, for which first and min are the same."""


def _played(critic: str, name: str = "returns") -> list[Cell]:
    """Return the rows with this critic setting, or with the only one for the agent with a single critic."""
    cells = [c for c in load(name) if c["critic"] in ("", critic) or c["agent"] == ONE_CRITIC]
    agents = {c["agent"] for c in cells if c["method"] != "none"}
    return [c for c in cells if c["agent"] in agents]


def _columns(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    settings = distinct([c for c in cells if c["method"] != "none"], "method", "box")
    order = list(METHODS)
    return sorted(
        settings, key=lambda setting: (order.index(setting[0]) if setting[0] in order else len(order), setting[1])
    )


def returns(critic: str = "min", name: str = "returns") -> Table:
    """Tabulate the change of the return by refinement, paired by episode."""
    cells = _played(critic, name)
    agents = sorted(distinct(cells, "agent"), key=list(AGENTS).index)
    plains = {name: where(cells, agent=name, method="none")[0] for name in agents}
    bases = [student(plains[name]["return"]) for name in agents]
    rows = [["actor alone", *(f"{base.mean:.0f} +- {base.error:.0f}" for base in bases)]]
    for method, box in _columns(cells):
        texts = [_change(where(cells, agent=name), plains[name], method, box) for name in agents]
        rows.append([f"{METHODS.get(method, method)}, radius {box_of(box)}", *texts])
    return table(["", *(AGENTS[name] for name in agents)], rows)


def against(method: str = "adr-gd", control: str = "adam") -> Table:
    """Return a method's returns minus its control's, with the same box, critic and seeds."""
    agents = [name for name in AGENTS if name in distinct(load("returns"), "agent")]
    rows = []
    for critic in ("min", "first"):
        cells = _played(critic)
        for box in distinct(where(cells, method=method), "box"):
            pairs = [(where(cells, agent=name, method=control, box=box), name) for name in agents]
            texts = [_change(where(cells, agent=name), base[0], method, box) if base else "" for base, name in pairs]
            rows.append([f"{CRITICS[critic]}, radius {box_of(box)}", *texts])
    return table(["", *(AGENTS[name] for name in agents)], rows)


def _change(own: Sequence[Cell], base: Cell, method: str, box: float) -> str:
    refined = where(own, method=method, box=box)
    if not refined:
        return ""
    if refined[0]["seed"] != base["seed"]:
        raise ValueError(f"other seeds than the control's: {refined[0]['agent']}, {method}, box {box:g}")
    difference = bootstrapped(np.subtract(refined[0]["return"], base["return"]).tolist())
    return signed(difference, 0 if difference.high - difference.low > 100 else 1)


Curves = dict[int, list[CurvePoint]]


def _curves(cells: Sequence[Cell]) -> Curves:
    """Return the learning curve of each seed."""
    return {
        seed: [CurvePoint(c["step"], c["mean"], 0.0, 0.0, c["gain"], c["seconds"]) for c in where(cells, seed=seed)]
        for seed in distinct(cells, "seed")
    }


def training() -> Table:
    """Tabulate learning curves of Pendulum, with and without refinement."""
    cells = [cell for cell in several(*named("train-rl-*")) if cell["step"] != ""]
    rows = []
    for algorithm in ("td3", "ddpg"):
        own = where(cells, algorithm=algorithm)
        plain = _curves(where(own, refinement="none"))
        for refinement in distinct(own, "refinement"):
            curves = _curves(where(own, refinement=refinement))
            title = f"{algorithm.upper()}, {METHODS.get(refinement, refinement)}"
            rows.append([title, str(len(curves)), *_learned(curves, plain, refinement == "none")])
    columns = ["", "seeds", "end", "difference", "whole", "difference", "gain in Q", "CPU s a run"]
    return table(columns, rows)


def _learned(curves: Curves, plain: Curves, base: bool) -> list[str]:
    texts = []
    for part in (final_return, mean_return):
        values = [part(points) for points in curves.values()]
        change = [] if base else [part(points) - part(plain[seed]) for seed, points in curves.items()]
        texts += [f"{student(values).mean:.1f}", "" if base else signed(bootstrapped(change), 1)]
    gain = np.mean([mean_gain(points) for points in curves.values()])
    seconds = np.mean([points[-1].seconds for points in curves.values()])
    return [*texts, "" if base else bare(float(gain), 3), f"{seconds:.0f}"]


def cost() -> Table:
    """Tabulate the CPU time of refinement per step: measured alternately, and over the runs, which were disturbed."""
    rows = []
    for name in named("train-rl-*"):
        cells = load(name)
        rounds = re.search(r"--cost-rounds (\d+)", made(name)["commands"][0])
        for turns in [c for c in cells if c["ratio"] != "" and c["refinement"] != "none"]:
            own = where(cells, algorithm=turns["algorithm"], refinement=turns["refinement"])
            base = where(cells, algorithm=turns["algorithm"], refinement="none")
            title = f"{turns['algorithm'].upper()}, {METHODS.get(turns['refinement'], turns['refinement'])}"
            ratios = [f"{turns['ratio']:.2f}", rounds[1] if rounds else "10", f"{_seconds(own) / _seconds(base):.2f}"]
            rows.append([title, *ratios])
    return table(["", "[400, 300], in turns", "rounds", "[64, 64], whole runs"], rows)


def _seconds(cells: Sequence[Cell]) -> float:
    ends = [points[-1].seconds for points in _curves([c for c in cells if c["step"] != ""]).values()]
    return float(np.mean(ends))


BLOCKS = {
    "returns": returns,
    "returns-first": lambda: returns("first"),
    "returns-against": against,
    "returns-tuning": lambda: returns("min", "returns-tuning"),
    "train-rl": training,
    "train-rl-cost": cost,
}
