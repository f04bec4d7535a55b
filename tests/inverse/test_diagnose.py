"""Whose fault it is: generators whose range is known, and searches that are too short."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from files import call, contents, own_images, write_png
from nets import mlp, near, rand, refuses
from PIL import Image
from torch import nn

import latentopt as lo
from latentopt import Diagnosis, Generator, priors
from latentopt.inverse.initializers import Random
from latentopt.operators import Downsample
from latentopt.statistics import wilson

QUICK = {"start": Random(), "restarts": 3, "steps": 40}


def generator() -> Generator:
    """Three latents to images (B, 1, 4, 4) in [0, 1]: far fewer than there are."""
    layers = nn.Sequential(mlp(3, 12, 16), nn.Unflatten(1, (1, 4, 4)))
    return Generator(layers, latent_shape=(3,), output_range=(-20.0, 20.0))


def test_targets_that_the_generator_cannot_make_are_its_fault():
    found = lo.diagnose(generator(), rand(5, 1, 4, 4), **QUICK)
    assert found.verdict == "generator"
    assert found.recovered >= 0.9
    assert found.interval == wilson(round(found.recovered * 16), 16)
    assert found.error is not None
    assert found.error.shape == (5,)
    assert found.error.min() > 1e-4
    assert found.own_error.shape == (16,)
    assert isinstance(found, Diagnosis)
    words = [f"{round(16 * found.recovered)} are found again", "Of 5 targets, 0 are fitted", "below 0.0001"]
    assert all(word in str(found) for word in [*words, "a longer search will hardly fit them"])
    assert "\n" not in str(found)


def test_a_search_of_one_step_is_the_optimisers_fault():
    for target in (rand(5, 1, 4, 4), None):
        found = lo.diagnose(generator(), target, optimizer=lo.GD(lr=1e-6), tolerance=1e-8, **{**QUICK, "steps": 1})
        assert found.verdict == "optimiser"
        assert found.recovered == 0
        assert "the optimiser is at fault" in str(found)


def test_own_images_as_targets_are_nobodys_fault():
    found = lo.diagnose(generator(), **QUICK)
    assert (found.verdict, found.error, found.found) == ("neither", None, None)
    assert "without targets" in str(found)
    target = generator()(generator().latents(6, 3)).detach()
    found = lo.diagnose(generator(), target, samples=10, **QUICK)
    assert (found.verdict, len(found.own_error)) == ("neither", 10)
    assert found.error is not None
    assert (found.error < 1e-4).sum() >= 3
    assert "Neither" in str(found)


def test_the_figures_are_those_of_reconstruct():
    target, made = rand(5, 1, 4, 4), generator()
    settings = {**QUICK, "operator": Downsample(2), "prior": priors.GaussianPrior(1e-6)}
    found = lo.diagnose(made, target, seed=4, tolerance=1e-5, **settings)
    assert found.error is not None
    near(found.error, lo.reconstruct(made, target, seed=4, tolerance=1e-5, **settings).value, 0)
    near(found.own_error, lo.reconstruct(made, found.images, seed=4, tolerance=1e-5, **settings).value, 0)
    again = lo.diagnose(made, Downsample(2)(target), seed=4, tolerance=1e-5, measured=True, **settings)
    near(again.error, found.error, 1e-12)  # pyright: ignore[reportArgumentType]
    assert not torch.equal(lo.diagnose(made, seed=5, **QUICK).images, found.images)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[("samples", {"samples": samples}) for samples in (0, 1.5)],
        *[("tolerance", {"tolerance": tolerance}) for tolerance in (0.0, float("nan"), None)],
        ("start", {"start": torch.zeros(2, 3)}),
        ("steps", {"steps": 0}),
    ],
)
def test_wrong_arguments_are_refused(name, settings):
    with refuses(name):
        lo.diagnose(generator(), rand(2, 1, 4, 4), **settings)
    with refuses("generator"):
        lo.diagnose(generator().given(label=torch.zeros(3)), rand(3, 1, 4, 4))


def words(folder, *more: object) -> list[object]:
    np.save(folder / "own.npy", own_images(3).numpy())
    named = ["diagnose", "--model", "mnist-vae", "--targets", folder / "own.npy", "--device", "cpu"]
    return [*named, "--samples", 4, "--restarts", 2, "--steps", 30, "--tolerance", "2e-3", *more]


def test_the_command_prints_the_verdict_and_writes_only_where_it_is_asked(tmp_path, capsys, monkeypatch):
    command, out = words(tmp_path, "--start", "encoder"), tmp_path / "a" / "b"
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    printed = call(capsys, *command)
    assert printed.code == 0
    assert printed.out.startswith("Of 4 images that the generator made itself, ")
    assert "Neither" in printed.out
    assert contents(tmp_path) == before
    assert call(capsys, *command, "--out", out).code == 0
    figures = json.loads((out / "diagnosis.json").read_text())
    assert figures["verdict"] == "neither"
    assert (len(figures["own_error"]), len(figures["error"])) == (4, 3)
    assert figures["recipe"]["start"]["class_path"] == "latentopt.inverse.initializers.Encoder"
    assert figures["recipe"]["operator"]["class_path"] == "latentopt.operators.Identity"
    with Image.open(out / "grid.png") as image:
        assert min(image.size[0] - 100, image.size[1]) >= 3 * 100
    again = call(capsys, *command, "--out", out)
    assert (again.code, again.err.count("\n"), "out" in again.err) == (2, 1, True)


def test_the_command_takes_images_of_another_kind_as_it_advises_or_none(tmp_path, capsys):
    write_png(tmp_path / "wide.png", np.zeros((28, 40, 3), np.uint8))
    write_png(tmp_path / "red.png", np.full((28, 28, 3), (200, 0, 0), np.uint8))
    command = ["diagnose", "--model", "mnist-vae", "--samples", 2, "--restarts", 1, "--steps", 2, "--device", "cpu"]
    for name, advice in (("wide", "--resize"), ("red", "--convert")):
        targets = ["--targets", tmp_path / f"{name}.png"]
        printed = call(capsys, *command, *targets)
        assert (printed.code, advice in printed.err) == (2, True)
        assert call(capsys, *command, *targets, advice).code == 0
    command += ["--start", "random", "--steps", 1, "--tolerance", "1e-6"]
    printed = call(capsys, *command, "--operator", "downsample", "--operator.factor", 4)  # without targets
    assert printed.code == 0
    assert "the optimiser is at fault" in printed.out


@pytest.mark.parametrize(
    "wrong",
    [
        ["--samples", 0],
        ["--tolerance", -1],
        ["--start", "nowhere"],
        ["--targets", "no/such.npy"],
        ["--device", "abacus"],
        ["--steps", 0],
        ["--limit", 0],
        ["--start", "encoder", "--operator", "downsample", "--operator.factor", 4],
    ],
    ids=lambda wrong: " ".join(map(str, wrong)),
)
def test_wrong_values_end_with_one_line(tmp_path, capsys, wrong):
    printed = call(capsys, *words(tmp_path, "--out", tmp_path / "o"), *wrong)
    assert (printed.code, printed.err.count("\n")) == (2, 1)
    assert not (tmp_path / "o").exists()
