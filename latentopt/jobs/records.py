"""Reading tracked runs back: what W&B's offline records hold, and the copies on disk."""

from __future__ import annotations

import csv
import json
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentopt.errors import InputError, nonnegative
from latentopt.jobs.store import RESULTS
from latentopt.jobs.tracking import METRICS
from latentopt.reports import read_value

BLOCK = 32768
"""Bytes of a block of W&B's log, whose records are LevelDB's: parts of a header of 7 bytes and what it counts."""
HEAD = 7
NAME = "name"
"""The column of what a target is called: a file may be called 007."""
WHOLE, LAST = 1, 4


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
        run: the ``.wandb`` file, its folder ``offline-run-...``, or a job's folder that holds one such run.
        wait: seconds that a run may take to end: W&B's own process writes its last records soon after a job is done.

    Raises:
        InputError: there is no such file, there are several, or it is not W&B's; or ``wait`` is negative.
    """
    nonnegative("wait", wait)
    deadline = time.monotonic() + wait
    while not (found := _read(run, _file(Path(run)))).finished and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _read(run: str | Path, path: Path) -> Offline:
    content = path.read_bytes()
    if content[:4] != b":W&B":
        raise InputError(str(run), "an offline run of W&B", f"a file that starts with {content[:4]!r}")
    found: dict[str, Any] = {"id": "", "kind": "", "config": {}, "history": [], "summary": {}, "finished": False}
    for record in raw_records(content):
        match record.WhichOneof("record_type"):
            case "run":
                found |= {"id": record.run.run_id, "kind": record.run.job_type}
                found["config"] |= _values(record.run.config.update)
            case "config":
                found["config"] |= _values(record.config.update)
            case "history":
                found["history"].append(_values(record.history.item))
            case "summary":
                found["summary"] |= _values(record.summary.update)
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


def _file(run: Path) -> Path:
    """The one ``.wandb`` file that ``run`` stands for."""
    if run.is_file():
        return run
    found = sorted(run.glob("*.wandb")) or sorted(run.glob("wandb/offline-run-*/*.wandb"))
    if len(found) != 1:
        raise InputError(str(run), "one offline run of W&B", f"{len(found)} of them")
    return found[0]


def raw_records(content: bytes) -> Iterator[Any]:
    """The whole records of a ``.wandb`` file, as W&B has them; what it is still writing is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    at, parts = HEAD, b""
    while at + HEAD <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEAD:  # too little for a header: the next block begins
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + HEAD])
        end = at + HEAD + length
        if end > len(content):
            return
        parts += content[at + HEAD : end]
        at = end
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Keys (the parts of a nested one joined by a dot) and their values."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
