"""The logs of Weights & Biases on disk: a ``.wandb`` file for each call of a job."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RUN_ID = "latentopt-run-id.txt"
MAGIC = b":W&B"
HEADER = 7
"""Bytes of the header of a file, and of each fragment of a record. Records are stored as in LevelDB's log."""
BLOCK = 32768
"""Bytes of a block. A record is cut into fragments at the ends of blocks."""
FULL, LAST = 1, 4
"""Kinds of fragments with which a record ends."""
SETTLED = 2.0
"""Seconds after which nothing more is written to the log of a job that was killed."""


def read_run_id(job: Path) -> str:
    """Return the run id stored in a job's folder; empty if there is none."""
    path = job / "wandb" / RUN_ID
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def log_files(job: Path, run_id: str = "") -> list[Path]:
    """Return the ``.wandb`` files of a job with at least one record, in the order of the job's calls.

    Args:
        job: its folder.
        run_id: only files of the run with this id.
    """
    return [path for path in _all_log_files(job, run_id) if path.stat().st_size > HEADER]


def _all_log_files(job: Path, run_id: str) -> list[Path]:
    own = os.environ.get("WANDB_DIR")  # where runs of other jobs may be, too
    paths = [*(job / "wandb").glob(f"*run-*/run-{run_id or '*'}.wandb")]
    if own and Path(own).absolute() != job.absolute() and (run_id := run_id or read_run_id(job)):
        paths += (Path(own) / "wandb").glob(f"*run-*/run-{run_id}.wandb")
    return sorted(paths, key=lambda path: path.parent.name.removeprefix("offline-"))


def last_step(job: Path, run_id: str) -> int:
    """Return the last step in the logs of a run; -1 if they hold none."""
    records = [record for path in _all_log_files(job, run_id) for record in _settled_records(path)]
    histories = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    return max((int(values(history.item).get("_step", -1)) for history in histories), default=-1)


def _settled_records(path: Path) -> list[Any]:
    """Read a log when it is complete: the process of W&B may still write when the job has ended."""
    while True:
        age, records = time.time() - path.stat().st_mtime, list(raw_records(path.read_bytes()))
        if age > SETTLED or any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)


def raw_records(content: bytes) -> Iterator[Any]:
    """Yield the complete records (protobuf messages) of a ``.wandb`` file."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    start, fragments = HEADER, b""
    while start + HEADER <= len(content):
        rest_of_block = BLOCK - start % BLOCK
        if rest_of_block < HEADER:  # no room for a fragment: the next block begins
            start += rest_of_block
            continue
        length, kind = struct.unpack("<HB", content[start + 4 : start + HEADER])
        end = start + HEADER + length
        if end > len(content):
            return
        fragments += content[start + HEADER : end]
        start = end
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(fragments)
            yield record
            fragments = b""


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Return the keys and values of a history, summary or configuration; the parts of a nested key joined by dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
