"""A job's folder: what a stopped job goes on with, what it refuses, and one process at a time."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from files import (
    QUICK,
    blobs,
    call,
    change_card,
    contents,
    stopped_in,
    stopped_in_its_second_batch,
    write_classifier,
    write_mnist,
    write_model,
)
from nets import mlp, refuses

import latentopt as lo
from latentopt.cli import main
from latentopt.jobs import lifetime
from latentopt.jobs.experiment import Experiment, Shard
from latentopt.jobs.identity import describe_card, digest_tensors
from latentopt.jobs.lifetime import LOCK, job, lock
from latentopt.jobs.targets import open_source
from latentopt.objectives import Features
from latentopt.optimizers import PGD, Optimizer
from latentopt.zoo import cards


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, list[object]]:
    """The folder and the command of a job of a folder's model on a folder's data set, stopped in its second batch."""
    folder = tmp_path_factory.mktemp("stopped")
    model = write_model(folder / "m")
    (folder / "data").mkdir()
    write_mnist(folder / "data", train=1, test=6)
    words = ["reconstruct", "--model", model, "--targets", "mnist", "--resize", "--batch-size", "2", *QUICK]
    words += ["--out", folder / "o"]
    with pytest.MonkeyPatch.context() as patch, stopped_in_its_second_batch(patch):
        patch.setenv("LATENTOPT_DATA", str(folder / "data"))
        assert main(list(map(str, words))) == 130
    return folder, words


def change_weights(folder: Path) -> None:
    module = cards.load_generator(folder / "m").module
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    cards.save_model(folder / "m", cards.read_card(folder / "m"), {"generator": module})


def change_data(folder: Path) -> None:
    """Other images under the same name and as many."""
    write_mnist(folder / "data", train=6, test=6)
    (folder / "data/train-images-idx3-ubyte.gz").replace(folder / "data/t10k-images-idx3-ubyte.gz")


CHANGES = {
    "card.output_range": lambda folder: change_card(folder / "m", output_range=[0.0, 1.0]),
    "card.start_scale": lambda folder: change_card(folder / "m", start_scale=0.4),
    "weights": change_weights,
    "targets_held": change_data,
}


@pytest.mark.parametrize("changed", CHANGES)
def test_another_model_or_data_set_is_another_job(stopped, tmp_path, capsys, monkeypatch, changed):
    """Refused in one line, which names what changed; nothing is touched."""
    folder, words = stopped
    monkeypatch.setenv("LATENTOPT_DATA", str(folder / "data"))
    before = shutil.copytree(folder, tmp_path / "before")
    CHANGES[changed](folder)
    told = call(capsys, *words)
    assert (told.code, told.err.count("\n")) == (2, 1), told.err
    assert told.err.split(" with other ")[1].strip() == changed
    assert contents(folder / "o") == contents(before / "o")
    shutil.copytree(before, folder, dirs_exist_ok=True)


def test_what_a_card_only_tells_and_the_folder_of_the_data_may_change(stopped, capsys, monkeypatch):
    folder, words = stopped
    change_card(folder / "m", summary="new", licence="new", quality={"a": "new"}, training={"a": "new"})
    monkeypatch.setenv("LATENTOPT_DATA", str(shutil.copytree(folder / "data", folder / "moved")))
    assert call(capsys, *words).code == 0


def test_a_data_set_is_known_by_the_images_that_are_asked_for(tmp_path):
    write_mnist(tmp_path, train=1, test=6)
    first, other, again = (open_source(["mnist"], str(tmp_path), limit=limit).fingerprint for limit in (3, 4, 3))
    assert first == again != other


def test_a_cap_in_a_classifiers_card_is_another_job(tmp_path, capsys, monkeypatch):
    model = write_classifier(tmp_path / "m", hidden=12)
    words = ["attack", "--model", model, "--data", "digits", "--eps", "0.02", "--limit", "6", "--batch-size", "2"]
    words += ["--optimizer", "pgd", "--steps", "2", "--device", "cpu", "--wandb", "disabled", "--out", tmp_path / "o"]
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words).code == 130
    card = cards.read_card(model)
    inside = {"module": card.architecture["classifier"], "beta": 0.05}
    capped = {"class_path": "latentopt.zoo.capped.Capped", "init_args": inside}
    network = cards.build(capped)
    network.module.load_state_dict(cards.load_classifier(model).module.state_dict())  # pyright: ignore
    cards.save_model(model, card, {"classifier": network})
    change_card(model, architecture={"classifier": capped})
    told = call(capsys, *words)
    assert (told.code, told.err.split(" with other ")[1].strip()) == (2, "card.architecture")


def test_a_loss_that_sees_through_other_weights_is_another_one():
    one, other = (digest_tensors(loss=Features(mlp(3, 4, 2, seed=seed).eval())) for seed in (0, 1))
    assert one.keys() == other.keys() == {"loss_held"}
    assert one != other
    assert digest_tensors(loss=None, start="random", data=[torch.zeros(2, 3)]) != digest_tensors(
        data=[torch.zeros(3, 2)]
    )
    assert describe_card("torchvision/resnet18") == {}


def test_an_analysis_that_was_stopped_begins_anew_in_its_folder(tmp_path, capsys, monkeypatch):
    model = write_classifier(tmp_path / "m", hidden=12)
    words = ["analyze", "dynamics", "--model", model, "--data", "digits", "--limit", "3", "--steps", "2"]
    words += ["--wandb", "disabled", "--out", tmp_path / "o"]

    with stopped_in(monkeypatch, "latentopt.jobs.analyze.dynamics_report.appendix"):
        told = call(capsys, *words)
    assert (told.code, told.err.splitlines()[-1]) == (130, "latentopt: stopped; the same command begins anew")
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


def test_a_second_process_is_refused_in_one_line_and_a_killed_one_holds_nothing(tmp_path, capsys):
    np.save(tmp_path / "a.npy", blobs(1, seed=0))
    out = tmp_path / "o"
    out.mkdir()
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", *QUICK, "--out", out]
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
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
    words[words.index("--steps") + 1] = "60"
    command = [sys.executable, "-m", "latentopt", *words, "--out", str(tmp_path / "o")]
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


@contextmanager
def terminated(patch: pytest.MonkeyPatch, optimizer: type[Optimizer], number: int) -> Iterator[None]:
    """Within, SIGTERM comes in a step of an optimizer, counted from 1."""
    step, count = optimizer.step, itertools.count(1)

    def step_and_kill(*args):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    with patch.context() as context:
        context.setattr(optimizer, "step", step_and_kill)
        yield


posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")


@posix
@pytest.mark.parametrize(("kind", "optimizer"), [("reconstruct", lo.Adam), ("attack", PGD)])
def test_sigterm_ends_a_job_after_its_batch_and_the_same_command_goes_on(
    tmp_path, capsys, monkeypatch, kind, optimizer
):
    np.save(tmp_path / "a.npy", blobs(3, seed=0))
    if kind == "reconstruct":
        words = ["--model", "mnist-vae", "--targets", tmp_path / "a.npy", "--optimizer", "adam"]
    else:
        words = ["--model", write_classifier(tmp_path / "m", hidden=12), "--data", "digits", "--eps", "0.01"]
        words += ["--limit", "3", "--optimizer", "pgd"]
    words = [kind, *words, "--batch-size", "1", "--steps", "6", "--device", "cpu"]
    with terminated(monkeypatch, optimizer, 9):
        told = call(capsys, *words, "--wandb", "offline", "--out", tmp_path / "o")
    assert (told.code, told.err.splitlines()[-1]) == (143, "latentopt: stopped; the same command goes on from here")
    assert len(list((tmp_path / "o" / "shards").iterdir())) == 2
    assert not (tmp_path / "o" / "results.csv").exists()
    for out, mode in (("o", "offline"), ("whole", "disabled")):
        assert call(capsys, *words, "--wandb", mode, "--out", tmp_path / out).code == 0
    lines = [(tmp_path / out / "metrics.jsonl").read_text() for out in ("o", "whole")]
    assert lines[0] == lines[1]


ENDLESS = ["--model", "mnist-vae", "--steps", "1000000", "--start", "random", "--optimizer", "adam"]


@posix
def test_sigterm_does_not_wait_long_for_a_batch(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "a.npy", blobs(2, seed=0))
    monkeypatch.setattr("latentopt.jobs.sigterm.GRACE", 0.1)
    words = ["--targets", tmp_path / "a.npy", "--halving", "[]", "--wandb", "disabled", "--out", tmp_path / "o"]
    with terminated(monkeypatch, lo.Adam, 3):
        assert call(capsys, "reconstruct", *ENDLESS, *words).code == 143
    assert not list((tmp_path / "o").glob("shards/*"))


@posix
def test_sigterm_ends_what_has_no_batches_at_once(capsys, monkeypatch):
    with terminated(monkeypatch, lo.Adam, 3):
        told = call(capsys, "diagnose", *ENDLESS, "--samples", "8", "--tolerance", "1e-30")
    assert (told.code, told.err.splitlines()[-1]) == (143, "latentopt: stopped; the same command begins anew")
