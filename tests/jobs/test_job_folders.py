"""A job's folder: what a stopped job goes on with, what it refuses, and one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from files import (
    QUICK,
    blobs,
    call,
    change_card,
    contents,
    stopped_in_its_second_batch,
    write_classifier,
    write_mnist,
    write_model,
)
from nets import mlp, refuses

import latentopt as lo
from latentopt.jobs import lifetime
from latentopt.jobs.experiment import Experiment, Shard
from latentopt.jobs.lifetime import LOCK, job, lock
from latentopt.jobs.targets import open_source
from latentopt.jobs.used import card_of, held
from latentopt.objectives import Features
from latentopt.zoo import cards

MODULE = [sys.executable, "-m", "latentopt"]
CAP = {"class_path": "latentopt.zoo.capped.Capped", "init_args": {"beta": 0.05}}


@pytest.fixture
def reconstruction(tmp_path, capsys, monkeypatch) -> list[object]:
    """The command of a job of a folder's model on a data set of a folder, stopped in its second batch."""
    model = write_model(tmp_path / "m")
    (tmp_path / "data").mkdir()
    write_mnist(tmp_path / "data", train=1, test=6)
    words = ["reconstruct", "--model", model, "--targets", "mnist", "--resize", "--batch-size", "2", *QUICK]
    words += ["--out", tmp_path / "o"]
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "data"))
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words).code == 130
    return words


def refused(capsys: pytest.CaptureFixture[str], folder: Path, words: list[object], named: str) -> None:
    """In one line, which names what changed; nothing is touched."""
    before = contents(folder / "o")
    said = call(capsys, *words)
    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert said.err.split(" with other ")[1].strip().split(", ") == named.split(", ")
    assert contents(folder / "o") == before


@pytest.mark.parametrize(("field", "value"), [("output_range", [0.0, 1.0]), ("start_scale", 0.4)])
def test_a_card_that_was_edited_is_another_job(reconstruction, tmp_path, capsys, field, value):
    change_card(tmp_path / "m", **{field: value})
    refused(capsys, tmp_path, reconstruction, f"card.{field}")


@pytest.mark.parametrize("field", ["summary", "licence", "quality", "training"])
def test_what_a_card_only_tells_may_change(reconstruction, tmp_path, capsys, field):
    change_card(tmp_path / "m", **{field: "new" if field in ("summary", "licence") else {"said": "new"}})
    assert call(capsys, *reconstruction).code == 0


def test_other_weights_are_another_job(reconstruction, tmp_path, capsys):
    module = cards.load_generator(tmp_path / "m").module
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    cards.save_model(tmp_path / "m", cards.read_card(tmp_path / "m"), {"generator": module})
    refused(capsys, tmp_path, reconstruction, "weights")


def test_another_data_set_of_the_same_name_and_length_is_another_job(reconstruction, tmp_path, capsys, monkeypatch):
    (tmp_path / "other").mkdir()
    write_mnist(tmp_path / "other", train=6, test=6)
    images = tmp_path / "other" / "train-images-idx3-ubyte.gz"
    images.replace(tmp_path / "other" / "t10k-images-idx3-ubyte.gz")
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "other"))
    refused(capsys, tmp_path, reconstruction, "targets_held")


def test_the_same_data_set_elsewhere_is_the_same_job(reconstruction, tmp_path, capsys, monkeypatch):
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "moved"))
    assert call(capsys, *reconstruction).code == 0


def test_a_data_set_is_known_by_the_images_that_are_asked_for(tmp_path):
    write_mnist(tmp_path, train=1, test=6)
    first, again = (open_source(["mnist"], str(tmp_path), limit=limit).fingerprint for limit in (3, 4))
    assert first != again
    assert open_source(["mnist"], str(tmp_path), limit=3).fingerprint == first


def test_a_cap_in_a_classifiers_card_is_another_job(tmp_path, capsys, monkeypatch):
    model = write_classifier(tmp_path / "m", hidden=12)
    words = ["attack", "--model", model, "--data", "digits", "--eps", "0.02", "--limit", "6", "--batch-size", "2"]
    words += ["--optimizer", "pgd", "--steps", "2", "--device", "cpu", "--wandb", "disabled", "--out", tmp_path / "o"]
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words).code == 130
    card = yaml.safe_load((model / "card.yaml").read_text())
    plain = card["architecture"]["classifier"]
    capped = {"class_path": CAP["class_path"], "init_args": {**CAP["init_args"], "module": plain}}
    network = cards.build(capped)
    network.module.load_state_dict(cards.load_classifier(model).module.state_dict())  # pyright: ignore
    told = cards.read_card(model)
    cards.save_model(model, told, {"classifier": network})
    change_card(model, architecture={"classifier": capped})
    said = call(capsys, *words)
    assert said.code == 2
    assert said.err.split(" with other ")[1].strip() == "card.architecture"


def test_a_loss_that_sees_through_other_weights_is_another_one():
    one, other = (held(loss=Features(mlp(3, 4, 2, seed=seed).eval())) for seed in (0, 1))
    assert one.keys() == other.keys() == {"loss_held"}
    assert one != other
    assert held(loss=None, start="random", data=[torch.zeros(2, 3)]) != held(data=[torch.zeros(3, 2)])
    assert card_of("torchvision/resnet18") == {}


@pytest.mark.parametrize("name", ["analyze-dynamics"])
def test_an_analysis_that_was_stopped_begins_anew_in_its_folder(tmp_path, capsys, monkeypatch, name):
    model = write_classifier(tmp_path / "m", hidden=12)
    words = ["analyze", "dynamics", "--model", model, "--data", "digits", "--limit", "3", "--steps", "2"]
    words += ["--wandb", "disabled", "--out", tmp_path / "o"]

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("latentopt.jobs.analyze.dynamics_report.appendix", stopped)
        said = call(capsys, *words)
    assert said.code == 130
    assert said.err.splitlines()[-1] == "latentopt: stopped; the same command begins anew"
    assert call(capsys, *words, "--steps", "3").code == 2  # another one
    assert call(capsys, *words).code == 0
    assert call(capsys, *words, "--out", tmp_path / "whole").code == 0
    lines = [(tmp_path / out / "metrics.jsonl").read_text() for out in ("o", "whole")]
    assert lines[0] == lines[1]
    assert call(capsys, *words).code == 2  # done


HOLD = """
import sys, time
from pathlib import Path
from latentopt.jobs.lifetime import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def holding(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_in_one_line_and_a_killed_one_holds_nothing(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(1, seed=0))
    out = tmp_path / "o"
    out.mkdir()
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", *QUICK, "--out", out]
    process = holding(out)
    try:
        said = call(capsys, *words)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert said.err == f"latentopt: error: out: expected a folder where no other process is at work, got {out}\n"
        assert [path.name for path in out.iterdir()] == [LOCK]
        with refuses("folder"):
            settings = {"low": -1.0, "high": 1.0, "shape": (3,), "steps": 1}
            lo.maximize(mlp(3, 4, 1), **settings, callbacks=[lo.Track(out, wandb="disabled")])
    finally:
        process.kill()
        process.communicate()
    assert (out / LOCK).exists()  # as a kill leaves it
    assert call(capsys, *words).code == 0
    assert not (out / LOCK).exists()


@pytest.mark.slow
def test_two_jobs_started_at_once_leave_what_one_does(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(6, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", str(tmp_path / "a.npy"), *QUICK, "--batch-size", "1"]
    words += ["--steps", "60"]
    command = [*MODULE, *words, "--out", str(tmp_path / "o")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    told = [process.communicate(timeout=300)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 2] or codes == [0, 0], told  # or one after the other
    assert call(capsys, *words, "--out", tmp_path / "whole").code == 0
    lines = [len((tmp_path / out / "metrics.jsonl").read_text().splitlines()) for out in ("o", "whole")]
    assert lines[0] == lines[1]


def test_a_job_that_fails_lets_go_of_its_folder(tmp_path):
    @job
    def failing() -> None:
        lock(tmp_path)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match=r"^$"):
            failing()
    lifetime.unlock(lock(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_became_another_jobs_meanwhile_is_refused(tmp_path):
    first, second = (Experiment(tmp_path / "o", {"job": "a", "seed": seed}, {}) for seed in (0, 1))
    job(first.open)()
    first.add(Shard(["a"], [{}], {"index": torch.tensor([0]), "latents": torch.zeros(1, 2)}))
    with refuses("out"):
        job(second.open)()


SLOW = ["--steps", "300", "--restarts", "4", "--batch-size", "1", "--start", "random", "--picture-every", "100"]


def started(words: list[str], path: Path, pattern: str, count: int) -> subprocess.Popen[str]:
    """A command in a process of its own, once so many files are there."""
    process = subprocess.Popen([*MODULE, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 240
    while len(list(path.glob(pattern))) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("kind", ["reconstruct", pytest.param("attack", marks=pytest.mark.slow)])
def test_sigterm_ends_a_job_after_its_batch_and_the_same_command_goes_on(tmp_path, capsys, kind):
    np.save(tmp_path / "a.npy", blobs(12, seed=0))
    model = write_classifier(tmp_path / "m", hidden=12)
    words = {
        "reconstruct": ["--model", "mnist-vae", "--targets", str(tmp_path / "a.npy"), *SLOW],
        "attack": ["--model", str(model), "--data", "digits", "--eps", "0.01", "--limit", "40", "--batch-size", "2"],
    }[kind]
    words = [kind, *words, "--wandb", "offline", "--device", "cpu"]
    process = started([*words, "--out", str(tmp_path / "o")], tmp_path / "o" / "shards", "*.safetensors", 2)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert said.splitlines()[-1] == "latentopt: stopped; the same command goes on from here"
    assert not (tmp_path / "o" / "results.csv").exists()
    assert call(capsys, *words, "--out", tmp_path / "o").code == 0
    assert call(capsys, *words, "--wandb", "disabled", "--out", tmp_path / "whole").code == 0
    lines = [(tmp_path / out / "metrics.jsonl").read_text() for out in ("o", "whole")]
    assert lines[0] == lines[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_does_not_wait_long_for_a_batch(tmp_path):
    np.save(tmp_path / "a.npy", blobs(8, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", str(tmp_path / "a.npy"), "--steps", "1000000"]
    words += ["--halving", "[]", "--start", "random", "--wandb", "disabled", "--out", str(tmp_path / "o")]
    process = started(words, tmp_path / "o", "recipe.yaml", 1)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_ends_what_has_no_batches_at_once(tmp_path):
    words = ["diagnose", "--model", "mnist-vae", "--samples", "8", "--steps", "1000000", "--start", "random"]
    words += ["--optimizer", "adam", "--tolerance", "1e-30"]
    process = subprocess.Popen([*MODULE, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    time.sleep(12)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert said.splitlines()[-1] == "latentopt: stopped; the same command begins anew"
