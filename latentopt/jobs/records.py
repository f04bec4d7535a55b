"""Reading tracked runs back: what W&B's offline records hold, and the copies on disk."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentopt.errors import InputError, nonnegative
from latentopt.jobs.store import RESULTS
from latentopt.jobs.tracker import BEST, METRICS, SUMMARISED
from latentopt.jobs.wandb_files import MAGIC, parts, raw_records, run_id, values
from latentopt.reports import read_value

NAME = "name"
"""The column of what a target is called: a file may be called 007."""


@dataclass(frozen=True)
class Offline:
    """What the ``.wandb`` file of an offline run holds."""

    id: str
    kind: str  # W&B's job type
    config: dict[str, Any]
    history: list[dict[str, Any]]  # a row a logged step, with W&B's own ``_step`` and ``_timestamp``
    summary: dict[str, Any]  # the last value of each key, and what the job named best
    finished: bool  # False: it was killed, or is still running


def read_offline(run: str | Path, wait: float = 0.0) -> Offline:
    """Read an offline run of W&B, without a server.

    Args:
        run: the ``.wandb`` file, its folder ``offline-run-...``, or a job's folder. Of a job that was stopped and went
            on, the folder has a file for each call; they are read as the one run that they are.
        wait: seconds that a run may take to end: W&B's own process writes its last records soon after a job is done.

    Raises:
        InputError: there is no such file, there are several, or it is not W&B's; or ``wait`` is negative.
    """
    nonnegative("wait", wait)
    deadline = time.monotonic() + wait
    *before, last = _files(Path(run))
    while not (found := _read(run, last)).finished and time.monotonic() < deadline:
        time.sleep(0.05)
    for path in reversed(before):
        found = _joined(_read(run, path), found)
    return found


def _joined(first: Offline, then: Offline) -> Offline:
    """Two parts of a run; a step that the later one has again replaces the former's."""
    again = then.history[0]["_step"] if then.history else float("inf")
    history = [row for row in first.history if row["_step"] < again] + then.history
    summary = {**first.summary, **then.summary}
    for key, choose in BEST.items():
        goal = "min" if key in SUMMARISED["min"] else "max"
        each = [part.summary[key] for part in (first, then) if isinstance(part.summary.get(key), dict)]
        if bests := [value[goal] for value in each if goal in value]:
            summary[key] = {goal: choose(bests)}
    return replace(then, config={**first.config, **then.config}, history=history, summary=summary)


def _read(run: str | Path, path: Path) -> Offline:
    content = path.read_bytes()
    if content[:4] != MAGIC:
        raise InputError(str(run), "an offline run of W&B", f"a file that starts with {content[:4]!r}")
    found: dict[str, Any] = {"id": "", "kind": "", "config": {}, "history": [], "summary": {}, "finished": False}
    for record in raw_records(content):
        match record.WhichOneof("record_type"):
            case "run":
                found |= {"id": record.run.run_id, "kind": record.run.job_type}
                found["config"] |= values(record.run.config.update)
            case "config":
                found["config"] |= values(record.config.update)
            case "history":
                found["history"].append(values(record.history.item))
            case "summary":
                found["summary"] |= values(record.summary.update)
            case "exit":
                found["finished"] = True
    return Offline(**found)


def read_metrics(job: str | Path) -> list[dict[str, Any]]:
    """The lines of a job's ``metrics.jsonl``; one that a kill has torn is left out.

    Raises:
        InputError: there is no such file.
    """
    path = Path(job) / METRICS
    if not path.is_file():
        raise InputError(str(job), f"a job's folder with {METRICS}", "none")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_results(job: str | Path) -> list[dict[str, Any]]:
    """The rows of the ``results.csv`` of a job, a sweep, an analysis or a benchmark: values as they were.

    A whole number is an int, ``True`` and ``False`` are booleans, ``nan`` and ``inf`` floats, an empty field None; a
    ``name`` is text whatever it looks like.

    Raises:
        InputError: there is no such file.
    """
    path = Path(job) / RESULTS
    if not path.is_file():
        raise InputError(str(job), f"a job's folder with {RESULTS}", "none")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value if key == NAME else read_value(value) for key, value in row.items()} for row in rows]


def _files(run: Path) -> list[Path]:
    """The ``.wandb`` files that ``run`` stands for, all of one run."""
    if run.is_file():
        return [run]
    found = sorted(run.glob("*.wandb")) or parts(run, run_id(run)) or parts(run)
    runs = {path.stem for path in found}
    if len(runs) != 1:
        raise InputError(str(run), "one offline run of W&B", f"{len(runs)} of them")
    return found
