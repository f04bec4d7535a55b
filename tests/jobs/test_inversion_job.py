"""A reconstruction job's starts, prior, noise, rounds and halving, from the command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from files import call, contents, lasting, own_images, stopped_in_its_second_batch, table
from nets import near
from safetensors.torch import load_file

import latentopt as lo
from latentopt import priors
from latentopt.inverse.initializers import Nearest
from latentopt.zoo import cards

CHOSEN = ["--start", "nearest", "--prior", "sphere", "--noise", "0.1", "--rounds", 2, "--tolerance", "1e-3"]
CHOSEN += ["--halving", "[[5,2]]"]


def words(folder, out: str) -> list[object]:
    path = folder / "own.npy"
    if not path.exists():
        np.save(path, own_images(3).numpy())
    named = ["reconstruct", "--model", "mnist-vae", "--targets", path, "--out", folder / out, "--start.pool", 200]
    return [*named, "--steps", 8, "--restarts", 3, "--batch-size", 1, "--wandb", "disabled", "--device", "cpu"]


def chosen(folder, out: str) -> list[object]:
    return [*words(folder, out)[:-12], *CHOSEN, *words(folder, out)[-12:]]


def test_all_that_is_chosen_is_in_the_recipe_and_done(tmp_path, capsys):
    assert call(capsys, *chosen(tmp_path, "o")).code == 0
    recipe = yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())
    assert recipe["start"] == {"class_path": "latentopt.inverse.initializers.Nearest", "init_args": {"pool": 200}}
    assert recipe["prior"] == {"class_path": "latentopt.inverse.priors.SpherePrior"}
    assert (recipe["noise"], recipe["rounds"], recipe["tolerance"], recipe["halving"]) == (0.1, 2, 1e-3, [[5, 2]])
    latents = load_file(tmp_path / "o" / "latents.safetensors")["latents"]
    near(latents.norm(dim=1), torch.full((3,), 20**0.5), 1e-4)

    generator = cards.load_generator("mnist-vae")
    settings = {"steps": 8, "restarts": 3, "halving": [(5, 2)], "start": Nearest(200), "retries": 1, "tolerance": 1e-3}
    each = [
        lo.reconstruct(generator, image[None], prior=priors.SpherePrior(), noise=0.1, patience=None, **settings)
        for image in own_images(3)
    ]
    near(latents, torch.cat([result.x for result in each]), 1e-3)
    ours = [int(row["forwards"]) for row in table(tmp_path / "o")]
    bears = [67, 67, 66]  # of the pool's 200 forwards, which one target alone bears whole
    assert ours == [int(result.forwards) - 200 + its for result, its in zip(each, bears, strict=True)]
    assert [row["status"] for row in table(tmp_path / "o")] == [result.status[0].name for result in each]


def test_such_a_job_goes_on_where_it_was_stopped(tmp_path, capsys, monkeypatch):
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *chosen(tmp_path, "stopped")).code == 130
    assert len(list((tmp_path / "stopped" / "shards").glob("*.safetensors"))) == 1
    assert call(capsys, *chosen(tmp_path, "stopped"), "--noise", 0.2).code == 2
    assert call(capsys, *chosen(tmp_path, "stopped")).code == 0
    assert call(capsys, *chosen(tmp_path, "whole")).code == 0
    assert table(tmp_path / "stopped") == table(tmp_path / "whole")
    for name in ("latents.safetensors", "grid.png"):
        assert lasting(tmp_path / "stopped" / name) == lasting(tmp_path / "whole" / name)


def test_its_recipe_gives_the_same_results_again(tmp_path, capsys):
    assert call(capsys, *chosen(tmp_path, "o")).code == 0
    assert call(capsys, "run", tmp_path / "o" / "recipe.yaml", "--out", tmp_path / "again").code == 0
    assert table(tmp_path / "again") == table(tmp_path / "o")


@pytest.mark.parametrize("start", ["random", "nearest", "regression", "encoder"])
@pytest.mark.parametrize("prior", ["unconstrained", "gaussian", "sphere", "box"])
def test_every_short_name_is_taken(tmp_path, capsys, start, prior):
    if start != "random" and prior != "box":
        return
    without = [word for word in words(tmp_path, "o") if word not in ("--start.pool", 200)]
    assert call(capsys, *without, "--start", start, "--prior", prior, "--steps", 2).code == 0
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
        ["--rounds", 0],
        ["--rounds", 2.5, "--tolerance", 1],
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
def test_wrong_values_end_with_one_line_and_nothing_done(tmp_path, capsys, wrong):
    command = [word for word in words(tmp_path, "o") if word not in ("--start.pool", 200)]
    before = contents(tmp_path)
    said = call(capsys, *command, *wrong)
    assert said.code == 2
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert said.err.startswith("latentopt: error: ")
    assert contents(tmp_path) == before
