"""Sweeps without a server: sweep files of W&B, the trials that they ask for, and the table of their results."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentopt.errors import InputError, is_number, positive
from latentopt.jobs.records import RESULTS, SUMMARY
from latentopt.zoo.strict_yaml import read_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARGUMENTS = "${args}"
DISTRIBUTIONS = {
    "uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "int_uniform": ("min", "max"),
    "normal": ("mu", "sigma"),
}
"""W&B's distributions that are drawn here, and their numbers."""
KEYS = ("command", "description", "entity", "method", "metric", "name", "parameters", "program", "project", "run_cap")
METRICS_OF_JOBS = {
    "reconstruct": ("mean_mse", "mean_psnr", "mean_ssim", "mean_loss"),
    "attack": ("success", "robust_accuracy", "clean_accuracy"),
    "attack-policy": ("mean_unattacked", "mean_attacked", "mean_difference"),
    "refine": ("difference", "error", "gain"),
    "train-rl": ("mean_end", "mean_whole", "mean_seconds"),
}
"""Best figures of each job; those of an analysis depend on its settings."""
MAX_PLOTS = 6


@dataclass(frozen=True)
class SweepParameter:
    """An option in which trials differ: listed values, or a distribution of numbers."""

    values: tuple[Any, ...] = ()
    distribution: str = ""
    numbers: tuple[float, ...] = ()  # of the distribution, as in `DISTRIBUTIONS`

    def draw(self, dice: random.Random) -> Any:
        """Draw a value."""
        if self.values:
            return dice.choice(self.values)
        first, second = self.numbers
        match self.distribution:
            case "int_uniform":
                return dice.randint(int(first), int(second))
            case "log_uniform_values":
                return math.exp(dice.uniform(math.log(first), math.log(second)))
            case "normal":
                return dice.gauss(first, second)
            case _:
                return dice.uniform(first, second)

    def probes(self) -> tuple[Any, ...]:
        """Return values that tell whether a job takes this parameter: all listed ones, or the ends."""
        if self.values or self.distribution == "normal":
            return self.values or self.numbers[:1]
        return tuple(int(end) for end in self.numbers) if self.distribution == "int_uniform" else self.numbers


@dataclass(frozen=True)
class Sweep:
    """A sweep file."""

    words: tuple[str, ...]  # of the command line, without those of a trial
    method: Literal["grid", "random"]
    metric: str
    goal: Literal["minimize", "maximize"]
    parameters: Mapping[str, SweepParameter]
    cap: int | None  # number of trials
    project: str | None = None  # of W&B
    entity: str | None = None

    def trials(self, count: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
        """Return the options of each trial; the first trials are the same for any ``count``.

        Raises:
            InputError: the trials are random and there is no number of them.
        """
        count = count or self.cap
        if self.method == "grid":
            grid = itertools.product(*(parameter.values for parameter in self.parameters.values()))
            return [dict(zip(self.parameters, values, strict=True)) for values in itertools.islice(grid, count)]
        if count is None:
            raise InputError("trials", "a number, as the file's method is random and it has no run_cap", "none")
        dice = [random.Random(f"{seed}-{index}") for index in range(count)]
        return [{name: parameter.draw(die) for name, parameter in self.parameters.items()} for die in dice]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        InputError: (one line) it is none, or one that only W&B's server can run.
    """
    loaded = read_yaml(path, "a sweep file in YAML")
    if not isinstance(loaded, dict):
        raise InputError(str(path), "a sweep file: keys and values", type(loaded).__name__)
    content: dict[str, Any] = {**dict.fromkeys(KEYS, None), **loaded}

    def require(condition: bool, key: str, expected: str, got: Any) -> None:
        if not condition:
            raise InputError(f"{path}: {key}", expected, got)

    for key in sorted(set(content) - set(KEYS)):
        require(False, key, f"one of the keys {', '.join(KEYS)}", key)
    method, metric, parameters = content["method"], content["metric"], content["parameters"]
    require(method in ("grid", "random"), "method", "grid or random; others need W&B's server", repr(method))
    named = isinstance(metric, dict) and isinstance(metric.get("name"), str)
    require(named, "metric", "a name and a goal", repr(metric))
    goal = metric.get("goal", "minimize")
    require(goal in ("minimize", "maximize"), "metric.goal", "minimize or maximize", repr(goal))
    if content["run_cap"] is not None:
        positive(f"{path}: run_cap", content["run_cap"], integer=True)
    has_parameters = isinstance(parameters, dict) and bool(parameters)
    require(has_parameters, "parameters", "options, each with its values", repr(parameters))
    options = {name: _parameter(f"{path}: parameters.{name}", spec, method) for name, spec in parameters.items()}
    place = {key: content[key] for key in ("project", "entity")}
    for key, value in place.items():
        require(value is None or (isinstance(value, str) and value != ""), key, "a name", repr(value))
    return Sweep(_command_words(path, content), method, metric["name"], goal, options, content["run_cap"], **place)


def _command_words(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Return what follows `latentopt` on the command line of a trial."""
    command = content["command"]
    expected = f"a list: latentopt, a command of it, and {ARGUMENTS}"
    if not isinstance(command, list) or ARGUMENTS not in command:
        raise InputError(f"{path}: command", expected, repr(command))
    words = [str(word) for word in command if word not in ("${env}", "${interpreter}", ARGUMENTS)]
    words = [str(content["program"]) if word == "${program}" else word for word in words]
    if words[:2] == ["-m", "latentopt"]:
        words = words[1:]
    if words[:1] != ["latentopt"] or len(words) == 1:
        raise InputError(f"{path}: command", expected, " ".join(words))
    return tuple(words[1:])


def _parameter(name: str, spec: Any, method: str) -> SweepParameter:
    if not isinstance(spec, dict):
        raise InputError(name, "value, values, or a distribution", repr(spec))
    if "parameters" in spec:
        raise InputError(name, "options with a dot (optimizer.lr), not nested ones", repr(spec))
    values = [spec["value"]] if "value" in spec else spec.get("values")
    if values is not None:
        if not isinstance(values, list) or not values:
            raise InputError(name, "a list of values", repr(values))
        return SweepParameter(tuple(values))
    integers = all(isinstance(spec.get(end), int) for end in ("min", "max"))
    distribution = spec.get("distribution", "int_uniform" if integers else "uniform")
    if distribution not in DISTRIBUTIONS:
        raise InputError(name, f"values, or a distribution: {', '.join(DISTRIBUTIONS)}", repr(distribution))
    if method == "grid":
        raise InputError(name, "values, as the method is grid", distribution)
    numbers: tuple[Any, ...] = tuple(spec.get(key) for key in DISTRIBUTIONS[distribution])
    if not all(map(is_number, numbers)):
        raise InputError(name, f"numbers {' and '.join(DISTRIBUTIONS[distribution])}", repr(spec))
    low, high = (float(number) for number in numbers)
    lowest = 0.0 if distribution == "log_uniform_values" else -math.inf
    if distribution != "normal" and not lowest < low <= high:
        raise InputError(name, "min <= max" + (" and min > 0" if lowest == 0 else ""), repr(spec))
    return SweepParameter((), distribution, (low, high))


def check_metric(job: str, metric: str) -> None:
    """Raise `InputError` if a job has no such figure, before a trial is run for it."""
    known = [f"best/{name}" for name in METRICS_OF_JOBS.get(job, ())]
    if known and metric not in known:
        raise InputError("metric.name", f"one of {', '.join(known)}", metric)


def read_summary(trial: Path) -> dict[str, float] | None:
    """Read the best figures of a trial; None if it is not done."""
    path = trial / SUMMARY
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def rank_trials(sweep: Sweep, trials: dict[str, dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return a row for each trial that is done, the best first.

    Raises:
        InputError: the trials have no figure of the metric's name.
    """
    rows = list[dict[str, Any]]()
    for name, options in trials.items():
        summary = read_summary(folder / name)
        if summary is None:
            continue
        if sweep.metric not in summary:
            raise InputError("metric.name", f"one of {', '.join(summary)}", sweep.metric)
        rows.append({"trial": name, sweep.metric: summary[sweep.metric], **options, **summary})
    sign = 1 if sweep.goal == "minimize" else -1
    return sorted(rows, key=lambda row: (math.isnan(row[sweep.metric]), sign * row[sweep.metric]))


def write_results(sweep: Sweep, rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the table and the plot; return their paths."""
    from latentopt.io import write_atomically
    from latentopt.reports import PLOT, csv_text, png_bytes

    write_atomically(folder / RESULTS, csv_text(rows).encode())
    write_atomically(folder / PLOT, png_bytes(lambda figure: _draw(figure, sweep, rows)))
    return [folder / RESULTS, folder / PLOT]


def _draw(figure: Figure, sweep: Sweep, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the metric against each parameter that varies."""
    varying = [name for name, parameter in sweep.parameters.items() if len(parameter.values) != 1][:MAX_PLOTS]
    varying = varying or list(sweep.parameters)[:1]
    figure.set_size_inches(3.2 * len(varying), 3)
    panels = figure.subplots(1, len(varying), squeeze=False)[0]
    for name, axes in zip(varying, panels, strict=True):
        values, metric = [row[name] for row in rows], [row[sweep.metric] for row in rows]
        if not all(map(is_number, values)):
            values = [str(value) for value in values]
        elif sweep.parameters[name].distribution == "log_uniform_values":
            axes.set_xscale("log")
        axes.scatter(values, metric)
        axes.scatter(values[:1], metric[:1], label="best")
        axes.set_xlabel(name)
    panels[0].set_ylabel(f"{sweep.metric} ({sweep.goal})")
    panels[0].legend()
