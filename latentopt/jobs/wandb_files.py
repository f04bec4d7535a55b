"""Files of Weights & Biases: the parts of a job's run, and the records in them."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RUN_ID = "latentopt-run-id.txt"
BLOCK = 32768
"""Bytes of a block of W&B's log, whose records are LevelDB's: parts of a header of 7 bytes and what it counts."""
HEAD = 7
WHOLE, LAST = 1, 4
MAGIC = b":W&B"
SETTLED = 2.0
"""Seconds after which nothing more is written to a part whose job was killed."""


def wandb_module() -> Any:
    if "wandb" not in sys.modules:  # else how it reports on itself is the user's
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it does so over the network, offline too
    import wandb

    return wandb


def run_id(job: Path) -> str:
    """The id of a job's run; empty if the job has none."""
    path = job / "wandb" / RUN_ID
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def parts(job: Path, run: str = "") -> list[Path]:
    """The ``.wandb`` files in a job's folder, in the order of their start: one for each call of the job.

    Args:
        job: its folder.
        run: only those of the run with this id.
    """
    return [path for path in _files(job, run) if path.stat().st_size > HEAD]


def _files(job: Path, run: str) -> list[Path]:
    found = [path for path in (job / "wandb").glob("*run-*/run-*.wandb") if not run or path.stem == f"run-{run}"]
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def last_step(job: Path, run: str) -> int:
    """The last step that the parts of a run hold; -1 if they hold none."""
    steps = [-1]
    for path in _files(job, run):
        records = _settled(path)
        histories = [record.history for record in records if record.WhichOneof("record_type") == "history"]
        steps += [int(values(history.item).get("_step", -1)) for history in histories]
    return max(steps)


def _settled(path: Path) -> list[Any]:
    """The records of a part; W&B's own process may write the last of them soon after the job has ended."""
    while True:
        age, records = time.time() - path.stat().st_mtime, list(raw_records(path.read_bytes()))
        if age > SETTLED or any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)


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


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Keys (the parts of a nested one joined by a dot) and their values."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
