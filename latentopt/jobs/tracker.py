"""Tracking: Weights & Biases, offline by default, and always the same figures on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from latentopt.errors import InputError
from latentopt.io import write_atomically
from latentopt.jobs.lifetime import at_its_end
from latentopt.jobs.store import Shard, Store
from latentopt.jobs.wandb_files import wandb_module
from latentopt.jobs.wandb_run import log_files, log_model, log_table, start, warn

WandbMode = Literal["online", "offline", "disabled"]
METRICS, SUMMARY = "metrics.jsonl", "summary.json"
"""The summary is written last of all: a job that has one is done."""
OTHERS = "metrics.*.jsonl"
"""Of the second process of a job, `metrics.1.jsonl`, and so on."""
SUMMARISED = {
    "min": ("loss/total", "loss/data", "loss/best", "constraint", "train/loss"),
    "max": ("metric/psnr", "metric/success", "metric/return", "val/accuracy"),
}
"""W&B's own summary has the last value of a key; of these the best."""


BEST: dict[str, Callable[..., float]] = {
    **dict.fromkeys(SUMMARISED["min"], min),
    **dict.fromkeys(SUMMARISED["max"], max),
}


def check_wandb_mode(mode: str) -> None:
    """Raise `InputError` unless ``mode`` is a `WandbMode`."""
    if mode not in get_args(WandbMode):
        raise InputError("wandb", f"one of {', '.join(get_args(WandbMode))}", repr(mode))


class Tracker:
    """One W&B run, and ``metrics.jsonl``.

    Lines reach the file when a batch is done, whole: a job that is killed leaves no half batch behind. The run's id
    stays in the folder: a job that goes on is the same run. What W&B holds of it is not sent again, and what W&B lost
    when the job was killed is sent from the file, so that the run reads like that of a job that was never stopped.

    Args:
        folder: where the job's results are; W&B writes its offline run there too.
        mode: ``offline`` keeps the run on disk (``wandb sync`` uploads it later); ``online`` falls back to offline,
            with a warning, where no key is configured or no server answers.
        config: the resolved recipe, and what it was run with.
        kind: W&B's job type.
        rank: of this process among those of the job; only the first, 0, has a run; it takes over what others log.
        kept_lines: how many lines of each process are of work that was kept; the lines behind them are cut off, as that
            work is done again. Default: all.
    """

    def __init__(
        self,
        folder: Path,
        mode: WandbMode,
        config: dict[str, Any],
        kind: str,
        rank: int = 0,
        kept_lines: Mapping[int, int] | None = None,
    ) -> None:
        check_wandb_mode(mode)
        self.folder, self.lines, self.rank = folder, [], rank
        self.path = _path(folder, rank)
        if kept_lines is not None:
            for path in sorted(folder.glob(OTHERS)) if not rank else ():
                _cut(path, kept_lines.get(_rank(path), 0))
            _cut(self.path, kept_lines.get(rank, 0))
        started = None if rank or mode == "disabled" else start(folder, mode, config, kind)
        self.run: Any = started and started.run
        self.sent = started.step if started else -1  # the last step that W&B holds
        self.best = dict[str, float]()  # of the keys of which W&B's summary has the best
        self.held = self.sent  # of earlier calls
        if self.run:
            at_its_end(self._abandon)
            self._tell(self._begin)

    def _begin(self) -> None:
        for goal, keys in SUMMARISED.items():
            for key in keys:
                self.run.define_metric(key, summary=goal)
        for line in _whole_lines(self.path):
            figures = json.loads(line)
            self._log(figures.pop("step"), figures)

    def log(self, step: int, figures: Mapping[str, float | str], pictures: dict[str, np.ndarray] | None = None) -> None:
        """Record the figures, and pictures (H, W, C) bytes, of one step; steps rise by one from call to call."""
        self.lines.append(json.dumps({"step": step, **figures}))
        self._tell(lambda: self._log(step, figures, pictures))

    def _log(self, step: int, figures: Mapping[str, Any], pictures: dict[str, np.ndarray] | None = None) -> None:
        for key, value in figures.items():
            if choose := BEST.get(key):
                finite = isinstance(value, int | float) and math.isfinite(value)
                self.best |= {key: choose(value, self.best.get(key, value))} if finite else {}
        if step > self.sent:
            shown = {name: wandb_module().Image(picture) for name, picture in (pictures or {}).items()}
            self.run.log({**figures, **shown}, step=step)
            self.sent = step

    def last(self) -> dict[str, float]:
        """What was logged last by an earlier run of the same job; empty if there was none."""
        lines = _whole_lines(self.path)
        return json.loads(lines[-1]) if lines else {}

    def flush(self) -> None:
        """Append what was logged since the last call to the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines)
        self.lines.clear()
        self._tell(self._summarise)

    def keep(self, store: Store, shard: Shard) -> None:
        """Keep what a batch gave, with its lines: both, or, where the job is killed in between, in the end neither."""
        step = json.loads(self.lines[-1])["step"] if self.lines else self.last().get("step", -1)
        before = len(_whole_lines(self.path))
        self.flush()
        try:
            store.add(replace(shard, rank=self.rank, step=int(step) + 1))
        except BaseException:
            _cut(self.path, before)
            raise

    def finish(
        self, rows: list[dict[str, Any]], best: dict[str, float], files: list[Path], models: Sequence[Path] = ()
    ) -> list[Path]:
        """Close the run with what came of the job; return its folder, if there is one.

        Args:
            rows: of the table of results.
            best: the figures to compare runs by; in ``summary.json`` too.
            files: the job's results; latents and adversarial images are artifacts of their own as well.
            models: files, or folders with a card and weights: an artifact each.
        """
        if self.rank:
            return []
        self._take_over()
        summary = {f"best/{name}": value for name, value in best.items()}
        folder = Path(self.run.dir).parent if self.run else None
        self._tell(lambda: self._close(rows, summary, files, models))
        if best:
            write_atomically(self.folder / SUMMARY, json.dumps(summary, indent=1).encode())
        return [folder] if folder else []

    def _close(
        self, rows: list[dict[str, Any]], summary: dict[str, float], files: list[Path], models: Sequence[Path]
    ) -> None:
        last = int(self.last().get("step", 0))
        log_table(self.run, rows, last if last > self.held else self.sent + 1)
        self.run.summary.update(summary)
        log_files(self.run, files)
        for model in models:
            log_model(self.run, model)
        self._summarise()
        self.run.finish()
        self.run = None

    def _abandon(self) -> None:
        """Close the run of a job that did not come to its end; it may go on."""
        self._tell(lambda: self.run.finish(exit_code=1))

    def _summarise(self) -> None:
        """Give W&B the best of all calls of the job: it takes the best of each call by itself."""
        if self.held >= 0 and self.best:
            goals = {key: goal for goal, keys in SUMMARISED.items() for key in keys}
            self.run.summary.update({key: {goals[key]: value} for key, value in self.best.items()})

    def _tell(self, what: Callable[[], None]) -> None:
        """Tell W&B something; whatever goes wrong with it must not stop the job."""
        if self.run is None:
            return
        try:
            what()
        except Exception as error:
            warn(f"W&B does not take more ({' '.join(str(error).split())}); everything is still on disk")
            self.run = None

    def _take_over(self) -> None:
        """Add what the job's other processes logged, behind what this one did."""
        lines = _whole_lines(self.path)
        held = {json.loads(line).get("rank", 0) for line in lines}  # killed in here, it may have been done
        step = json.loads(lines[-1])["step"] if lines else -1
        others = sorted(self.folder.glob(OTHERS))
        for path in others:
            for line in _whole_lines(path) if _rank(path) not in held else ():
                step += 1
                figures = {**json.loads(line), "rank": _rank(path)}
                lines.append(json.dumps({**figures, "step": step}))
        if others:
            write_atomically(self.path, "".join(f"{line}\n" for line in lines).encode())
            self._tell(self._begin)
        for path in others:
            path.unlink()


def _path(folder: Path, rank: int) -> Path:
    return folder / (OTHERS.replace("*", str(rank)) if rank else METRICS)


def _rank(path: Path) -> int:
    """Of the process whose lines a file of `OTHERS` has."""
    return int(path.name.split(".")[1])


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without one that a kill has torn, which is cut off."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomically(path, whole.encode())
    return whole.splitlines()


def _cut(path: Path, count: int) -> None:
    """Leave the first lines alone."""
    lines = _whole_lines(path)
    if len(lines) > count:
        write_atomically(path, "".join(f"{line}\n" for line in lines[:count]).encode())


def track_job(
    store: Store, mode: WandbMode, left: Collection[Any], config: dict[str, Any], kind: str, rank: int = 0
) -> Tracker:
    """The tracker of a job that keeps its batches in a `Store`.

    Args:
        store: where.
        mode: of W&B; of a job that is done nothing is tracked again.
        left: what is still to do.
        config, kind, rank: as `Tracker` takes them.
    """
    done = not left and (store.folder / SUMMARY).is_file()
    kept = store.tracked() if left else None
    return Tracker(store.folder, "disabled" if done else mode, config, kind, rank, kept)
