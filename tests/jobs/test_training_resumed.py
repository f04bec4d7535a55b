"""Trainings that were stopped: the same command ends with the weights of one that ran through."""

from __future__ import annotations

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import processes
import pytest
import torch
from files import call, contents, stopped_in, write_mnist
from trainings import classifier_recipe, gan_recipe, measure_few, vae_recipe

from latentopt.cli import main
from latentopt.jobs.checkpoints import LAST, random_state, set_random_state
from latentopt.jobs.records import read_metrics
from latentopt.zoo import cards
from latentopt.zoo.classifiers import ClassifierTraining
from latentopt.zoo.modules import GAN, VAE

STOPPED = "stopped; the same command goes on after the last whole epoch"
ADVERSARIAL = {"steps": 2, "step": 0.5, "warmup": 0.5}


@pytest.fixture(scope="module", autouse=True)
def few_are_measured():
    with pytest.MonkeyPatch.context() as patch:
        measure_few(patch, attacked=True)
        yield


@pytest.fixture(scope="module")
def mnist(tmp_path_factory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("mnist"))


AUGMENTED = {"batch_size": 48, "flip": True, "shift": 2}
KINDS = {
    "vae": (VAE, vae_recipe),
    "gan": (GAN, gan_recipe),
    "classifier": (ClassifierTraining, partial(classifier_recipe, adversary=None, data=AUGMENTED)),
    "adversarial": (ClassifierTraining, partial(classifier_recipe, adversary=ADVERSARIAL, data=AUGMENTED)),
}


def stop(patch: pytest.MonkeyPatch, module: type, batch: int) -> None:
    """Interrupt the training in a batch, counted from 1."""
    step, count = module.training_step, [0]

    def stopped(self, *args):
        count[0] += 1
        if count[0] == batch:
            raise KeyboardInterrupt
        return step(self, *args)

    patch.setattr(module, "training_step", stopped)


@pytest.mark.parametrize("kind", ["vae", "gan", "adversarial", pytest.param("classifier", marks=pytest.mark.slow)])
def test_a_training_stopped_twice_ends_with_the_weights_of_one_that_was_not(mnist, tmp_path, capsys, monkeypatch, kind):
    module, write_recipe = KINDS[kind]
    path = write_recipe(mnist, tmp_path / "r.yaml", epochs=3)
    words = ["train", path, "--out", tmp_path / "whole", "--log", tmp_path / "whole-log"]
    assert call(capsys, *words).code == 0
    words = ["train", path, "--out", tmp_path / "out", "--log", tmp_path / "log"]
    for batch in (6, 5):  # of 4 an epoch: in the second epoch, and in the third
        with monkeypatch.context() as patch:
            stop(patch, module, batch)
            told = call(capsys, *words)
        assert (told.code, told.err.splitlines()[-1]) == (130, f"latentopt: {STOPPED}")
    torch.rand(5)  # whatever else has drawn in between
    told = call(capsys, *words)
    assert (told.code, "latentopt: goes on after epoch 2 of 3" in told.err) == (0, True)
    assert [folder.name for folder in (tmp_path / "log").iterdir()] == ["tiny"]
    assert read_metrics(tmp_path / "log" / "tiny") == read_metrics(tmp_path / "whole-log" / "tiny")
    one, other = (cards.read_card(tmp_path / name / "tiny") for name in ("whole", "out"))
    assert one.weights_sha256 == other.weights_sha256
    assert one.quality == other.quality
    assert not (tmp_path / "log" / "tiny" / LAST).exists()


def test_a_training_stopped_before_its_first_checkpoint_begins_in_the_same_folder(mnist, tmp_path, capsys, monkeypatch):
    path = vae_recipe(mnist, tmp_path / "r.yaml", epochs=2)
    words = ["train", path, "--out", tmp_path / "out", "--log", tmp_path / "log"]
    with monkeypatch.context() as patch:
        stop(patch, VAE, 2)
        assert call(capsys, *words).code == 130
    assert call(capsys, *words).code == 0
    assert [folder.name for folder in (tmp_path / "log").iterdir()] == ["tiny"]
    assert [line["epoch"] for line in read_metrics(tmp_path / "log" / "tiny")] == [1, 2]


def test_a_training_stopped_while_it_was_exported_goes_on(mnist, tmp_path, capsys, monkeypatch):
    path = vae_recipe(mnist, tmp_path / "r.yaml", epochs=2)
    words = ["train", path, "--out", tmp_path / "out", "--log", tmp_path / "log"]
    with stopped_in(monkeypatch, "latentopt.jobs.exports.GeneratorExport.draw"):
        assert call(capsys, *words).code == 130
    assert not (tmp_path / "out" / "tiny").exists()
    assert call(capsys, *words).code == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["tiny"]
    assert call(capsys, *words[:2], "--out", tmp_path / "whole", "--log", tmp_path / "other").code == 0
    one, other = (cards.read_card(tmp_path / name / "tiny") for name in ("whole", "out"))
    assert one.weights_sha256 == other.weights_sha256


@pytest.fixture(scope="module")
def stopped(mnist, tmp_path_factory) -> tuple[Path, list[object]]:
    """The folder and the command of a training that was stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    words = ["train", vae_recipe(mnist, folder / "r.yaml", epochs=2), "--log", folder / "log"]
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, VAE, 6)
        assert main([*map(str, words), "--out", str(folder / "out")]) == 130
    return folder, words


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--seed", "1"], "seed"),
        (["--module.lr", "0.5"], "module"),
        (["--data.batch_size", "32"], "data"),
        (["--epochs", "3"], "epochs"),
        (["--data.root", "{other}"], "data_held"),
    ],
)
def test_another_training_of_the_name_begins_anew_and_says_so(stopped, tmp_path, capsys, changes, named):
    folder, words = stopped
    other = write_mnist(tmp_path, train=240)
    shutil.copytree(folder / "log", tmp_path / "log")
    words = [*words, "--log", tmp_path / "log", "--out", tmp_path / "out"]
    told = call(capsys, *words, *(word.format(other=other) for word in changes))
    assert told.code == 0
    (line,) = [line for line in told.err.splitlines() if "begins anew" in line]
    assert named in line.split(" other ")[1]
    assert contents(tmp_path / "log" / "tiny") == contents(folder / "log" / "tiny")
    assert (tmp_path / "log" / "tiny-2" / "summary.json").is_file()


def test_a_checkpoint_holds_no_pickles_and_all_random_numbers(tmp_path):
    state = random_state()
    torch.save(state, tmp_path / "s.pt")
    first = torch.rand(3)
    set_random_state(torch.load(tmp_path / "s.pt", weights_only=True))
    assert torch.equal(first, torch.rand(3))


def test_a_training_killed_in_any_way_goes_on(mnist, tmp_path):
    path = vae_recipe(mnist, tmp_path / "r.yaml", epochs=400)
    words = ["train", str(path), "--out", str(tmp_path / "out"), "--log", str(tmp_path / "log")]
    last, seen = tmp_path / "log" / "tiny" / LAST, 0.0
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        process = processes.start(words, tmp_path / "errors")
        deadline = time.monotonic() + 120
        while (not last.exists() or last.stat().st_mtime <= seen) and time.monotonic() < deadline:
            time.sleep(0.02)
        seen = time.time()
        os.kill(process.pid or 0, number)
        process.join(60)
        told = (tmp_path / "errors").read_text()
        assert process.exitcode == code, told
    assert "goes on after epoch" in told
    assert STOPPED in told
    assert torch.load(last, weights_only=True)["epoch"] >= 1
    assert not list(last.parent.glob(".*.partial"))
