"""Tracking of a job: ``metrics.jsonl`` on disk and a run of Weights & Biases, offline by default."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from latentopt.errors import InputError, in_one_line
from latentopt.io import write_atomically
from latentopt.jobs.lifetime import call_at_end
from latentopt.jobs.records import BEST, METRICS, SUMMARY
from latentopt.jobs.settings import WandbMode
from latentopt.jobs.wandb_run import begin_run, log_artifact, log_files, log_table, wandb_module, warn

if TYPE_CHECKING:
    import numpy as np

    from latentopt.jobs.experiment import Experiment, Shard

RANK_METRICS = "metrics.{}.jsonl"
"""File of a further process of the job, by its rank (1, 2, ...), until the job is done."""


def check_wandb_mode(mode: str) -> None:
    """Raise `InputError` unless ``mode`` is a `WandbMode`."""
    if mode not in get_args(WandbMode):
        raise InputError("wandb", f"one of {', '.join(get_args(WandbMode))}", repr(mode))


class Tracker:
    """Figures of a job by step, on disk and in one W&B run.

    Lines reach ``metrics.jsonl`` when a batch is done, so that a killed job leaves no half batch behind. The id of the
    run is stored in the folder: a job that is called again continues its run. Steps that W&B already holds are not sent
    again; steps that it lost when the job was killed are sent from the file.

    Args:
        folder: folder of the job, and of the offline run of W&B.
        mode: ``offline`` keeps the run on disk (``wandb sync`` uploads it later); ``online`` falls back to offline,
            with a warning, if no key is configured or the server does not answer; ``disabled`` leaves W&B out.
        config: the resolved recipe and versions.
        kind: W&B's job type.
        rank: rank of this process in the job. Rank 0 alone has a run; it adds the lines of the others at the end.
        kept_lines: number of lines of each rank that belong to finished work; later lines are cut off, as their work is
            done again. Default: all lines.
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
        self.folder, self.rank = folder, rank
        self.path = folder / (RANK_METRICS.format(rank) if rank else METRICS)
        self.lines = list[str]()  # not yet in the file
        if kept_lines is not None:
            for path in [self.path] if rank else [self.path, *self._rank_files()]:
                _truncate(path, kept_lines.get(_rank_of(path), 0))
        self.run: Any = None
        self.sent = -1  # last step that W&B holds
        if not rank and mode != "disabled":
            self.run, self.sent = begin_run(folder, mode, config, kind)
        self.resumed_at = self.sent  # of earlier calls
        self.best = dict[str, float]()  # by key of `BEST`
        if self.run:
            call_at_end(self._abandon)
            self._guard(self._send_lines)

    def _send_lines(self) -> None:
        """Send the lines in the file that W&B does not hold."""
        for key, choose in BEST.items():
            self.run.define_metric(key, summary=choose.__name__)
        for line in _complete_lines(self.path):
            figures = json.loads(line)
            self._send(figures.pop("step"), figures)

    def log(self, step: int, figures: Mapping[str, float | str], pictures: dict[str, np.ndarray] | None = None) -> None:
        """Log one step.

        Args:
            step: rises by one from call to call.
            figures: values by key.
            pictures: images (H, W, 3) or (H, W) of bytes, for W&B alone.
        """
        self.lines.append(json.dumps({"step": step, **figures}))
        self._guard(lambda: self._send(step, figures, pictures))

    def _send(self, step: int, figures: Mapping[str, Any], pictures: dict[str, np.ndarray] | None = None) -> None:
        for key in figures.keys() & BEST.keys():
            value = figures[key]
            if isinstance(value, int | float) and math.isfinite(value):
                self.best[key] = BEST[key](value, self.best.get(key, value))
        if step > self.sent:
            images = {name: wandb_module().Image(picture) for name, picture in (pictures or {}).items()}
            self.run.log({**figures, **images}, step=step)
            self.sent = step

    def last(self) -> dict[str, Any]:
        """Return the last line in the file; empty if there is none."""
        lines = _complete_lines(self.path)
        return json.loads(lines[-1]) if lines else {}

    def flush(self) -> None:
        """Append the lines logged since the last call to the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines)
        self.lines.clear()
        self._guard(self._summarise)

    def keep(self, store: Experiment, shard: Shard) -> None:
        """Store the results of a batch and its lines: both, or neither if the job is killed in between."""
        step = json.loads(self.lines[-1])["step"] if self.lines else self.last().get("step", -1)
        count = len(_complete_lines(self.path))
        self.flush()
        try:
            store.add(replace(shard, rank=self.rank, step=int(step) + 1))
        except BaseException:
            _truncate(self.path, count)
            raise

    def finish(
        self, rows: list[dict[str, Any]], best: dict[str, float], files: list[Path], models: Sequence[Path] = ()
    ) -> list[Path]:
        """Close the run of a job that is done.

        Args:
            rows: rows of the table of results.
            best: figures to compare runs by; also written to ``summary.json``, the last file of a job.
            files: results of the job, for the artifacts.
            models: model files, or folders with a card and weights: an artifact each.

        Returns:
            The folder of the run, if there is one.
        """
        if self.rank:
            return []
        self._merge_ranks()
        folders = [Path(self.run.dir).parent] if self.run else []
        summary = {f"best/{name}": value for name, value in best.items()}
        self._guard(lambda: self._close(rows, summary, files, models))
        if best:
            write_atomically(self.folder / SUMMARY, json.dumps(summary, indent=1).encode())
        return folders

    def _close(
        self, rows: list[dict[str, Any]], summary: dict[str, float], files: list[Path], models: Sequence[Path]
    ) -> None:
        last_step = int(self.last().get("step", 0))
        log_table(self.run, rows, last_step if last_step > self.resumed_at else self.sent + 1)
        self.run.summary.update(summary)
        log_files(self.run, files)
        for model in models:
            log_artifact(self.run, model.stem, "model", [model])
        self._summarise()
        self.run.finish()
        self.run = None

    def _abandon(self) -> None:
        """Close the run of a job that did not reach its end; the job may be resumed."""
        self._guard(lambda: self.run.finish(exit_code=1))

    def _summarise(self) -> None:
        """Set the best values over all calls of the job; W&B takes the best of each call by itself."""
        if self.resumed_at >= 0 and self.best:
            self.run.summary.update({key: {BEST[key].__name__: value} for key, value in self.best.items()})

    def _guard(self, call: Callable[[], None]) -> None:
        """Call W&B; a failure there must not stop the job."""
        if self.run is None:
            return
        try:
            call()
        except Exception as error:
            warn(f"W&B does not take more ({in_one_line(error)}); everything is still on disk")
            self.run = None

    def _rank_files(self) -> list[Path]:
        return sorted(self.folder.glob(RANK_METRICS.format("*")))

    def _merge_ranks(self) -> None:
        """Append the lines of the other processes to the file and the run, with rising steps."""
        paths = self._rank_files()
        if not paths:
            return
        lines = _complete_lines(self.path)
        merged = {json.loads(line).get("rank", 0) for line in lines}  # by a call that was killed in here
        step = json.loads(lines[-1])["step"] if lines else -1
        for path in paths:
            for line in _complete_lines(path) if _rank_of(path) not in merged else ():
                step += 1
                lines.append(json.dumps({**json.loads(line), "rank": _rank_of(path), "step": step}))
        _write_lines(self.path, lines)
        self._guard(self._send_lines)
        for path in paths:
            path.unlink()


def _rank_of(path: Path) -> int:
    return 0 if path.name == METRICS else int(path.name.split(".")[1])


def _complete_lines(path: Path) -> list[str]:
    """Read the lines of a file; cut off a last one that a kill has torn."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        write_atomically(path, complete.encode())
    return complete.splitlines()


def _truncate(path: Path, count: int) -> None:
    """Leave the first ``count`` lines."""
    lines = _complete_lines(path)
    if len(lines) > count:
        _write_lines(path, lines[:count])


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def track_job(
    store: Experiment, mode: WandbMode, left: Collection[Any], config: dict[str, Any], kind: str, rank: int = 0
) -> Tracker:
    """Return the tracker of a job that keeps its batches in an `Experiment`; a finished job is not tracked again.

    Args:
        store: folder of the job.
        mode: see `Tracker`.
        left: what is still to do.
        config: see `Tracker`.
        kind: see `Tracker`.
        rank: see `Tracker`.
    """
    is_done = not left and (store.folder / SUMMARY).is_file()
    return Tracker(store.folder, "disabled" if is_done else mode, config, kind, rank, store.tracked() if left else None)
