"""Callbacks of a solve: functions of its `Progress`, called after every step.

A callback returns nothing, or True to stop the solve. Its method ``close``, if it has one, is called when the solve
ends, however it ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.files import writing
from latentopt.io import write_atomically
from latentopt.progress import silence_progress


@dataclass(frozen=True, eq=False, repr=False)
class Progress:
    """Progress of a solve after a step, not to be changed.

    Rows are restart-major: row = restart * B + sample.
    """

    t: int  # steps done, from 1
    steps: int  # planned number
    x: Tensor  # (restarts * B, *shape) where the step started; of a stopped row, where it stopped
    output: Tensor  # (restarts * B, *out) network's output there; NaN (0 for integers) once stopped
    loss: Tensor  # (restarts * B,) objective there; NaN once stopped
    best_x: Tensor  # (B, *shape) best point so far
    best: Tensor  # (B,) objective there
    info: dict[str, Tensor]  # figures of the optimiser by name, (restarts * B,); NaN once stopped
    forwards: int  # of all samples so far, those of a fitted initializer included
    backwards: int  # of all samples so far
    seconds: float  # since the solve began
    meta: dict[str, Any]  # settings, as in `Result.meta`

    def __repr__(self) -> str:
        figures = ", ".join(f"{name}={value:.4g}" for name, value in self.means().items())
        return f"Progress(t={self.t}/{self.steps}, {figures}, x={tuple(self.x.shape)}, seconds={self.seconds:.4g})"

    def per_sample(self, count: float) -> float:
        """Return a count of all samples together as the mean per sample."""
        return count / len(self.best)

    def means(self) -> dict[str, float]:
        """Return the means of ``loss``, ``best`` and the optimiser's figures over all that have not stopped."""
        figures = {"loss": self.loss, "best": self.best, **self.info}
        return {name: float(values.nanmean()) for name, values in figures.items()}


Callback = Callable[[Progress], bool | None]
Callbacks = Callback | Iterable[Callback]
"""One callback, or several, called in order."""


def as_callbacks(callbacks: Callbacks) -> Sequence[Callback]:
    """Return callbacks as a sequence.

    Args:
        callbacks: one, or several.

    Returns:
        The callbacks, in order.

    Raises:
        InputError: one is no function.
    """
    several = [callbacks] if callable(callbacks) else list(callbacks)
    for callback in several:
        if not callable(callback):
            raise InputError("callbacks", "functions of a Progress", type(callback).__name__)
    return several


class ProgressBar:
    """Progress bar with the steps and the mean of the best objectives, in place of the default line of progress.

    Args:
        settings: arguments of `tqdm.tqdm`, such as ``desc`` or ``leave``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings, self.bar = settings, None

    def __call__(self, progress: Progress) -> None:
        from tqdm import tqdm

        silence_progress()
        if self.bar is None:
            self.bar = tqdm(total=progress.steps, initial=progress.t - 1, unit="step", **self.settings)
        self.bar.set_postfix_str(f"loss {float(progress.best.mean()):.5g}", refresh=False)
        self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None


class Trajectory:
    """Iterates of every n-th step, from the first, on the CPU.

    Args:
        every: the number n of steps, >= 1.

    Attributes:
        t: recorded steps, from 1.
        x: points (restarts * B, *shape) where these steps started.

    Raises:
        InputError: ``every`` is no whole number >= 1.
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
        """Return the iterates as one tensor (recorded steps, restarts * B, *shape)."""
        return torch.stack(self.x)


@checked
class JsonLines:
    """File with one JSON object a step: ``t``, means of the figures (null where not finite), cost and seconds.

    ``forwards`` and ``backwards`` are means over the samples, each with all its restarts so far.

    Args:
        path: path of a new file.
        resume: whether to go on in an existing file; steps that are done again replace their lines.

    Raises:
        InputError: the file exists and ``resume`` is not set, or its folder does not exist.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path, self.resume = Path(path), resume
        if not self.path.parent.is_dir():
            raise InputError(str(self.path.parent), "an existing folder", "none")
        self._lines_before(1)
        self.file: Any = None

    def __call__(self, progress: Progress) -> None:
        if self.file is None:
            self.file = self._open(progress.t)
        figures = {name: value if math.isfinite(value) else None for name, value in progress.means().items()}
        cost = {name: progress.per_sample(getattr(progress, name)) for name in ("forwards", "backwards")}
        cost["seconds"] = round(progress.seconds, 4)
        self.file.write(json.dumps({"t": progress.t, **figures, **cost}) + "\n")
        self.file.flush()

    def _open(self, t: int) -> Any:
        lines = self._lines_before(t)
        with writing("path", self.path, "a file"):
            write_atomically(self.path, lines.encode())
            return self.path.open("a", encoding="utf-8")

    def _lines_before(self, t: int) -> str:
        """Return the file's lines of the steps before ``t``."""
        with writing("path", self.path, "a file"):
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


@checked
class StopBelow:
    """Stop of the whole solve once the best objective of every sample is below a value.

    The problem's ``success`` stops samples one by one instead.

    Args:
        value: the value.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: Progress) -> bool:
        return bool((progress.best < self.value).all())
