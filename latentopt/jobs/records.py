"""Read tracked jobs: the figures on disk, the table of results, and the offline run of Weights & Biases."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentopt.errors import InputError, in_one_line, nonnegative
from latentopt.jobs.wandb_log import MAGIC, log_files, raw_records, read_run_id, values
from latentopt.reports import ROWS as RESULTS
from latentopt.reports import read_value

METRICS, SUMMARY = "metrics.jsonl", "summary.json"
"""Figures by step, and the best figures. The summary is the last file of a job: a job that has one is done."""
BEST: dict[str, Callable[..., float]] = {
    **dict.fromkeys(("loss/total", "loss/data", "loss/best", "constraint", "train/loss"), min),
    **dict.fromkeys(("metric/psnr", "metric/success", "metric/return", "val/accuracy"), max),
}
"""Keys that are summarised by their least or greatest value; W&B takes the last value of all others."""


@dataclass(frozen=True)
class OfflineRun:
    """Contents of an offline run of W&B."""

    id: str
    kind: str  # W&B's job type
    config: dict[str, Any]
    history: list[dict[str, Any]] = field(repr=False)  # of each logged step, with W&B's ``_step`` and ``_timestamp``
    summary: dict[str, Any]  # the last value of each key, and the best figures of the job
    finished: bool  # False if the run was killed or is still going on


def read_offline(run: str | Path, wait: float = 0.0) -> OfflineRun:
    """Read an offline run of W&B, without a server.

    Args:
        run: the ``.wandb`` file, its folder ``offline-run-...``, or the folder of a job. A job that was stopped and
            resumed has a file for each call; they are read as one run.
        wait: seconds to wait for the end of the run: W&B writes its last records soon after a job is done.

    Returns:
        The contents of the run.

    Raises:
        InputError: there is no such file, there are several, or it is not W&B's; or ``wait`` is negative.
    """
    nonnegative("wait", wait)
    deadline = time.monotonic() + wait
    *earlier, last = _run_files(Path(run))
    while not (offline := _read_log(run, last)).finished and time.monotonic() < deadline:
        time.sleep(0.05)
    for path in reversed(earlier):
        offline = _join(_read_log(run, path), offline)
    return offline


def _run_files(run: Path) -> list[Path]:
    """Return the ``.wandb`` files of one run."""
    if run.is_file():
        return [run]
    paths = sorted(run.glob("*.wandb")) or log_files(run, read_run_id(run)) or log_files(run)
    count = len({path.stem for path in paths})
    if count != 1:
        raise InputError(str(run), "one offline run of W&B", f"{count} of them")
    return paths


def _read_log(run: str | Path, path: Path) -> OfflineRun:
    content = path.read_bytes()
    if content[:4] != MAGIC:
        raise InputError(str(run), "an offline run of W&B", f"a file that starts with {content[:4]!r}")
    fields: dict[str, Any] = {"id": "", "kind": "", "config": {}, "history": [], "summary": {}, "finished": False}
    for record in raw_records(content):
        match record.WhichOneof("record_type"):
            case "run":
                fields |= {"id": record.run.run_id, "kind": record.run.job_type}
                fields["config"] |= values(record.run.config.update)
            case "config":
                fields["config"] |= values(record.config.update)
            case "history":
                fields["history"].append(values(record.history.item))
            case "summary":
                fields["summary"] |= values(record.summary.update)
            case "exit":
                fields["finished"] = True
    return OfflineRun(**fields)


def _join(first: OfflineRun, then: OfflineRun) -> OfflineRun:
    """Join two parts of a run; a step that is in both is taken from the later one."""
    resumed_at = then.history[0]["_step"] if then.history else float("inf")
    history = [row for row in first.history if row["_step"] < resumed_at] + then.history
    summary = {**first.summary, **then.summary}
    for key, choose in BEST.items():
        goal = choose.__name__
        entries = [part.summary[key] for part in (first, then) if isinstance(part.summary.get(key), dict)]
        if bests := [entry[goal] for entry in entries if goal in entry]:
            summary[key] = {goal: choose(bests)}
    return replace(then, config={**first.config, **then.config}, history=history, summary=summary)


def read_metrics(job: str | Path) -> list[dict[str, Any]]:
    """Read the lines of a job's ``metrics.jsonl``, without one that a kill has torn.

    Args:
        job: folder of the job.

    Returns:
        A dictionary for each line: its ``step`` and its figures.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    path = _existing(job, METRICS)
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except ValueError as error:
        raise InputError(str(path), "lines of JSON", in_one_line(error)) from error


def read_results(job: str | Path) -> list[dict[str, Any]]:
    """Read the rows of the ``results.csv`` of a job, a sweep, an analysis or a benchmark.

    Args:
        job: the folder.

    Returns:
        A dictionary for each row. Integers are int, ``True`` and ``False`` booleans, ``nan`` and ``inf`` floats, empty
        fields None. A ``name`` is text in any case: a file may be called 007.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    path = _existing(job, RESULTS)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except (ValueError, csv.Error) as error:
        raise InputError(str(path), "a table as CSV", in_one_line(error)) from error
    if any("" in row for row in rows):
        raise InputError(str(path), "as many fields in each row as columns", "more")
    return [{key: value if key == "name" else read_value(value) for key, value in row.items()} for row in rows]


def _existing(job: str | Path, name: str) -> Path:
    path = Path(job) / name
    if not path.is_file():
        raise InputError(str(job), f"a job's folder with {name}", "none")
    return path
