"""A reconstruction job's starts, prior, noise, rounds and halving, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from files import call, lasting, own_images, stopped_in_its_second_batch, table
from nets import near
from safetensors.torch import load_file

import latentopt as lo
from latentopt import priors
from latentopt.cli import main
from latentopt.inverse.initializers import Nearest
from latentopt.zoo import cards


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[object]:
    """A job of three targets, one a batch."""
    path = tmp_path_factory.mktemp("targets") / "own.npy"
    np.save(path, own_images(3).numpy())
    named = ["reconstruct", "--model", "mnist-vae", "--targets", path, "--steps", 8, "--restarts", 3]
    return [*named, "--batch-size", 1, "--wandb", "disabled", "--device", "cpu"]


@pytest.fixture(scope="module")
def chosen(words) -> list[object]:
    choice = ["--start", "nearest", "--start.pool", 200, "--prior", "sphere", "--noise", "0.1", "--retries", 1]
    return [*words, *choice, "--tolerance", "1e-3", "--halving", "[[5,2]]"]


@pytest.fixture(scope="module")
def whole(chosen, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("job") / "whole"
    assert main([*map(str, chosen), "--out", str(out)]) == 0
    return out


def test_all_that_is_chosen_is_in_the_recipe_and_done(whole):
    recipe = yaml.safe_load((whole / "recipe.yaml").read_text())
    assert recipe["start"] == {"class_path": "latentopt.inverse.initializers.Nearest", "init_args": {"pool": 200}}
    assert recipe["prior"] == {"class_path": "latentopt.inverse.priors.SpherePrior"}
    assert (recipe["noise"], recipe["retries"], recipe["tolerance"], recipe["halving"]) == (0.1, 1, 1e-3, [[5, 2]])
    latents = load_file(whole / "latents.safetensors")["latents"]
    near(latents.norm(dim=1), torch.full((3,), 20**0.5), 1e-4)

    generator = cards.load_generator("mnist-vae")
    settings = {"steps": 8, "restarts": 3, "halving": [(5, 2)], "start": Nearest(200), "retries": 1, "tolerance": 1e-3}
    alone = [
        lo.reconstruct(generator, image[None], prior=priors.SpherePrior(), noise=0.1, patience=None, **settings)
        for image in own_images(3)
    ]
    near(latents, torch.cat([result.x for result in alone]), 1e-3)
    shares = [67, 67, 66]  # of the pool's 200 forwards, which one target alone bears whole
    rows = table(whole)
    assert [int(row["forwards"]) - share for row, share in zip(rows, shares, strict=True)] == [
        int(result.forwards) - 200 for result in alone
    ]
    assert [row["status"] for row in rows] == [result.status[0].name for result in alone]


def test_such_a_job_goes_on_where_it_was_stopped(whole, chosen, tmp_path, capsys, monkeypatch):
    words = [*chosen, "--out", tmp_path / "o"]
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words).code == 130
    assert len(list((tmp_path / "o" / "shards").glob("*.safetensors"))) == 1
    assert call(capsys, *words, "--noise", 0.2).code == 2
    assert call(capsys, *words).code == 0
    assert table(tmp_path / "o") == table(whole)
    for name in ("latents.safetensors", "grid.png"):
        assert lasting(tmp_path / "o" / name) == lasting(whole / name)


def test_its_recipe_gives_the_same_results_again(whole, tmp_path, capsys):
    assert call(capsys, "run", whole / "recipe.yaml", "--out", tmp_path / "again").code == 0
    assert table(tmp_path / "again") == table(whole)


@pytest.mark.parametrize(
    ("start", "prior"),
    [("random", "unconstrained"), ("nearest", "gaussian"), ("regression", "sphere"), ("encoder", "box")],
)
def test_every_short_name_is_taken(words, tmp_path, capsys, start, prior):
    choice = ["--start", start, "--prior", prior, "--steps", 2, "--limit", 1]
    assert call(capsys, *words, *choice, "--out", tmp_path / "o").code == 0
    recipe = yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())
    assert recipe["start"]["class_path"].lower() == f"latentopt.inverse.initializers.{start}"
    suffix = "" if prior == "unconstrained" else "prior"
    assert recipe["prior"]["class_path"].lower() == f"latentopt.inverse.priors.{prior}{suffix}"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--start", "nowhere"],
        ["--start", "nearest", "--start.pool", 0],
        ["--start", "random", "--start.scale", -1],
        ["--prior", "cone"],
        ["--prior", "box", "--prior.width", 0],
        ["--prior", "gaussian", "--prior.weight", -1],
        ["--noise", -1],
        ["--noise", "loud"],
        ["--retries", -1],
        ["--retries", 1.5, "--tolerance", 1],
        ["--rounds", 1.5, "--tolerance", 1],
        ["--tolerance", 0],
        ["--halving", "[[5,2],[3,1]]"],
        ["--halving", "[[5]]"],
        ["--halving", "[[0,2]]"],
        ["--halving", "5"],
        ["--start", "encoder", "--operator", "downsample", "--operator.factor", 4],
        ["--measured", "true", "--noise", 0.1],
    ],
    ids=lambda wrong: " ".join(map(str, wrong)),
)
def test_wrong_values_end_with_one_line_and_nothing_done(words, tmp_path, capsys, wrong):
    told = call(capsys, *words, *wrong, "--out", tmp_path / "o")
    assert (told.code, told.err.count("\n")) == (2, 1), told.err
    assert told.err.startswith("latentopt: error: ")
    assert not list(tmp_path.iterdir())
