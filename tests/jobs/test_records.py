from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from files import write_classifier
from nets import mlp, refuses

import latentopt as lo
from latentopt.jobs.attack import attack
from latentopt.jobs.attack_rates import count_rates
from latentopt.jobs.records import OfflineRun, read_metrics, read_offline, read_results
from latentopt.reports import csv_text

STEPS = 700  # so many that the log is longer than a block of 32 KiB


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "solve"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        settings = {"low": -1.0, "high": 1.0, "shape": (3,), "optimizer": "adam", "steps": STEPS, "seed": 0}
        lo.maximize(mlp(3, 8, 1), **settings, callbacks=[lo.Track(folder)])
    return folder


@pytest.fixture(scope="module")
def offline(run) -> OfflineRun:
    return read_offline(run, wait=20)


def test_the_history_is_the_copy_on_disk(run, offline):
    steps = [row for row in offline.history if "loss/total" in row]
    lines = read_metrics(run)
    assert len(steps) == len(lines) == STEPS
    for line, row in zip(lines, steps, strict=True):
        assert line.pop("step") == row["_step"]
        assert line == {key: row[key] for key in line}


def test_kind_settings_and_summary_are_those_of_the_job(run, offline):
    assert offline.finished
    assert (offline.kind, bool(offline.id)) == ("solve", True)
    assert (offline.config["steps"], offline.config["seed"]) == (STEPS, 0)
    best = read_metrics(run)[-1]["loss/best"]
    assert offline.summary["best/mean_loss"] == pytest.approx(best, rel=1e-6)
    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    assert read_offline(path).id == read_offline(path.parent).id == offline.id


def test_a_log_that_is_cut_off_gives_its_whole_records(run, offline, tmp_path):
    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    content = path.read_bytes()
    (tmp_path / "cut.wandb").write_bytes(content[: len(content) // 2])
    part = read_offline(tmp_path / "cut.wandb")
    assert not part.finished
    assert 0 < len(part.history) < len(offline.history)
    assert part.history == offline.history[: len(part.history)]


def test_a_torn_line_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 0}) + "\n" + '{"step": 1, "lo')
    assert read_metrics(tmp_path) == [{"step": 0}]


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows: list[dict[str, Any]] = [
        {"name": "007", "yes": True, "no": False, "count": -3, "zero": 0, "share": 0.1, "tiny": 1e-05, "none": None},
        {"name": "1e5", "yes": False, "no": True, "count": 10**20, "zero": -0.0, "share": 1e16, "tiny": -2.5e-300}
        | {"none": "a, b"},
        {"name": "True", "yes": "yes", "no": "", "count": "1_000", "zero": "007", "share": float("inf")}
        | {"tiny": float("-inf"), "none": "infinity"},
    ]
    (tmp_path / "results.csv").write_bytes(csv_text(rows).encode())
    rows[2]["no"] = None  # an empty text is nothing
    table_rows = read_results(tmp_path)
    assert table_rows == rows
    assert [list(map(type, row.values())) for row in table_rows] == [list(map(type, row.values())) for row in rows]
    (tmp_path / "results.csv").write_text("a\nnan\n")
    assert math.isnan(read_results(tmp_path)[0]["a"])


def test_rows_of_an_attack_are_as_the_job_reports_them(tmp_path):
    report = attack(
        str(write_classifier(tmp_path / "m", hidden=12)), "digits", 0.02, optimizer="fgsm", limit=16,
        out=str(tmp_path / "o"), wandb="disabled", device="cpu",
    )  # fmt: skip
    rows = read_results(tmp_path / "o")
    assert rows == report.rows
    assert count_rates(rows) == report.rates


@pytest.mark.parametrize("read", [read_offline, read_metrics, read_results])
def test_a_folder_without_is_refused(read, tmp_path):
    with refuses(str(tmp_path)):
        read(tmp_path)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.wandb").write_bytes(b"something else")
    with refuses(str(tmp_path / "x.wandb"), "an offline run of W&B"):
        read_offline(tmp_path / "x.wandb")


def test_a_negative_wait_is_refused(run):
    with refuses("wait"):
        read_offline(run, wait=-1)
