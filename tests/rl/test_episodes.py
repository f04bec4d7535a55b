"""Episodes under attack, on environments whose returns are known exactly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nets import refuses
from torch import Tensor

from latentopt.rl.attack_episodes import attack_episodes

sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (the extra rl)")
gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium (the extra rl)")

from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402


class Lamp(gymnasium.Env):
    """Shows +-.5; to press the button that its sign names (+: 1) earns 1. An episode has ``length`` steps."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int) -> None:
        self.length, self.draws = length, np.random.default_rng(length)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.t = 0
        return self._show(), {}

    def step(self, action: int):
        self.t += 1
        earned = float(action == (self.shown > 0))
        return self._show(), earned, self.t == self.length, False, {}

    def _show(self) -> np.ndarray:
        self.shown = self.draws.choice([-0.5, 0.5])
        return np.array([self.shown], np.float32)


def lamps(*lengths: int) -> DummyVecEnv:
    return DummyVecEnv([lambda length=length: Lamp(length) for length in lengths])


def sign(x: Tensor) -> Tensor:
    """Logits of a policy that presses the right button."""
    return torch.cat([-x, x], 1)


def test_a_policy_fails_as_soon_as_the_ball_reaches_the_other_button() -> None:
    for eps, share in ((None, 1.0), (0.49, 1.0), (0.51, 0.0)):
        played = attack_episodes(sign, lamps(3, 7), 4, eps, steps=5)
        assert played.lengths.tolist() == [3, 3, 7, 7]
        assert played.returns.tolist() == [share * n for n in (3, 3, 7, 7)]
        assert played.changed.tolist() == [1 - share] * 4
        assert (played.forwards > 0) == (eps is not None)


def test_a_single_environment_is_played() -> None:
    assert attack_episodes(sign, Lamp(4), 2).returns.tolist() == [4.0, 4.0]


def test_episodes_are_shared_out_evenly_and_cut_at_the_horizon() -> None:
    assert attack_episodes(sign, lamps(2, 9, 4), 5).lengths.tolist() == [2, 2, 9, 9, 4]
    played = attack_episodes(sign, lamps(3, 9), 2, horizon=5)
    assert (played.lengths.tolist(), played.returns.tolist()) == ([3, 5], [3, 5])


@pytest.mark.slow
def test_drawn_actions_follow_the_logits_and_the_seed() -> None:
    def fair(x: Tensor) -> Tensor:
        return torch.tensor([0.0, np.log(3.0)]).expand(len(x), 2)  # the right button with probability 3/4

    shares = [attack_episodes(fair, lamps(4000), 1, sample=True, seed=seed).returns[0] / 4000 for seed in (0, 0, 1)]
    assert shares[0] == shares[1] != shares[2]
    assert abs(shares[0] - 0.5) < 4 * 0.5 / 4000**0.5


def test_what_is_seen_is_what_was_attacked() -> None:
    done = list[tuple[int, float]]()
    watch = {"record": True, "on_episode": lambda count, mean: done.append((count, mean))}
    played = attack_episodes(sign, lamps(3), 2, 0.1, loss="margin", steps=3, **watch)
    assert len(played.frames) == 3
    for shown, seen in played.frames:
        assert abs(abs(seen - shown)[0] - 0.1) < 1e-6  # no success: the farthest point towards the other button
        assert abs(seen[0]) < abs(shown[0])
    assert done == [(1, 3.0), (2, 3.0)]


def test_continuous_agents_act_within_their_bounds() -> None:
    model = sb3.TD3("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs={"net_arch": [8]})
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    clean = attack_episodes(model, env, 2)
    env.seed(0)
    mean = sb3.common.evaluation.evaluate_policy(model, env, 2, return_episode_rewards=True)[0]
    np.testing.assert_allclose(sorted(clean.returns), sorted(mean), rtol=1e-3)
    assert clean.lengths.tolist() == [200, 200]


@pytest.mark.parametrize(
    ("words", "env", "episodes", "eps", "options"),
    [
        (("episodes",), lamps(2), 0, None, {}),
        (("env", "a VecEnv"), gymnasium.vector.SyncVectorEnv([lambda: Lamp(2)]), 1, None, {}),
        (("env", "a VecEnv"), SimpleNamespace(num_envs=1, step_async=None), 1, None, {}),
        (("env", "a VecEnv"), "CartPole-v1", 1, None, {}),
        (("eps",), lamps(2), 1, -1.0, {}),
        (("sample",), lamps(2), 1, None, {"sample": True, "kind": "continuous"}),
    ],
)
def test_what_does_not_fit_is_refused(words, env, episodes, eps, options) -> None:
    with refuses(*words):
        attack_episodes(sign, env, episodes, eps, **options)
