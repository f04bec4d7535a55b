"""Jobs that go beyond the latents: layers, nuisances, tuned weights."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
import yaml
from files import call, contents, own_images, table
from nets import near, refuses
from safetensors.torch import load_file, save_file

import latentopt as lo
from latentopt import TuneResult
from latentopt.jobs import tuner
from latentopt.jobs.reconstruct import reconstruct
from latentopt.jobs.tune import tune
from latentopt.zoo.cards import load_generator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("targets") / "own.npy"
    np.save(path, own_images(5).roll(2, -1).numpy())
    return str(path)


def found(targets: str, out: Path, **changes):
    settings = {"start": "random", "steps": 6, "restarts": 1, "batch_size": 3, "optimizer": "adam", **changes}
    return reconstruct("mnist-vae", [targets], out=str(out), wandb="disabled", device="cpu", **settings)


def test_a_job_in_layers_is_the_function_and_its_files_make_its_images(targets, tmp_path):
    layers = {"layers.2": 0.1, "layers.4": 0.1}
    found(targets, tmp_path / "job", layers=layers, save_images=True)
    settings = {"start": "random", "steps": 6, "restarts": 1, "halving": (), "optimizer": "adam"}
    expected = lo.reconstruct(load_generator("mnist-vae"), targets, layers=layers, **settings)
    rows = table(tmp_path / "job")
    near(torch.tensor([float(row["loss"]) for row in rows]), expected.value, 1e-6)
    assert [int(row["forwards"]) for row in rows] == expected.forwards.tolist()
    after = lo.split(load_generator("mnist-vae"), "layers.4")[1]
    activations = load_file(tmp_path / "job" / "activations.safetensors")["activations"]
    images = torch.from_numpy(np.load(tmp_path / "job" / "images.npy"))
    near(after(activations), images, 1e-5)
    near(expected.output, images, 1e-4)


def test_a_job_finds_nuisances(targets, tmp_path):
    report = found(targets, tmp_path / "job", nuisances={"translate": 4})
    posed = lo.with_nuisances(load_generator("mnist-vae"), translate=4)
    expected = lo.reconstruct(posed, targets, start="random", steps=6, restarts=1, optimizer="adam")
    near(torch.tensor([row["loss"] for row in report.rows]), expected.value, 1e-6)
    near(load_file(tmp_path / "job" / "latents.safetensors")["latents"], expected.x, 1e-3)


def test_the_recipe_of_an_unknown_blur_finds_widths(targets, tmp_path):
    """After Adam's few steps the width is that of the function, and the true one is the operator's own draw."""
    recipe = yaml.safe_load((ROOT / "recipes" / "blind-deblur.yaml").read_text())
    operator = lo.operators.BlindBlur(**recipe["operator"]["init_args"])
    assert recipe["operator"]["class_path"] == "latentopt.operators.BlindBlur"
    report = found(targets, tmp_path / "job", operator=operator)
    settings = {"start": "random", "steps": 6, "restarts": 1, "optimizer": "adam"}
    expected = lo.reconstruct(load_generator("mnist-vae"), targets, operator=operator, **settings)
    near(torch.tensor([row["sigma"] for row in report.rows]), expected.unknowns["sigma"], 1e-4)
    drawn = operator.draw(torch.from_numpy(np.load(targets)))["sigma"]
    near(torch.tensor([row["true_sigma"] for row in report.rows]), drawn, 1e-6)


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("latents") / "latents.safetensors"
    save_file({"latents": load_generator("mnist-vae").latents(5, seed=7)}, path)
    return str(path)


def test_a_tuning_job_is_the_function(targets, latents, tmp_path):
    def run():
        return tune("mnist-vae", [targets], latents, steps=3, out=str(tmp_path / "job"), wandb="disabled", device="cpu")

    report = run()
    z = load_file(latents)["latents"]
    expected = lo.tune(load_generator("mnist-vae"), z, targets, steps=3)
    result = TuneResult.load(tmp_path / "job" / "delta.safetensors")
    assert torch.equal(result.output, expected.output)
    assert [float(row["value"]) for row in table(tmp_path / "job")] == pytest.approx(expected.value.tolist())
    assert {"delta.safetensors", "grid.png", "plot.png", "table.md"} <= {path.name for path in report.files}
    before = contents(tmp_path / "job")
    run()
    assert contents(tmp_path / "job") == before


def test_a_tuning_job_that_was_stopped_goes_on(targets, latents, tmp_path, monkeypatch):
    settings = {"latents": latents, "steps": 60, "parameters": ["layers.5.bias"], "device": "cpu", "wandb": "disabled"}
    real = tuner.tune

    def interrupted(*args, **more):
        def stop(progress):
            if progress.t == 55:
                raise KeyboardInterrupt

        return real(*args, **more, callbacks=stop)

    monkeypatch.setattr(tuner, "tune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune("mnist-vae", [targets], out=str(tmp_path / "job"), **settings)
    assert (tmp_path / "job" / "checkpoint.safetensors").exists()
    steps = []
    monkeypatch.setattr(tuner, "tune", lambda *a, **more: real(*a, **more, callbacks=lambda p: steps.append(p.t)))
    tune("mnist-vae", [targets], out=str(tmp_path / "job"), **settings)
    assert steps[-10:] == list(range(51, 61))
    tune("mnist-vae", [targets], out=str(tmp_path / "whole"), **settings)
    one, other = (TuneResult.load(tmp_path / name / "delta.safetensors") for name in ("job", "whole"))
    assert torch.equal(one.delta["layers.5.bias"], other.delta["layers.5.bias"])
    assert not (tmp_path / "job" / "checkpoint.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layers", "nuisances", "tune"])
def test_a_killed_job_ends_as_one_that_was_not(kind, targets, latents, tmp_path, capsys):
    words = ["--model", "mnist-vae", "--targets", targets, "--wandb", "disabled", "--device", "cpu"]
    if kind == "tune":
        words = ["tune", *words, "--latents", latents, "--steps", "400", "--parameters", "layers.5.bias"]
    else:
        words = ["reconstruct", *words, "--start", "random", "--restarts", "1", "--batch-size", "1", "--steps", "60"]
        words += ["--layers", "{layers.2: 0.1, layers.4: 0.1}"] if kind == "layers" else ["--nuisances.translate", "4"]
    out, parts = tmp_path / "killed", "checkpoint.safetensors" if kind == "tune" else "shards/*.safetensors"
    process = processes.start([*words, "--out", str(out)], tmp_path / "errors")
    deadline = time.monotonic() + 120
    while not list(out.glob(parts)) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "errors").read_text()
    assert list(out.glob(parts))
    assert not (out / "results.csv").exists()
    for name in ("killed", "whole"):
        assert call(capsys, *words, "--out", str(tmp_path / name)).code == 0
    assert table(out) == table(tmp_path / "whole")
    files = {"layers": ["latents", "activations"], "nuisances": ["latents"], "tune": ["delta"]}[kind]
    for name in files:
        one, other = (load_file(tmp_path / which / f"{name}.safetensors") for which in ("killed", "whole"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "name", ["layers", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nuisances", "tune"))]
)
def test_the_recipes_run(name, targets, latents, tmp_path, capsys):
    recipe = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())
    words = ["run", name, "--targets", targets, "--steps", "2", "--wandb", "disabled", "--out", str(tmp_path / "job")]
    words += ["--latents", latents] if recipe["job"] == "tune" else ["--restarts", "1", "--start", "random"]
    assert call(capsys, *words).code == 0
    assert (tmp_path / "job" / "results.csv").exists()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("layers", {"layers": {"layers.12": 0.1}}),
        ("layers: radius of layers.2", {"layers": {"layers.2": -1.0}}),
        ("norm", {"norm": "linf"}),
        ("turn", {"nuisances": {"turn": 3}}),
        ("angle", {"nuisances": {"angle": 0}}),
    ],
)
def test_wrong_settings_of_a_reconstruction_write_nothing(name, changes, targets, tmp_path):
    with refuses(name):
        found(targets, tmp_path / "job", **changes)
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("parameters", {"parameters": ["layers.7"]}),
        ("latents", {"limit": 3, "latents": "two"}),
        ("latents", {"latents": "nowhere"}),
        ("anchors", {"anchors": -1}),
    ],
)
def test_wrong_settings_of_a_tuning_write_nothing(name, changes, targets, latents, tmp_path):
    np.save(tmp_path / "two.npy", np.zeros((2, 20), np.float32))
    if changes.get("latents") == "two":
        changes = {**changes, "latents": str(tmp_path / "two.npy")}
    with refuses(name):
        tune("mnist-vae", [targets], out=str(tmp_path / "job"), wandb="disabled", **{"latents": latents, **changes})
    assert not (tmp_path / "job").exists()
