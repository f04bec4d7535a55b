from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from files import QUICK, ROOT, VIDEO, blobs, call, table, write_classifier
from nets import refuses

from latentopt.jobs.attack import attack
from latentopt.jobs.reconstruct import Report, reconstruct
from latentopt.jobs.tracker import Tracker, check_wandb_mode
from latentopt.jobs.wandb_files import raw_records
from latentopt.operators import Downsample
from latentopt.optimizers import PGD

# wandb.Image leaves the GIF that it was given open.
pytestmark = pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")

STEPS, EVERY = 6, 3


def offline_records(job: Path) -> list[Any]:
    """Records of a job's offline run. W&B's own process writes the last of them soon after the run has finished."""
    (path,) = (job / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 20
    while True:
        records = list(raw_records(path.read_bytes()))
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.05)


def values(items: Any) -> dict[str, Any]:
    """Keys (the parts of a nested one joined by a dot) and values of a history, summary or configuration."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def held_by_artifact(records: list[Any]) -> set[str]:
    """Names of the files in the artifact of results."""
    artifacts = [record.artifact for record in records if record.HasField("artifact")]
    artifacts += [record.request.log_artifact.artifact for record in records if record.HasField("request")]
    (artifact,) = (artifact for artifact in artifacts if artifact.type == "results")
    return {entry.path for entry in artifact.manifest.contents}


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("job")
    np.save(folder / "images.npy", blobs(3, seed=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        report = reconstruct(
            "mnist-vae",
            [str(folder / "images.npy")],
            Downsample(4),
            steps=STEPS,
            restarts=2,
            batch_size=2,
            picture_every=EVERY,
            out=str(folder / "out"),
            wandb="offline",
            device="cpu",
        )
    return folder / "out", report


@pytest.fixture(scope="module")
def records(job) -> list[Any]:
    return offline_records(job[0])


@pytest.fixture(scope="module")
def history(records) -> list[dict[str, Any]]:
    return [values(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]


def test_the_run_lies_under_the_jobs_folder_and_is_reported(job):
    folder, report = job
    (run,) = (folder / "wandb").glob("offline-run-*")
    assert run in report.files


def test_every_step_of_every_batch_has_the_promised_figures(history):
    steps = [row for row in history if "loss/total" in row]
    assert [row["_step"] for row in steps] == list(range(2 * STEPS))
    promised = {"loss/total", "loss/data", "loss/best", "opt/grad_norm", "cost/forwards"}
    assert all(promised <= row.keys() for row in steps)
    assert all(row["loss/best"] <= row["loss/total"] + 1e-9 for row in steps)
    forwards = [row["cost/forwards"] for row in steps]
    learnt = (667, 666)  # of the 2,000 samples that the start learns from, what a target of each batch bears
    assert forwards == [share + 2 * t for share in learnt for t in range(1, STEPS + 1)]


def test_pictures_and_psnr_come_every_so_many_steps_and_at_the_end(history, job):
    seen = [row["_step"] for row in history if "metric/psnr" in row]
    assert {2, 5, 8, 11} <= set(seen)
    pictures = [row["trajectory.path"] for row in history if "trajectory.path" in row]
    assert len(pictures) == len(seen)
    (run,) = (job[0] / "wandb").glob("offline-run-*")
    assert all((run / "files" / path).is_file() for path in pictures)


def promised(job: str) -> list[str]:
    """The keys that the guide says every run of a job has."""
    text = (ROOT / "docs/guides/tracking.md").read_text(encoding="utf-8").split(f"### {job}\n")[1].split("\n#")[0]
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    return [key for row in rows if "some" not in row[2] for key in re.findall(r"`([^`]+)`", row[1])]


def held(records: list[Any]) -> set[str]:
    """The keys of a run's records: of its history, its summary, and its artifacts, whose names end in ID."""
    found = set[str]()
    for record in records:
        match record.WhichOneof("record_type"):
            case "history":
                found |= values(record.history.item).keys()
            case "summary":
                found |= values(record.summary.update).keys()
            case "artifact":
                found.add(f"{record.artifact.name.rsplit('-', 1)[0]}-ID")
            case "request":
                name = record.request.log_artifact.artifact.name
                found.add(f"{name.rsplit('-', 1)[0]}-ID")
    return {key.removesuffix(end) for key in found for end in ("", ".path", "._type")}


def test_a_run_has_every_key_that_the_guide_promises(records):
    assert len(promised("reconstruct")) > 12
    assert set(promised("reconstruct")) <= held(records)


def test_the_figures_on_disk_are_the_same(history, job):
    lines = [json.loads(line) for line in (job[0] / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * STEPS
    steps = [row for row in history if "loss/total" in row]
    for line, row in zip(lines, steps, strict=True):
        assert line.pop("step") == row["_step"]
        assert line == {key: row[key] for key in line}
        assert {key for key in row if "/" in key} == set(line)


def test_the_whole_recipe_is_the_runs_configuration(records, job):
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    config = values(run.config.update)
    recipe = yaml.safe_load((job[0] / "recipe.yaml").read_text())
    assert {key: config[key] for key in recipe} == recipe
    assert (run.project, run.job_type) == ("latentopt", "reconstruct")


def test_the_table_of_results_holds_every_row(history, job):
    (row,) = (row for row in history if "results.path" in row)
    (run,) = (job[0] / "wandb").glob("offline-run-*")
    logged = json.loads((run / "files" / row["results.path"]).read_text())
    rows = [dict(zip(logged["columns"], map(str, data), strict=True)) for data in logged["data"]]
    assert [{key: value for key, value in row.items() if key != "seconds"} for row in rows] == table(job[0])


def test_the_best_values_are_the_summary(records, job):
    defined = {record.metric.name: record.metric.summary for record in records if record.HasField("metric")}
    assert all(defined[key].min for key in ("loss/total", "loss/data", "constraint"))
    assert defined["metric/psnr"].max
    summary: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= values(record.summary.update)
    losses = [float(row["loss"]) for row in table(job[0])]
    assert summary["best/mean_loss"] == pytest.approx(sum(losses) / 3)
    assert {"best/mean_mse", "best/mean_psnr", "best/mean_ssim"} <= summary.keys()


def test_results_latents_and_pictures_are_an_artifact(records, history):
    wanted = {"results.csv", "latents.safetensors", "metrics.jsonl", "recipe.yaml"}
    assert held_by_artifact(records) == {
        *wanted,
        "grid.png",
        "trajectory.gif",
        "convergence.png",
        "report.html",
        *VIDEO,
    }
    shown = {key for row in history for key in row}
    assert {"pictures/grid.path", "pictures/trajectory.path", "pictures/convergence.path", "report.path"} <= shown


def test_an_attack_is_tracked_with_the_same_keys_and_its_rates(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    out, model = tmp_path / "o", str(write_classifier(tmp_path / "m", hidden=12))
    settings = {"optimizer": PGD(), "targets": 2, "steps": 3, "limit": 6, "batch_size": 3, "device": "cpu"}
    report = attack(model, "digits", 0.02, out=str(out), wandb="offline", **settings)
    records = offline_records(out)
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.job_type == "attack"
    assert values(run.config.update)["eps"] == 0.02
    assert len(promised("attack")) > 10
    assert set(promised("attack")) <= held(records)
    history = [values(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]
    tracked = [row for row in history if "cost/forwards" in row]
    assert [row["_step"] for row in tracked] == list(range(len(tracked)))
    steps = [row for row in tracked if "loss/total" in row]
    assert all({"loss/data", "loss/best", "opt/grad_norm"} <= row.keys() for row in steps)
    ends = [row for row in tracked if "metric/success" in row]
    assert len(ends) == 2
    assert ends[-1]["metric/success"] == report.rates.success.rate
    batches = [report.rows[:3], report.rows[3:]]
    means = [sum(row["forwards"] for row in rows) / 3 for rows in batches]
    assert [row["cost/forwards"] for row in ends] == pytest.approx(means)
    parts = [[row["cost/forwards"] for row in tracked if row["_step"] <= ends[0]["_step"]], []]
    parts[1] = [row["cost/forwards"] for row in tracked][len(parts[0]) :]
    for costs, mean in zip(parts, means, strict=True):
        assert costs == sorted(costs)
        assert 1 < costs[0] <= costs[-1] == pytest.approx(mean)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [{"_step": line.pop("step"), **line} for line in lines] == [
        {key: value for key, value in row.items() if "/" in key or key == "_step"} for row in tracked
    ]
    assert held_by_artifact(records) == {path.name for path in report.files if path.is_file()}
    assert any("results.path" in row for row in history)


def test_the_papers_method_tells_of_its_gates_too(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(2, seed=0))
    words = ["--model", "mnist-vae", "--targets", tmp_path / "a.npy", "--out", tmp_path / "o", *QUICK]
    assert call(capsys, "reconstruct", *words, "--optimizer", "adr-gd-paper").code == 0
    lines = [json.loads(line) for line in (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()]
    assert all({"opt/beta", "opt/flips", "constraint", "loss/total"} <= line.keys() for line in lines)


def test_disabled_tracks_on_disk_alone(tmp_path):
    tracker = Tracker(tmp_path, "disabled", {}, "test")
    for step in range(3):
        tracker.log(step, {"loss/total": 1 / (step + 1)})
    assert not (tmp_path / "metrics.jsonl").exists()  # whole batches only
    tracker.flush()
    tracker.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "loss/total": 1 / (step + 1)} for step in range(3)]
    assert tracker.finish([{"a": 1}], {}, []) == []
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_online_without_a_key_warns_stays_offline_and_never_asks(tmp_path, monkeypatch, capsys):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    (tmp_path / "o").mkdir()
    tracker = Tracker(tmp_path / "o", "online", {}, "test")
    tracker.log(0, {"loss/total": 0.5})
    written = tracker.finish([{"a": 1}], {}, [])
    said = capsys.readouterr().err
    assert "latentopt: warning: no W&B key is configured (wandb login); the run stays offline\n" in said
    assert "deprecated" not in said
    assert written[0].name.startswith("offline-run-")
    logged = [values(r.history.item) for r in offline_records(tmp_path / "o") if r.HasField("history")]
    assert logged[0]["loss/total"] == 0.5


@pytest.mark.parametrize("mode", ["Online", "", "dryrun"])
def test_an_unknown_mode_is_refused(mode):
    with refuses("wandb"):
        check_wandb_mode(mode)


def test_a_line_torn_by_a_kill_is_dropped_and_the_log_goes_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss/total": 2.0}\n{"step": 1, "lo')
    tracker = Tracker(tmp_path, "disabled", {}, "test")
    assert tracker.last() == {"step": 0, "loss/total": 2.0}
    tracker.log(1, {"loss/total": 1.0})
    tracker.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 0, "loss/total": 2.0}, {"step": 1, "loss/total": 1.0}]
