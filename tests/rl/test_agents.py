"""Agents from files, held to stable-baselines3's own modules and to the returns measured beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import write_agent
from local_data import local_data
from nets import near, randn, refuses
from safetensors.torch import save_file

from latentopt.errors import InputError
from latentopt.rl.agents import load_agent
from latentopt.rl.fast.chains import chains_of
from latentopt.rl.refine import Refiner, refine_action
from latentopt.rl.rollout import collect_observations, make_environment, play_agent

gym = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")
KINDS = {"sac": sb3.SAC, "td3": sb3.TD3, "ddpg": sb3.DDPG}
every_kind = pytest.mark.parametrize("kind", KINDS)


def model_of(kind: str):
    """A fresh model on Pendulum, whose actions are in [-2, 2]."""
    return KINDS[kind]("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [16, 12]}, seed=0, device="cpu")


@every_kind
def test_an_agent_is_the_model_that_its_tensors_are_of(kind, tmp_path):
    model, s = model_of(kind), randn(7, 3).float()
    tensors = {n: t.contiguous() for n, t in model.policy.state_dict().items() if "target" not in n}
    save_file(tensors, tmp_path / "agent.safetensors")
    agent = load_agent(tmp_path / "agent.safetensors")
    a = agent.actor(s)
    near(2 * a, torch.from_numpy(model.predict(s.numpy(), deterministic=True)[0]), 1e-5)
    for mine, critic in zip(agent.critics(s, a), model.critic(s, a), strict=True):
        near(mine, critic, 1e-6)
    assert agent.sizes == (3, 1)
    agent.check(make_environment("Pendulum-v1"))
    drawn = agent.actor.sample(s, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, a) == (kind != "sac")


@every_kind
def test_a_model_is_refined_in_the_units_of_its_environment(kind):
    model, s = model_of(kind), randn(6, 3).float()
    assert chains_of(model.critic)
    a, _ = model.predict(s.numpy(), deterministic=True)
    whole = refine_action(model, s.numpy(), a, radius=0.5)
    critic = refine_action(model.critic, s, a, -2.0, 2.0, radius=0.5)
    plain = lambda s, a: model.critic(s, a / 2)  # noqa: E731
    general = refine_action(plain, s, a, -2.0, 2.0, radius=0.5)
    value = torch.stack(model.critic(s, whole.action / 2)).min(0).values[:, 0]
    near(whole.after, value.detach(), 1e-5)
    near(general.action, whole.action, 1e-3)
    assert torch.equal(critic.action, whole.action)
    assert (whole.action - torch.from_numpy(a)).abs().max() <= 1 + 1e-6
    assert whole.gain.max() > 0


def test_what_a_model_learns_is_seen_at_the_next_call():
    model = model_of("td3")
    s, a = np.zeros((1, 3), np.float32), np.zeros((1, 1), np.float32)
    refiner = Refiner(model)
    before = refiner(s, a).before
    model.learning_starts = 10
    model.learn(60)
    after = refiner(s, a)
    assert not torch.equal(before, after.before)
    with torch.no_grad():
        value = torch.stack(model.critic(torch.from_numpy(s), torch.from_numpy(a))).min(0).values[:, 0]
    near(after.before, value, 1e-6)


def test_models_without_a_critic_of_actions_are_refused():
    discrete = sb3.DQN("MlpPolicy", "CartPole-v1", device="cpu")
    with refuses("q", "continuous actions"):
        refine_action(discrete, randn(2, 4), torch.zeros(2, 1))
    actor_only = sb3.PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    with refuses("q", "SAC, TD3, DDPG, TQC"):
        refine_action(actor_only, randn(2, 3), torch.zeros(2, 1))


def test_files_and_environments_that_do_not_fit_are_refused(tmp_path):
    agent = load_agent(write_agent(tmp_path / "good.safetensors"))
    agent.check(make_environment("Pendulum-v1"))
    with refuses("MountainCarContinuous-v0", "3 and 1 numbers, those of good"):
        agent.check(make_environment("MountainCarContinuous-v0"))
    with refuses("CartPole-v1", "continuous actions"):
        agent.check(make_environment("CartPole-v1"))
    with refuses("env", "gymnasium"):
        make_environment("Pendulum-v99")
    for name, words in (("no.safetensors", "a file"), ("agent.zip", ".safetensors")):
        with refuses(str(tmp_path / name), words):
            load_agent(tmp_path / name)


RETURNS = {
    "rl_sb3/sac_HalfCheetah-v3": ("HalfCheetah-v4", 9464, 300),
    "rl_sb3/sac_Walker2d-v3": ("Walker2d-v4", 3843, 300),
    "rl_sb3/sac_Swimmer-v3": ("Swimmer-v4", 337, 10),
    "rl_sb3/sac_Hopper-v3": ("Hopper-v4", 1100, 60),
    "rl_sb3/ddpg_LunarLanderContinuous-v2": ("LunarLanderContinuous-v3", 266, 40),
    "rl_td3/BipedalWalker-v2_ONE_actor_critics": ("BipedalWalker-v3", 312, 15),
    "rl_td3/LunarLanderContinuous-v2_actor_critics": ("LunarLanderContinuous-v3", 254, 60),
}


@pytest.mark.parametrize("file", RETURNS)
def test_an_agent_returns_what_was_measured(file):
    name, expected, tolerance = RETURNS[file]
    path = local_data(f"{file}.safetensors")
    try:
        env = make_environment(name)
    except InputError as error:
        pytest.skip(str(error))
    agent = load_agent(path)
    mean = np.mean([play_agent(agent, env, seed)[0] for seed in range(3)])
    assert abs(mean - expected) <= tolerance
    met, again = (collect_observations(agent, make_environment(name), 20, seed=3, episodes=1) for _ in range(2))
    assert met.shape == (20, agent.sizes[0])
    assert torch.equal(met, again)
