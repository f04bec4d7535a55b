"""Procgen's games: levels are the same every time, and a policy can be trained and shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import refuses

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (the extra rl)")

from benchmarks.__main__ import main as run_study
from latentopt.cli import main
from latentopt.jobs.train_policy import TrainPolicySettings
from latentopt.networks.classifier import Classifier
from latentopt.rl.game_policies import game_of
from latentopt.rl.procgen import ACTIONS, GAMES, Game, Procgen, installed
from latentopt.zoo import cards

needs_procgen = pytest.mark.skipif(not installed(), reason="needs Procgen (requirements-procgen.txt)")


def trace(game: Game, steps: int, **settings) -> tuple[np.ndarray, np.ndarray]:
    env = Procgen(game, fixed=(2_000_000, 2_000_007), **settings)
    draws = np.random.default_rng(0)
    seen, rewards = [np.asarray(env.reset())], []
    for _ in range(steps):
        observations, reward, _, infos = env.step(draws.integers(0, len(ACTIONS[game]), 2))
        assert [info["level_seed"] for info in infos] == [2_000_000, 2_000_007]
        seen.append(np.asarray(observations))
        rewards.append(reward)
    env.close()
    return np.array(seen), np.array(rewards)


@needs_procgen
@pytest.mark.parametrize("game", GAMES)
def test_a_level_is_the_same_every_time_whatever_the_seed(game: Game) -> None:
    first, again = trace(game, 60, seed=0), trace(game, 60, seed=1)
    assert first[0].shape == (61, 2, 64, 64, 3)
    assert first[0].dtype == np.uint8
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()


@needs_procgen
def test_a_reset_begins_the_level_again() -> None:
    env = Procgen("coinrun", fixed=(5, 6))
    first = env.reset()
    right = np.full(2, list(ACTIONS["coinrun"]).index("right"))
    moved = [env.step(right)[0] for _ in range(20)]
    assert not np.array_equal(np.asarray(moved[-1]), np.asarray(first))
    assert np.array_equal(np.asarray(env.reset()), np.asarray(first))
    env.close()


@needs_procgen
def test_an_action_is_repeated_and_its_rewards_add_up() -> None:
    right = list(ACTIONS["coinrun"]).index("right")
    once, thrice = (Procgen("coinrun", fixed=(5, 6), repeat=repeat) for repeat in (1, 3))
    once.reset()
    thrice.reset()
    for _ in range(5):
        single = [once.step(np.full(2, right))[:2] for _ in range(3)]
        together = thrice.step(np.full(2, right))[:2]
        assert np.array_equal(np.asarray(together[0]), np.asarray(single[-1][0]))
        assert np.array_equal(together[1], sum(reward for _, reward in single))


@needs_procgen
def test_levels_come_from_their_range() -> None:
    env, draws = Procgen("fruitbot", 4, levels=(7, 2)), np.random.default_rng(0)
    env.reset()
    seen = {info["level_seed"] for _ in range(200) for info in env.step(draws.integers(0, 4, 4))[3]}
    assert seen == {7, 8}
    env.close()


@needs_procgen
def test_what_does_not_fit_is_refused() -> None:
    cases: dict[str, dict[str, Any]] = {"levels": {"levels": (0, 0)}, "fixed": {"fixed": ()}, "repeat": {"repeat": 0}}
    for name, settings in {"game": {"game": "chess"}, **cases}.items():
        with refuses(name):
            Procgen(**{"game": "coinrun", **settings})


@needs_procgen
@pytest.mark.slow
def test_a_policy_is_trained_shipped_and_attacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "train-coinrun-cnn", "--steps", "4096", "--envs", "8", "--rollout", "128", "--epochs", "1"]
    words += ["--out", str(tmp_path), "--log", str(tmp_path / "log"), "--wandb", "disabled", "--episodes", "2"]
    assert main(words) == 0
    folder = tmp_path / "coinrun-cnn"
    policy = cards.load(folder)
    assert isinstance(policy, Classifier)
    assert policy(torch.rand(2, 3, 64, 64)).shape == (2, len(ACTIONS["coinrun"]))
    assert game_of(folder) == ("coinrun", {"mode": "easy", "backgrounds": False, "repeat": 2})
    assert (tmp_path / "log" / "coinrun-cnn" / "metrics.jsonl").is_file()
    assert main(words) == 2  # it is there already
    out = tmp_path / "attacked"
    words = ["attack-policy", "--model", str(folder), "--eps", "0.02", "--episodes", "1", "--steps", "1"]
    assert main([*words, "--out", str(out), "--wandb", "disabled"]) == 0
    assert {path.name for path in out.iterdir()} >= {"results.csv", "metrics.jsonl", "returns.png", "episode.gif"}


@needs_procgen
@pytest.mark.slow
def test_a_training_that_is_stopped_gives_what_the_whole_one_had_by_then(tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    from latentopt.jobs.ppo import policy_network, train_ppo

    settings = TrainPolicySettings("tiny", "a test", "coinrun", 4096, envs=8, rollout=32, batch_size=64, epochs=1)
    stopped = train_ppo(replace(settings, stop=2560))
    train_ppo(settings, checkpoints=tmp_path)
    passed = policy_network(PPO.load(tmp_path / "rl_model_2560_steps.zip", device="cpu"))
    for name, weights in stopped.state_dict().items():
        assert torch.equal(weights, passed.state_dict()[name])


@needs_procgen
@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_study(["attack-policy", "--quick", "--games", "fruitbot", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "## fruitbot, eps 3/255: states" in said
    assert "actions at random" in said
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "results.csv", "plot.png", "environment.json"}


@pytest.mark.skipif(installed(), reason="is about what is said without Procgen")
def test_without_procgen_one_line_says_how_to_install_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_study(["attack-policy", "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install --no-deps procgen-mirror" in said
    assert not (tmp_path / "o").exists()
