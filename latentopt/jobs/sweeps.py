"""Sweeps: W&B's files of them, and the trials that such a file asks for, without a server."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latentopt.errors import InputError, positive
from latentopt.zoo.strict_yaml import read_yaml

METHODS = ("grid", "random")
MACROS = ("${env}", "${interpreter}", "${program}")
ARGUMENTS = "${args}"
DRAWN = {
    "uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "int_uniform": ("min", "max"),
    "normal": ("mu", "sigma"),
}
"""W&B's distributions that are drawn here, and what each needs."""
KEYS = {"program", "command", "method", "metric", "parameters", "name", "description", "run_cap", "project", "entity"}


@dataclass(frozen=True)
class Parameter:
    """An option that trials differ in: one of its values, or a number that is drawn."""

    values: tuple[Any, ...] = ()
    distribution: str = ""
    numbers: tuple[float, ...] = ()  # of the distribution, as in `DRAWN`

    def draw(self, dice: random.Random) -> Any:
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
        """Values that tell whether the job takes this parameter: all, or the ends."""
        if self.values or self.distribution == "normal":
            return self.values or self.numbers[:1]
        return tuple(int(end) for end in self.numbers) if self.distribution == "int_uniform" else self.numbers


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says."""

    words: tuple[str, ...]  # of the command line, without those of a trial
    method: Literal["grid", "random"]
    metric: str
    goal: Literal["minimize", "maximize"]
    parameters: Mapping[str, Parameter]
    cap: int | None  # trials
    project: str | None = None  # of W&B, like the entity
    entity: str | None = None

    def trials(self, count: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
        """The options of each trial; the first of them are the same for any ``count``.

        Raises:
            InputError: random trials without a number of them.
        """
        count = count or self.cap
        if self.method == "grid":
            each = itertools.product(*(parameter.values for parameter in self.parameters.values()))
            return [dict(zip(self.parameters, values, strict=True)) for values in itertools.islice(each, count)]
        if count is None:
            raise InputError("trials", "a number, as the file's method is random and it has no run_cap", "none")
        dice = [random.Random(f"{seed}-{at}") for at in range(count)]
        return [{name: parameter.draw(die) for name, parameter in self.parameters.items()} for die in dice]


def read_sweep(path: Path) -> Sweep:
    """A sweep file.

    Raises:
        InputError: (one line) it is none, or one that only a server can run.
    """
    content = read_yaml(path, "a sweep file in YAML")
    if not isinstance(content, dict):
        raise InputError(str(path), "a sweep file: keys and values", type(content).__name__)
    if unknown := sorted(set(content) - KEYS):
        raise InputError(f"{path}: {unknown[0]}", f"one of the keys {', '.join(sorted(KEYS))}", unknown[0])
    method, metric = content.get("method"), content.get("metric")
    if method not in METHODS:
        raise InputError(f"{path}: method", f"{' or '.join(METHODS)}; others need W&B's server", repr(method))
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise InputError(f"{path}: metric", "a name and a goal", repr(metric))
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise InputError(f"{path}: metric.goal", "minimize or maximize", repr(goal))
    if (cap := content.get("run_cap")) is not None:
        positive(f"{path}: run_cap", cap, integer=True)
    parameters = content.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise InputError(f"{path}: parameters", "options, each with its values", repr(parameters))
    found = {name: _parameter(f"{path}: parameters.{name}", given, method) for name, given in parameters.items()}
    where = {key: content.get(key) for key in ("project", "entity")}
    for key, value in where.items():
        if value is not None and not (isinstance(value, str) and value):
            raise InputError(f"{path}: {key}", "a name", repr(value))
    return Sweep(_words(path, content), method, metric["name"], goal, found, cap, **where)


def _words(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """What follows `latentopt` on the command line of a trial."""
    command = content.get("command")
    expected = f"a list: latentopt, a command of it, and {ARGUMENTS}"
    if not isinstance(command, list) or ARGUMENTS not in command:
        raise InputError(f"{path}: command", expected, repr(command))
    words = [str(word) for word in command if word not in (*MACROS[:2], ARGUMENTS)]
    words = [str(content.get("program")) if word == MACROS[2] else word for word in words]
    if words[:2] == ["-m", "latentopt"]:
        words = words[1:]
    if words[:1] != ["latentopt"] or len(words) == 1:
        raise InputError(f"{path}: command", expected, " ".join(words))
    return tuple(words[1:])


def _parameter(name: str, given: Any, method: str) -> Parameter:
    if not isinstance(given, dict):
        raise InputError(name, "value, values, or a distribution", repr(given))
    if "parameters" in given:
        raise InputError(name, "options with a dot (optimizer.lr), not nested ones", repr(given))
    values = [given["value"]] if "value" in given else given.get("values")
    if values is not None:
        if not isinstance(values, list) or not values:
            raise InputError(name, "a list of values", repr(values))
        return Parameter(tuple(values))
    whole = all(isinstance(given.get(end), int) for end in ("min", "max"))
    distribution = given.get("distribution", "int_uniform" if whole else "uniform")
    if distribution not in DRAWN:
        raise InputError(name, f"values, or a distribution: {', '.join(DRAWN)}", repr(distribution))
    if method == "grid":
        raise InputError(name, "values, as the method is grid", distribution)
    numbers: tuple[Any, ...] = tuple(given.get(key) for key in DRAWN[distribution])
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise InputError(name, f"numbers {' and '.join(DRAWN[distribution])}", repr(given))
    low, high = (float(number) for number in numbers)
    lowest = 0.0 if distribution == "log_uniform_values" else -math.inf
    if distribution != "normal" and not lowest < low <= high:
        raise InputError(name, "min <= max" + (" and min > 0" if lowest == 0 else ""), repr(given))
    return Parameter((), distribution, (low, high))
