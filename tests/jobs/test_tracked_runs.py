"""Tracked jobs: their offline runs hold what the page on tracking promises, and the same figures as on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from files import QUICK, VIDEO, blobs, call, stopped_in_its_second_batch, table, write_classifier, write_mnist
from trainings import measure_few
from wandb_runs import LoggedRun, check_keys, drop_wandb_variables, promised

from latentopt.jobs.attack import attack
from latentopt.jobs.reconstruct import reconstruct
from latentopt.jobs.records import read_metrics
from latentopt.jobs.wandb_log import read_run_id
from latentopt.operators import Downsample
from latentopt.optimizers import PGD
from latentopt.zoo import cards

# wandb.Image leaves the GIF that it was given open.
pytestmark = pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")

STEPS, EVERY = 6, 3
TRACKED = (*QUICK[:4], "--device", "cpu", "--wandb", "offline")


@pytest.fixture(autouse=True, scope="module")
def _as_users_have_it():
    with pytest.MonkeyPatch.context() as patch:
        drop_wandb_variables(patch)
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("job")
    np.save(folder / "images.npy", blobs(3, seed=0))
    settings = {"steps": STEPS, "restarts": 2, "batch_size": 2, "picture_every": EVERY, "device": "cpu"}
    targets = [str(folder / "images.npy")]
    return folder / "out", reconstruct("mnist-vae", targets, Downsample(4), out=str(folder / "out"), **settings)


@pytest.fixture(scope="module")
def run(job) -> LoggedRun:
    return LoggedRun(job[0])


@pytest.fixture(scope="module")
def files(job) -> Path:
    """The folder of the run's pictures and tables."""
    (folder,) = (job[0] / "wandb").glob("offline-run-*")
    assert folder in job[1].files
    return folder / "files"


def test_a_reconstruction_has_every_key_that_is_promised(run):
    check_keys(run, "reconstruct")


def test_every_step_of_every_batch_has_the_promised_figures_also_on_disk(run, job):
    steps = [row for row in run.history if "loss/total" in row]
    assert [row["_step"] for row in steps] == list(range(2 * STEPS))
    assert all({"loss/data", "loss/best", "opt/grad_norm"} <= row.keys() for row in steps)
    assert all(row["loss/best"] <= row["loss/total"] + 1e-9 for row in steps)
    assert [{"_step": line.pop("step"), **line} for line in read_metrics(job[0])] == [
        {key: value for key, value in row.items() if "/" in key or key == "_step"} for row in steps
    ]
    forwards = [row["cost/forwards"] for row in steps]
    learnt = (667, 666)  # of the 2,000 samples that the start learns from, the share of a target of each batch
    assert forwards == [share + 2 * t for share in learnt for t in range(1, STEPS + 1)]


def test_pictures_and_psnr_come_every_so_many_steps_and_at_the_end(run, files):
    steps = [row["_step"] for row in run.history if "metric/psnr" in row]
    assert {2, 5, 8, 11} <= set(steps)
    pictures = [row["trajectory.path"] for row in run.history if "trajectory.path" in row]
    assert len(pictures) == len(steps)
    assert all((files / path).is_file() for path in pictures)


def test_the_whole_recipe_is_the_runs_configuration(run, job):
    recipe = yaml.safe_load((job[0] / "recipe.yaml").read_text())
    assert {key: run.config[key] for key in recipe} == recipe
    assert run.config["model_sha256"] == cards.read_card("mnist-vae").weights_sha256
    assert (run.runs[0].project, run.runs[0].job_type) == ("latentopt", "reconstruct")


def test_the_table_of_results_holds_every_row(run, job, files):
    (row,) = (row for row in run.history if "results.path" in row)
    logged = json.loads((files / row["results.path"]).read_text())
    rows = [dict(zip(logged["columns"], map(str, data), strict=True)) for data in logged["data"]]
    assert [{key: value for key, value in row.items() if key != "seconds"} for row in rows] == table(job[0])


def test_the_best_values_are_the_summary(run, job):
    assert all(run.goals[key].min for key in ("loss/total", "loss/data", "loss/best", "constraint"))
    assert all(run.goals[key].max for key in ("metric/psnr", "metric/success"))
    losses = [float(row["loss"]) for row in table(job[0])]
    assert run.summary["best/mean_loss"] == pytest.approx(sum(losses) / 3)
    best = {key: value for key, value in run.summary.items() if key.startswith("best/")}
    assert json.loads((job[0] / "summary.json").read_text()) == best


def test_results_latents_and_pictures_are_artifacts(run):
    tables = {"results.csv", "latents.safetensors", "metrics.jsonl", "recipe.yaml", "report.html"}
    pictures = {"grid.png", "trajectory.gif", "convergence.png", *VIDEO}
    assert run.artifacts["results-ID"] == ("results", tables | pictures)
    assert run.artifacts["latents-ID"] == ("latents", {"latents.safetensors"})


def test_a_job_that_goes_on_is_one_run(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "a.npy", blobs(4, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", "--batch-size", "2", *TRACKED]
    words += ["--picture-every", "2", "--out", tmp_path / "o"]
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words).code == 130
    assert len(read_metrics(tmp_path / "o")) == 4
    assert call(capsys, *words).code == 0
    run = LoggedRun(tmp_path / "o")
    assert run.ids == [read_run_id(tmp_path / "o")] * 2
    before, after = ([row["_step"] for row in rows] for rows in run.histories)
    assert before == sorted(set(before))
    assert after == sorted(set(after))
    assert after[0] == before[-1] + 1  # what W&B holds of the batch that was under way is not sent again
    lines = read_metrics(tmp_path / "o")
    assert [line["step"] for line in lines] == list(range(8))
    tracked = [row for row in run.history if "loss/total" in row]
    assert [(row["_step"], row["loss/total"]) for row in tracked] == [
        (line["step"], line["loss/total"]) for line in lines
    ]
    check_keys(run, "reconstruct")
    count = len(list((tmp_path / "o" / "wandb").iterdir()))
    assert call(capsys, *words).code == 0
    assert len(list((tmp_path / "o" / "wandb").iterdir())) == count  # done: nothing more to track


def test_the_papers_method_has_the_keys_of_its_gates(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(2, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", *TRACKED]
    assert call(capsys, *words, "--optimizer", "adr-gd-paper", "--out", tmp_path / "o").code == 0
    assert all(
        {"opt/beta", "opt/flips", "constraint", "loss/total"} <= row.keys() for row in read_metrics(tmp_path / "o")
    )
    check_keys(LoggedRun(tmp_path / "o"), "reconstruct")


def test_an_attack_is_tracked_with_the_same_keys_and_its_rates(tmp_path):
    out, model = tmp_path / "o", str(write_classifier(tmp_path / "m", hidden=12))
    settings = {"optimizer": PGD(), "targets": 2, "steps": 3, "limit": 6, "batch_size": 3, "device": "cpu"}
    report = attack(model, "digits", 0.02, out=str(out), **settings)
    run = LoggedRun(out)
    check_keys(run, "attack")
    assert run.runs[0].job_type == "attack"
    assert (run.config["eps"], run.config["model_sha256"]) == (0.02, cards.read_card(model).weights_sha256)
    tracked = [row for row in run.history if "cost/forwards" in row]
    assert [row["_step"] for row in tracked] == list(range(len(tracked)))
    steps = [row for row in tracked if "loss/total" in row]
    assert all({"loss/data", "loss/best", "opt/grad_norm"} <= row.keys() for row in steps)
    ends = [row for row in tracked if "metric/success" in row]
    assert len(ends) == 2
    assert ends[-1]["metric/success"] == report.rates.success.rate
    means = [sum(row["forwards"] for row in rows) / 3 for rows in (report.rows[:3], report.rows[3:])]
    assert [row["cost/forwards"] for row in ends] == pytest.approx(means)
    first = sum(row["_step"] <= ends[0]["_step"] for row in tracked)
    costs = [row["cost/forwards"] for row in tracked]
    for part, mean in zip((costs[:first], costs[first:]), means, strict=True):
        assert part == sorted(part)
        assert 1 < part[0] <= part[-1] == pytest.approx(mean)
    assert [{"_step": line.pop("step"), **line} for line in read_metrics(out)] == [
        {key: value for key, value in row.items() if "/" in key or key == "_step"} for row in tracked
    ]
    assert run.artifacts["results-ID"][1] == {path.name for path in report.files if path.is_file()}
    assert run.artifacts["adversarial-ID"] == ("adversarial", {"adversarial.safetensors"})


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("train-mnist-vae", {"train/kl", "best/test_mse", "pictures/samples", "results-ID"}),
        pytest.param("train-mnist-dcgan", {"train/generator", "train/discriminator"}, marks=pytest.mark.slow),
        ("train-mnist-cnn", {"val/accuracy"}),
    ],
)
def test_a_training_has_all_that_is_promised_and_its_model_is_an_artifact(tmp_path, capsys, monkeypatch, recipe, keys):
    measure_few(monkeypatch, attacked=True)
    words = ["train", recipe, "--data.root", write_mnist(tmp_path), "--data.batch_size", "32", "--epochs", "2"]
    words += ["--name", "tiny", "--device", "cpu", "--log", tmp_path / "log"]
    words += ["--data.validation", "32"] if recipe == "train-mnist-cnn" else []
    assert call(capsys, *words, "--out", tmp_path / "models").code == 0
    run = LoggedRun(tmp_path / "log" / "tiny")
    assert run.artifacts["tiny-ID"][0] == "model"
    assert {"card.yaml", "weights.safetensors"} <= run.artifacts["tiny-ID"][1]
    always, named = promised("train")
    present = {"NAME-ID" if key == "tiny-ID" else key for key in run.keys}
    assert always - present == set()
    assert {key for key in present - named if not re.match(r"train/\w+_(step|epoch)$|best/", key)} == set()
    assert keys <= present
    assert [row["epoch"] for row in run.history if "epoch" in row] == [1, 2]
    card = yaml.safe_load((tmp_path / "models" / "tiny" / "card.yaml").read_text())
    figures = {key: value for key, value in card["quality"].items() if key != "protocol"}
    assert {key: run.summary[f"best/{key}"] for key in figures} == figures
    assert [line["step"] for line in read_metrics(tmp_path / "log" / "tiny")] == [0, 1]
