from __future__ import annotations

import numpy as np
import pytest
from agents import PENDULUM, SMALL, write_agent
from nets import refuses

gymnasium = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")

from latentopt.rl.actor_critic import load_actor_critic, play_refined  # noqa: E402
from latentopt.rl.learning_curve import CurvePoint, final_return, mean_gain, mean_return  # noqa: E402
from latentopt.rl.refine import Refiner  # noqa: E402
from latentopt.rl.rollout import make_environment, play_seeds  # noqa: E402
from latentopt.rl.training import TrainingSettings, train_agent  # noqa: E402


@pytest.fixture
def agent(tmp_path):
    return write_agent(tmp_path / "pendulum.safetensors")


class Corridor(gymnasium.Env):
    """The reward is the action; an episode lasts as many steps as its seed says."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.left = seed or 0
        return np.array([self.left], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.left], np.float32), float(action[0]), self.left == 0, False, {}


def test_episodes_side_by_side_are_those_alone():
    seeds = [3, 1, 4]
    seen = []

    def act(observations, running):
        seen.append(running.tolist())
        return observations / 10

    found = play_seeds([Corridor() for _ in seeds], seeds, act)
    assert found.steps.tolist() == seeds
    assert found.returns == pytest.approx([sum(range(1, seed + 1)) / 10 for seed in seeds])
    assert seen == [[0, 1, 2], [0, 2], [0, 2], [2]]


def test_play_counts_the_gain_of_every_step(agent):
    environments = [make_environment(PENDULUM) for _ in range(2)]
    player = load_actor_critic(agent, environments[0])
    plain = play_refined(player, environments, [5, 6], None)
    assert plain.gains.tolist() == [0, 0]
    assert plain.seconds == 0
    alone = play_refined(player, environments[:1], [6], None)
    assert alone.returns[0] == pytest.approx(plain.returns[1], abs=1e-3)
    better = play_refined(player, environments, [5, 6], Refiner(player.critic, -1.0, 1.0, 0.25, "gd-critic", 3, "min"))
    assert better.steps.tolist() == [200, 200]
    assert (better.gains > 0).all()
    assert (better.returns != plain.returns).all()
    assert player.unscale(np.array([[-1.0], [0.0], [0.5]])).ravel().tolist() == [-2, 0, 1]


@pytest.mark.parametrize("kind", ["TD3", "DDPG", "SAC", "TQC"])
def test_models_of_stable_baselines3_play(kind, tmp_path):
    module = pytest.importorskip("sb3_contrib") if kind == "TQC" else sb3
    model = getattr(module, kind)("MlpPolicy", PENDULUM, policy_kwargs={"net_arch": [8, 8]}, seed=0, device="cpu")
    model.save(tmp_path / "agent.zip")
    player = load_actor_critic(tmp_path / "agent.zip", make_environment(PENDULUM))
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = model.predict(observations, deterministic=True)[0]
    assert player.unscale(player.actor(observations)) == pytest.approx(expected, abs=1e-5)
    found = Refiner(player.critic, -1.0, 1.0, 0.25, "adam-critic", 5, "min")(observations, player.actor(observations))
    assert (found.gain >= 0).all()
    with refuses(str(tmp_path / "agent.zip"), "MountainCarContinuous-v0"):
        load_actor_critic(tmp_path / "agent.zip", make_environment("MountainCarContinuous-v0"))


def test_files_that_hold_no_agent(tmp_path, agent):
    (tmp_path / "no.zip").write_bytes(b"no archive")
    with refuses(str(tmp_path / "no.zip")):
        load_actor_critic(tmp_path / "no.zip", make_environment(PENDULUM))
    sb3.PPO("MlpPolicy", PENDULUM, n_steps=8, batch_size=8, device="cpu").save(tmp_path / "ppo.zip")
    with refuses(str(tmp_path / "ppo.zip"), "TD3, DDPG, SAC, TQC or CrossQ"):
        load_actor_critic(tmp_path / "ppo.zip", make_environment(PENDULUM))
    with refuses("MountainCarContinuous-v0", "3 and 1"):
        load_actor_critic(agent, make_environment("MountainCarContinuous-v0"))


def test_figures_of_a_curve():
    figures = [(0, -9, np.nan), (1, 2, 0.5), (2, 4, 1.5)]
    points = [CurvePoint(step, mean, mean, mean, gain, 0.0) for step, mean, gain in figures]
    assert (final_return(points), final_return(points, 0.7), mean_return(points), mean_gain(points)) == (4, 3, 3, 1)
    assert np.isnan(mean_gain(points[:1]))


def test_a_training_is_reproducible_and_evaluates_the_actor_alone():
    training = TrainingSettings(PENDULUM, steps=45, **SMALL)
    (model, one), (_, two) = train_agent(training, 3), train_agent(training, 3)
    assert [point.step for point in one] == [0, 30, 45]
    assert [point.mean for point in one] == [point.mean for point in two]
    assert all(point.low <= point.mean <= point.high for point in one)
    assert model.num_timesteps == 45


def test_what_is_said_without_the_extra(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.delitem(sys.modules, "latentopt.rl.algorithms")
    with pytest.raises(ImportError, match=r"stable_baselines3.*pip install 'latentopt\[rl\]'"):
        importlib.import_module("latentopt.rl.algorithms")
