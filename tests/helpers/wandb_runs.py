"""Offline runs of W&B as tests read them, and the keys that the page on tracking promises."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from files import ROOT

from latentopt.jobs.wandb_log import raw_records, values


class LoggedRun:
    """Records of the offline runs in a job's folder, in the order of their start."""

    def __init__(self, folder: Path) -> None:
        paths = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
        self.calls = [_records(path) for path in paths]
        self.records = [record for records in self.calls for record in records]
        self.runs = [next(r.run for r in records if r.WhichOneof("record_type") == "run") for records in self.calls]
        self.ids = [run.run_id for run in self.runs]
        self.config = values(self.runs[-1].config.update)
        self.histories = [[values(r.history.item) for r in records if r.HasField("history")] for records in self.calls]
        self.history = [row for rows in self.histories for row in rows]
        self.goals = {record.metric.name: record.metric.summary for record in self.records if record.HasField("metric")}
        self.summary: dict[str, Any] = {}
        for record in self.records:
            if record.WhichOneof("record_type") == "summary":
                self.summary |= values(record.summary.update)

    @property
    def artifacts(self) -> dict[str, tuple[str, set[str]]]:
        """Type and files of each artifact, by name without the run's id."""
        artifacts = [record.artifact for record in self.records if record.HasField("artifact")]
        artifacts += [r.request.log_artifact.artifact for r in self.records if r.HasField("request")]
        return {
            artifact.name.replace(self.ids[0], "ID"): (artifact.type, {e.path for e in artifact.manifest.contents})
            for artifact in artifacts
            if artifact.name and not artifact.name.startswith("run-")
        }

    @property
    def keys(self) -> set[str]:
        """Every key of the history, the best figures of the summary, and the artifacts."""
        logged = {re.sub(r"\.[a-z_0-9]+$", "", key) for row in self.history for key in row if not key.startswith("_")}
        return logged | {key for key in self.summary if key.startswith("best/")} | set(self.artifacts)


def _records(path: Path) -> list[Any]:
    """Records of a run that was closed. W&B's own process writes the last of them soon afterwards."""
    deadline = time.monotonic() + 20
    while True:
        records = list(raw_records(path.read_bytes()))
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.05)


def promised(job: str) -> tuple[set[str], set[str]]:
    """Keys of a job that the page says are always there, and all that it names."""
    page = (ROOT / "docs" / "guides" / "tracking.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"\n### {job}\n(.*?)(?=\n##|\Z)", page, re.DOTALL)
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("| `")]
    named = [(set(re.findall(r"`([^`]+)`", keys)), kind.strip().startswith("some")) for keys, kind in rows]
    return set().union(*(keys for keys, some in named if not some)), set().union(*(keys for keys, _ in named))


def check_keys(run: LoggedRun, job: str) -> None:
    """A run has all keys that the page promises, and no others than it names."""
    always, named = promised(job)
    assert len(always) > 10
    assert always - run.keys == set()
    assert run.keys - named == set()


def drop_wandb_variables(patch: pytest.MonkeyPatch) -> None:
    """Leave the environment as users have it."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
        patch.delenv(name)
