from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import near, refuses

from latentopt.errors import InputError
from latentopt.rl.refine import refine_action

gymnasium = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.noise import NormalActionNoise  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

from latentopt.rl.algorithms import RefinedDDPG, RefinedTD3  # noqa: E402
from latentopt.rl.refine import RefinementSettings  # noqa: E402
from latentopt.rl.refined_policy import RefinedPolicy  # noqa: E402

TINY = {"policy_kwargs": {"net_arch": [8, 8]}, "batch_size": 16, "learning_starts": 20, "seed": 0, "device": "cpu"}
PAIRS = [(RefinedTD3, sb3.TD3), (RefinedDDPG, sb3.DDPG)]


def noise() -> NormalActionNoise:
    return NormalActionNoise(np.zeros(1), np.full(1, 0.1))


def check_same(one, other) -> None:
    """Two models have the same weights."""
    theirs = other.policy.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in one.policy.state_dict().items())


def refined(kind=RefinedTD3, env="Pendulum-v1", **settings):
    return kind("MlpPolicy", env, refinement=RefinementSettings(**settings), action_noise=noise(), **TINY)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_with_epsilon_0_it_is_the_plain_algorithm_step_for_step(ours, theirs):
    a = refined(ours, epsilon=0.0).learn(60)
    b = theirs("MlpPolicy", "Pendulum-v1", action_noise=noise(), **TINY).learn(60)
    check_same(a, b)
    for name in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(a.replay_buffer, name)[:60], getattr(b.replay_buffer, name)[:60])


@pytest.mark.parametrize("ours", [RefinedTD3, RefinedDDPG])
@pytest.mark.parametrize("envs", [1, 3])
def test_an_exploitation_step_is_the_refined_action_of_the_present_critic(ours, envs):
    env = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")] * envs)
    model = ours(
        "MlpPolicy", env, refinement=RefinementSettings(epsilon=1.0, optimizer="adam-critic", steps=20), **TINY
    )
    model.learn(20 * envs)
    for _ in range(2):
        observations = np.random.default_rng(0).normal(size=(envs, 3)).astype(np.float32)
        model._last_obs = observations
        actions, scaled = model._sample_action(0, None, envs)
        plain = model.predict(observations, deterministic=True)[0]
        found = refine_action(model, observations, plain, radius=0.25, optimizer="adam-critic", steps=20, critic="min")
        near(torch.from_numpy(actions), found.action, 1e-5)
        near(torch.from_numpy(scaled * 2), found.action, 1e-5)
        q = torch.stack(model.critic(torch.from_numpy(observations), torch.from_numpy(scaled))).min(0).values[:, 0]
        assert (q >= found.before - 1e-5).all()
        model.learn(30 * envs, reset_num_timesteps=False)  # its weights change in place


def test_only_some_steps_are_refined_and_the_gain_is_logged():
    model = refined(epsilon=0.5)
    model.learn(190)  # the first episode ends, and the figures go, at 200
    assert 50 <= model.logger.name_to_count["refine/gain"] <= 120  # 170 draws of probability 1/2: 5 standard deviations
    assert model.logger.name_to_value["refine/gain"] >= 0


@pytest.mark.parametrize("ours", [RefinedTD3, RefinedDDPG])
def test_saved_and_loaded_it_goes_on_as_it_would_have(ours, tmp_path):
    model = refined(ours, epsilon=0.5, radius=0.5, steps=3)
    model.learn(40)
    model.save(tmp_path / "agent.zip")
    again = ours.load(tmp_path / "agent.zip", env=gymnasium.make("Pendulum-v1"), device="cpu")
    assert again.refinement == model.refinement
    check_same(again, model)
    assert again.refine_rng.random() == model.refine_rng.random()
    again.learn(30, reset_num_timesteps=False)
    other = ours.load(tmp_path / "agent.zip", device="cpu", refinement=RefinementSettings(epsilon=0.0))
    assert other.refinement.epsilon == 0
    assert other.predict(np.zeros(3, np.float32))[0].shape == (1,)


def test_the_papers_preset():
    paper = RefinementSettings.paper()
    assert (paper.steps, paper.radius, paper.critic, paper.optimizer) == (100, 1.0, "first", "adr-gd-paper-critic")
    model = refined(epsilon=1.0, optimizer="adr-gd-paper-critic", steps=2, radius=1.0, critic="first")
    model.learn(25)
    assert model.num_timesteps == 25


def test_what_does_not_fit_is_refused():
    wrong = [("epsilon", 1.5), ("epsilon", float("nan")), ("radius", 0.0), ("steps", 0), ("optimizer", "gda")]
    for name, value in [*wrong, ("critic", "max")]:
        with refuses(name):
            refined(**{name: value})
    with refuses("refinement"):
        RefinedTD3("MlpPolicy", "Pendulum-v1", refinement="gd", **TINY)  # pyright: ignore[reportArgumentType]
    with refuses("model", "critic"):
        RefinedPolicy(sb3.PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu"))
    with refuses("model", "Discrete"):
        RefinedPolicy(sb3.DQN("MlpPolicy", "CartPole-v1", device="cpu"))
    with pytest.raises(InputError):
        RefinedPolicy(lambda s: s)


@pytest.mark.parametrize("kind", ["TD3", "DDPG", "SAC", "TQC"])
def test_predict_is_refine_action(kind):
    module = pytest.importorskip("sb3_contrib") if kind == "TQC" else sb3
    model = getattr(module, kind)("MlpPolicy", "Pendulum-v1", **TINY)
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    plain, _ = model.predict(observations, deterministic=True)
    policy = RefinedPolicy(model, radius=0.25, optimizer="gd-critic", steps=7)
    found = refine_action(model, observations, plain, optimizer="gd-critic", steps=7)
    actions, state = policy.predict(observations, deterministic=True)
    assert state is None
    assert actions.dtype == plain.dtype
    assert np.array_equal(actions, found.action.numpy())
    assert (found.gain >= 0).all()
    assert found.gain.sum() > 0
    assert torch.equal(policy.refine(observations, deterministic=True).action, found.action)
    single, _ = policy.predict(observations[2], deterministic=True)
    assert single.shape == (1,)
    near(torch.from_numpy(single), found.action[2], 1e-4)


def test_it_stands_where_a_model_stands():
    from stable_baselines3.common.evaluation import evaluate_policy

    policy = RefinedPolicy(sb3.SAC("MlpPolicy", "Pendulum-v1", **TINY), steps=2)
    env = gymnasium.wrappers.TimeLimit(gymnasium.make("Pendulum-v1"), 5)
    mean, spread = evaluate_policy(policy, sb3.common.monitor.Monitor(env), n_eval_episodes=2, deterministic=True)
    assert np.isfinite([mean, spread]).all()
