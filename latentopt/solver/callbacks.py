"""What is seen of a solve while it runs, and what can be done with it.

A callback is any function of a `Progress`, called after every step. It returns nothing, or True to stop the solve. One
that has a method ``close`` is closed when the solve ends, however it ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.io import write_atomically


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback sees after a step, not to be changed. Rows are restart-major: row = restart * B + sample."""

    t: int  # steps done, from 1
    steps: int
    x: Tensor  # (restarts * B, *shape) where the step started; of a stopped row, where it stopped
    output: Tensor  # (restarts * B, *out) the network's output there; NaN once stopped (0 if it is of integers)
    loss: Tensor  # (restarts * B,) objective there; NaN once stopped
    best_x: Tensor  # (B, *shape) best so far
    best: Tensor  # (B,) its objective
    info: dict[str, Tensor]  # what the optimiser reports, (restarts * B,); NaN once stopped
    forwards: int  # of all samples together, so far; with what a learnt start of theirs has cost
    backwards: int  # of all samples together, so far
    seconds: float  # since the solve began
    meta: dict[str, Any]  # the settings, as in `Result.meta`


Callback = Callable[[Progress], bool | None]


def each(count: float, progress: Progress) -> float:
    """A count of all samples together, as one of them has it in the mean."""
    return count / len(progress.best)


def means(progress: Progress) -> dict[str, float]:
    """``loss``, ``best`` and what the optimiser reports, each the mean over all that are still in."""
    figures = {"loss": progress.loss, "best": progress.best, **progress.info}
    return {name: float(values.nanmean()) for name, values in figures.items()}


class ProgressBar:
    """A bar that shows the steps and the mean of the best objectives.

    Args:
        settings: of `tqdm.tqdm`, such as ``desc`` or ``leave``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings, self.bar = settings, None

    def __call__(self, progress: Progress) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=progress.steps, initial=progress.t - 1, unit="step", **self.settings)
        self.bar.set_postfix_str(f"loss {float(progress.best.mean()):.5g}", refresh=False)
        self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None


class Trajectory:
    """Keeps the iterates of every ``every``-th step, from the first, on the CPU.

    Attributes:
        t: the steps, from 1.
        x: of each, where it started, (restarts * B, *shape).
    """

    def __init__(self, every: int = 1) -> None:
        positive("every", every, integer=True)
        self.every = every
        self.t: list[int] = []
        self.x: list[Tensor] = []

    def __call__(self, progress: Progress) -> None:
        if (progress.t - 1) % self.every == 0:
            self.t.append(progress.t)
            self.x.append(progress.x.cpu())

    def stacked(self) -> Tensor:
        """All of them, (kept steps, restarts * B, *shape)."""
        return torch.stack(self.x)


class JsonLines:
    """Writes a line a step: ``t``, the means of the figures (null where not finite), cost and seconds.

    ``forwards`` and ``backwards`` are those of a sample so far, all its restarts together, in the mean of all samples.

    Args:
        path: a new file.
        resume: go on in an existing file, behind the last step before those that are now done (again).

    Raises:
        InputError: the file exists and ``resume`` is not set, or its folder does not.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path, self.resume = Path(path), resume
        if not self.path.parent.is_dir():
            raise InputError(str(self.path.parent), "an existing folder", "none")
        self._kept(1)
        self.file: Any = None

    def __call__(self, progress: Progress) -> None:
        if self.file is None:
            self.file = self._opened(progress.t)
        figures = {name: value if math.isfinite(value) else None for name, value in means(progress).items()}
        cost = {name: each(getattr(progress, name), progress) for name in ("forwards", "backwards")}
        cost["seconds"] = round(progress.seconds, 4)
        self.file.write(json.dumps({"t": progress.t, **figures, **cost}) + "\n")
        self.file.flush()

    def _opened(self, t: int) -> Any:
        write_atomically(self.path, self._kept(t).encode())
        return self.path.open("a", encoding="utf-8")

    def _kept(self, t: int) -> str:
        """What the file holds of the steps before ``t``."""
        if not self.path.exists():
            return ""
        if not self.resume:
            raise InputError(str(self.path), "a new file, or resume=True", "an existing one")
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        try:
            # A line without its end was torn by a kill.
            return "".join(line for line in lines if line.endswith("\n") and json.loads(line)["t"] < t)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(str(self.path), "lines that JsonLines wrote", "others") from error

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file = None


class StopBelow:
    """Stops the solve once the best objective of every sample is below ``value``.

    Samples that are to leave one by one, each when it is good enough, are the problem's ``success``.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: Progress) -> bool:
        return bool((progress.best < self.value).all())
