from __future__ import annotations

import numpy as np
import pytest
from agents import PENDULUM, SMALL, write_agent
from files import ROOT, call, contents, table
from nets import refuses
from torch import nn

gymnasium = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")

from latentopt.cli.options import parse_job  # noqa: E402
from latentopt.cli.registry import JOBS  # noqa: E402
from latentopt.cli.shipped import read_recipe  # noqa: E402
from latentopt.errors import InputError  # noqa: E402
from latentopt.jobs import train_rl as module  # noqa: E402
from latentopt.jobs.records import read_metrics  # noqa: E402
from latentopt.jobs.refine import refine  # noqa: E402
from latentopt.jobs.train_rl import TrainRLSettings, train_rl  # noqa: E402
from latentopt.rl.refine import RefinementSettings  # noqa: E402

JOB = {**SMALL, "env": PENDULUM, "steps": 60, "seeds": 2, "wandb": "disabled"}


@pytest.fixture
def agent(tmp_path):
    return write_agent(tmp_path / "pendulum.safetensors")


def test_a_stopped_training_goes_on_and_never_overwrites(tmp_path, monkeypatch):
    out, train_agent = tmp_path / "out", module._train_agent

    def stopped(training, index, *rest):
        if index == 1:
            raise KeyboardInterrupt
        return train_agent(training, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_train_agent", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_rl(**JOB, optimizer="gd-critic", out=str(out))
    first = (out / "agents" / "seed-0.zip").stat().st_mtime_ns
    report = train_rl(**JOB, optimizer="gd-critic", out=str(out))
    assert (out / "agents" / "seed-0.zip").stat().st_mtime_ns == first
    assert [row["seed"] for row in report.rows] == [0, 1]
    assert all(row["gain"] > 0 for row in report.rows)
    assert {"results.csv", "metrics.jsonl", "recipe.yaml", "curve.safetensors", "curves.png"} <= set(contents(out))
    lines = read_metrics(out)
    assert len(lines) == 6
    assert train_rl(**JOB, optimizer="gd-critic", out=str(out)).rows == report.rows
    assert read_metrics(out) == lines
    with refuses("out", "other"):
        train_rl(**JOB, optimizer="adam-critic", out=str(out))
    train_rl(**JOB, optimizer="gd-critic", out=str(tmp_path / "whole"))
    assert table(tmp_path / "whole") == table(out)


def test_refine_on_the_command_line(capsys, tmp_path, agent):
    words = ["refine", "--agent", agent, "--env", PENDULUM, "--episodes", "2", "--refine-steps", "2"]
    words += ["--optimizer", "gd-critic"]
    words += ["--out", tmp_path / "out", "--wandb", "disabled", "--gif", "false"]
    said = call(capsys, *words)
    assert said.code == 0
    assert "return " in said.out
    assert {"results.csv", "metrics.jsonl", "recipe.yaml"} <= set(contents(tmp_path / "out"))
    again = call(capsys, *words)
    assert again.out.splitlines()[:3] == said.out.splitlines()[:3]
    other = call(capsys, *words, "--radius", "1")
    assert (other.code, "other radius" in other.err) == (2, True)
    wrong = call(capsys, "refine", "--agent", agent, "--env", "CartPole-v1", "--out", tmp_path / "new")
    assert (wrong.code, wrong.out) == (2, "")
    assert not (tmp_path / "new").exists()


def test_a_smooth_critic_has_no_gates_to_drive(tmp_path):
    model = sb3.TD3("MlpPolicy", PENDULUM, policy_kwargs={"net_arch": [8], "activation_fn": nn.Tanh}, device="cpu")
    model.save(tmp_path / "smooth.zip")
    settings = {"optimizer": "adr-gd-paper-critic", "out": str(tmp_path / "out"), "wandb": "disabled"}
    with pytest.raises(InputError, match=r"ReLU|gates|piecewise"):
        refine(str(tmp_path / "smooth.zip"), PENDULUM, **settings)
    assert not (tmp_path / "out").exists()


def test_the_film_of_an_episode(tmp_path, agent):
    pytest.importorskip("pygame")
    from PIL import Image

    report = refine(str(agent), PENDULUM, episodes=1, refine_steps=1, out=str(tmp_path / "out"), wandb="disabled")
    assert np.isnan(report.error)
    with Image.open(tmp_path / "out" / "episode.gif") as film:
        assert film.size == (500, 250)
        assert 60 <= film.n_frames <= 120  # pyright: ignore[reportAttributeAccessIssue]


def train_rl_recipes() -> list[str]:
    return [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml")) if "\njob: train-rl\n" in path.read_text()]


@pytest.mark.parametrize("name", train_rl_recipes())
def test_recipes_of_training(name):
    settings = parse_job(JOBS["train-rl"], [], read_recipe(name)).settings
    assert isinstance(settings, TrainRLSettings)
    assert settings.out == f"runs/{name}"
    assert settings.algorithm in name
    if name.startswith("pendulum"):
        assert (settings.steps, settings.seeds) == (20_000, 5)
    else:
        names = ("epsilon", "optimizer", "refine_steps", "radius", "critic")
        assert RefinementSettings(*(getattr(settings, name) for name in names)) == RefinementSettings.paper()


def test_a_recipe_is_trained(capsys, tmp_path):
    words = ["--steps", "30", "--seeds", "1", "--hidden", "[4,4]", "--every", "30", "--episodes", "1"]
    out = tmp_path / "out"
    said = call(capsys, "train-rl", "pendulum-ddpg-adr-gd", *words, "--out", out, "--wandb", "disabled")
    assert (said.code, "1 agent" in said.out) == (0, True)
    said = call(capsys, "train-rl", "digits")
    assert (said.code, "train-rl" in said.err) == (2, True)
