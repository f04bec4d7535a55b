"""What the page on tracking promises, found in the records of runs; jobs that go on; models as artifacts."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from files import QUICK, ROOT, blobs, call, stopped_in_its_second_batch, write_classifier, write_mnist
from test_tracking import values

from latentopt.jobs.tracker import Tracker
from latentopt.jobs.wandb_files import RUN_ID, raw_records
from latentopt.zoo import cards

# wandb.Image leaves the GIF that it was given open.
pytestmark = pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")

PAGE = (ROOT / "docs" / "guides" / "tracking.md").read_text(encoding="utf-8")
TRACKED = (*QUICK[:4], "--device", "cpu", "--wandb", "offline")


def promised(job: str) -> tuple[set[str], set[str]]:
    """Keys of a job that the page says are always there, and those that may be."""
    (section,) = re.findall(rf"\n### {job}\n(.*?)(?=\n##|\Z)", PAGE, re.DOTALL)
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("| `")]
    each = [(re.findall(r"`([^`]+)`", keys), kind.strip()) for keys, kind in rows]
    always = {key for keys, kind in each for key in keys if not kind.startswith("some")}
    return always, {key for keys, _ in each for key in keys}


class Run:
    """The records of the offline runs of a folder, in the order of their start."""

    def __init__(self, folder: Path) -> None:
        paths = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
        self.records = [whole(path) for path in paths]
        self.all = [record for records in self.records for record in records]
        self.ids = [_one(records, "run").run_id for records in self.records]
        self.config = values(_one(self.records[-1], "run").config.update)
        self.histories = [
            [values(record.history.item) for record in records if record.HasField("history")]
            for records in self.records
        ]
        self.history = [row for rows in self.histories for row in rows]
        self.summary: dict[str, Any] = {}
        for record in self.all:
            if record.WhichOneof("record_type") == "summary":
                self.summary |= values(record.summary.update)

    @property
    def artifacts(self) -> dict[str, tuple[str, set[str]]]:
        """Type and files of each artifact, by name without the run's id."""
        found = [record.artifact for record in self.all if record.HasField("artifact")]
        found += [record.request.log_artifact.artifact for record in self.all if record.HasField("request")]
        named = {one.name: one for one in found if one.name and not one.name.startswith("run-")}
        return {
            name.replace(self.ids[0], "ID"): (one.type, {entry.path for entry in one.manifest.contents})
            for name, one in named.items()
        }

    def present(self) -> set[str]:
        """Every key of the history, the summary's best figures, and the artifacts."""
        logged = {re.sub(r"\.[a-z_0-9]+$", "", key) for row in self.history for key in row if not key.startswith("_")}
        return logged | {key for key in self.summary if key.startswith("best/")} | set(self.artifacts)


def whole(path: Path) -> list[Any]:
    """The records of a run that was closed. W&B's own process writes the last of them soon afterwards."""
    deadline = time.monotonic() + 20
    while True:
        records = list(raw_records(path.read_bytes())) if path.stat().st_size > 7 else []
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.05)


def _one(records: list[Any], kind: str) -> Any:
    return next(getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind)


def check(run: Run, job: str) -> None:
    """All that is promised is there, and all that is there is on the page."""
    always, named = promised(job)
    assert always - run.present() == set()
    assert run.present() - named == set()


@pytest.fixture(autouse=True, scope="module")
def as_users_have_it():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_RUN_GROUP"):
            patch.delenv(name, raising=False)
        yield


def test_a_reconstruction_that_goes_on_is_one_run_with_all_that_is_promised(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "a.npy", blobs(4, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", "--batch-size", "2", *TRACKED]
    words += ["--picture-every", "2", "--out", tmp_path / "o"]
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words).code == 130
    first = (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()
    assert len(first) == 4
    assert call(capsys, *words).code == 0
    run = Run(tmp_path / "o")
    assert len(run.ids) == 2
    assert set(run.ids) == {(tmp_path / "o" / "wandb" / RUN_ID).read_text()}
    before, after = ([row["_step"] for row in rows] for rows in run.histories)
    assert before == sorted(set(before))
    assert after == sorted(set(after))
    assert after[0] == before[-1] + 1  # what W&B holds of the batch that was under way is not sent again
    lines = [json.loads(line) for line in (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))
    tracked = [row for row in run.history if "loss/total" in row]
    assert [(row["_step"], row["loss/total"]) for row in tracked] == [
        (line["step"], line["loss/total"]) for line in lines
    ]
    assert run.config["model_sha256"] == cards.read_card("mnist-vae").weights_sha256
    assert run.artifacts["latents-ID"] == ("latents", {"latents.safetensors"})
    assert json.loads((tmp_path / "o" / "summary.json").read_text()) == {
        key: value for key, value in run.summary.items() if key.startswith("best/")
    }
    check(run, "reconstruct")
    files = len(list((tmp_path / "o" / "wandb").iterdir()))
    assert call(capsys, *words).code == 0
    assert len(list((tmp_path / "o" / "wandb").iterdir())) == files  # done: nothing more to track


def test_the_papers_method_has_the_keys_of_its_gates(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(1, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", *TRACKED]
    assert call(capsys, *words, "--optimizer", "adr-gd-paper", "--out", tmp_path / "o").code == 0
    run = Run(tmp_path / "o")
    assert {"opt/beta", "opt/flips", "constraint"} <= run.present()
    check(run, "reconstruct")


def test_an_attack_has_all_that_is_promised(tmp_path, capsys):
    model = write_classifier(tmp_path / "m", hidden=12)
    words = ["attack", "--model", model, "--data", "digits", "--eps", "0.02", "--limit", "4", "--optimizer", "pgd"]
    assert call(capsys, *words, *TRACKED, "--out", tmp_path / "o").code == 0
    run = Run(tmp_path / "o")
    check(run, "attack")
    assert run.artifacts["adversarial-ID"] == ("adversarial", {"adversarial.safetensors"})
    assert run.config["model_sha256"] == cards.read_card(model).weights_sha256
    defined = {record.metric.name: record.metric.summary for record in run.all if record.HasField("metric")}
    assert defined["loss/best"].min
    assert defined["metric/success"].max


@pytest.mark.parametrize(
    "recipe", ["train-mnist-vae", pytest.param("train-mnist-dcgan", marks=pytest.mark.slow), "train-mnist-cnn"]
)
def test_a_training_has_all_that_is_promised_and_its_model_is_an_artifact(tmp_path, capsys, monkeypatch, recipe):
    monkeypatch.setattr("latentopt.jobs.quality.MEASURED", 4)
    monkeypatch.setattr("latentopt.jobs.quality.ATTACKED", 4)
    data = ["--data.root", write_mnist(tmp_path), "--data.batch_size", "32"]
    words = ["train", recipe, *data, "--epochs", "2", "--name", "tiny", "--device", "cpu", "--log", tmp_path / "log"]
    words += ["--data.validation", "32"] if recipe == "train-mnist-cnn" else []
    assert call(capsys, *words, "--out", tmp_path / "models").code == 0
    run = Run(tmp_path / "log" / "tiny")
    assert run.artifacts["tiny-ID"][0] == "model"
    assert {"card.yaml", "weights.safetensors"} <= run.artifacts["tiny-ID"][1]
    always, named = promised("train")
    found = {"NAME-ID" if key == "tiny-ID" else key for key in run.present()}
    assert always - found == set()
    assert {key for key in found - named if not re.match(r"train/\w+_(step|epoch)$|best/", key)} == set()
    wanted = {
        "vae": {"train/kl", "best/test_mse", "pictures/samples", "results-ID"},
        "dcgan": {"train/generator", "train/discriminator"},
        "cnn": {"val/accuracy"},
    }
    assert wanted[recipe.split("-")[-1]] <= run.present()
    epochs = [row["epoch"] for row in run.history if "epoch" in row]
    assert epochs == [1, 2]
    card = yaml.safe_load((tmp_path / "models" / "tiny" / "card.yaml").read_text())
    figures = {key: value for key, value in card["quality"].items() if key != "protocol"}
    assert {key: run.summary[f"best/{key}"] for key in figures} == figures
    lines = [json.loads(line) for line in (tmp_path / "log" / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]


def test_what_other_processes_track_is_taken_over(tmp_path):
    first, second, third = (Tracker(tmp_path, "disabled", {}, "test", rank) for rank in range(3))
    for step in range(3):
        for tracker in (first, second, third):
            tracker.log(step, {"loss/total": 10.0 * tracker.rank + step})
    for tracker in (first, second, third):
        tracker.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.1.jsonl", "metrics.2.jsonl", "metrics.jsonl"]
    again = Tracker(tmp_path, "disabled", {}, "test", 1)  # a process that goes on, goes on behind its own lines
    assert again.last() == {"step": 2, "loss/total": 12.0}
    assert second.finish([{"a": 1}], {"a": 1.0}, []) == []
    first.finish([{"a": 1}], {"a": 1.0}, [])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(9))
    assert [line["loss/total"] for line in lines] == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert [line.get("rank") for line in lines] == [None] * 3 + [1] * 3 + [2] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "summary.json"]


def test_an_agents_run_id_wins_and_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "fromagent")
    Tracker(tmp_path, "offline", {}, "test").finish([{"a": 1}], {}, [])
    monkeypatch.delenv("WANDB_RUN_ID")
    Tracker(tmp_path, "offline", {}, "test").finish([{"a": 1}], {}, [])
    assert Run(tmp_path).ids == ["fromagent", "fromagent"]
