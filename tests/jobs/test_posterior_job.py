"""The reconstruction job with posteriors of its targets."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from files import contents, own_images, table
from nets import near, refuses
from safetensors.torch import load_file

import latentopt as lo
from latentopt.jobs import reconstructor
from latentopt.jobs.reconstruct import reconstruct
from latentopt.zoo.cards import load_generator

SETTINGS = {"start": "random", "steps": 6, "restarts": 2, "halving": (), "seed": 3}
LOSS = {"class_path": "latentopt.objectives.GaussianNoise", "init_args": {"sigma": 0.5}}


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("targets") / "own.npy"
    np.save(path, own_images(2).numpy())
    return str(path)


@pytest.fixture
def short(monkeypatch) -> None:
    """Few samples."""
    draw = reconstructor.posterior
    monkeypatch.setattr(reconstructor, "posterior", lambda *args, **kwargs: draw(*args, samples=12, **kwargs))


def run(targets: str, out: Path, **changes):
    settings = {**SETTINGS, "loss": LOSS, "posterior": True, "posterior_steps": 16, **changes}
    return reconstruct("mnist-vae", [targets], out=str(out), wandb="disabled", device="cpu", **settings)


@pytest.mark.usefixtures("short")
def test_a_job_writes_the_samples_of_the_function(targets, tmp_path):
    report = run(targets, tmp_path)
    generator = load_generator("mnist-vae").fused()
    loss = lo.objectives.GaussianNoise(0.5)
    found = lo.reconstruct(generator, targets, loss=loss, optimizer=lo.LBFGS(memory=64), **SETTINGS)
    expected = lo.posterior(lo.Reconstruction(generator, targets, loss=loss), found, steps=16, samples=12, seed=3)
    samples = load_file(tmp_path / "samples.safetensors")["samples"]
    near(samples, expected.samples.transpose(0, 1), 1e-3)
    near(load_file(tmp_path / "image_std.safetensors")["image_std"], expected.image_std, 1e-3)
    rows = table(tmp_path)
    assert [int(row["forwards"]) for row in rows] == (found.forwards + expected.forwards).tolist()
    assert [int(row["modes"]) for row in rows] == expected.modes.sample.bincount().tolist()
    near(torch.tensor([float(row["r_hat"]) for row in rows]), expected.r_hat.float(), 1e-2)
    assert {"samples.safetensors", "std.safetensors", "grid.png", "report.html"} <= {path.name for path in report.files}
    before = contents(tmp_path)
    run(targets, tmp_path)  # all is done
    assert contents(tmp_path) == before


def test_a_job_checks_the_intervals_of_its_posterior(targets, tmp_path):
    report = run(targets, tmp_path, posterior_steps=16, calibration=3)
    loss = lo.objectives.GaussianNoise(0.5)
    expected = lo.calibrate(load_generator("mnist-vae").fused(), loss, samples=3, steps=16, seed=3)
    rows = list(csv.DictReader((tmp_path / "calibration.csv").read_text().splitlines()))
    near(torch.tensor([float(row["latents"]) for row in rows]), expected.latents.mean(1).float(), 1e-6)
    near(torch.tensor([float(row["pixels"]) for row in rows]), expected.pixels.mean(1).float(), 1e-2)
    assert tmp_path / "calibration.csv" in report.files
    assert "<h2>Calibration</h2>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_loss_that_is_no_noise_model_is_refused_before_anything_is_written(targets, tmp_path):
    with refuses("loss", "GaussianNoise"):
        run(targets, tmp_path / "job", loss="mse")
    with refuses("calibration", "--posterior true"):
        run(targets, tmp_path / "job", posterior=False, calibration=4)
    masks = np.ones((2, 1, 28, 28))
    masks[1, :, :14] = 0
    np.save(tmp_path / "masks.npy", masks)
    halves = {"class_path": "mask", "init_args": {"mask": str(tmp_path / "masks.npy")}}
    with refuses("calibration", "operators or conditions of their own"):
        run(targets, tmp_path / "job", operator=halves, calibration=4)
    with refuses("posterior_steps", "16"):
        run(targets, tmp_path / "job", posterior_steps=4)
    assert not (tmp_path / "job").exists() or not any((tmp_path / "job").iterdir())
