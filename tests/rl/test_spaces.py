"""Agents and policies of every kind of observations and actions that stable-baselines3 trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nets import refuses

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium (the extra rl)")
sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (the extra rl)")

from gymnasium import spaces  # noqa: E402
from rooms import BOUNDS, STEPS, register  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402

from latentopt.jobs.attack_policy import attack_policy as attack_job  # noqa: E402
from latentopt.jobs.refine import refine  # noqa: E402
from latentopt.rl.attack_episodes import attack_episodes  # noqa: E402
from latentopt.rl.attack_policy import attack_policy  # noqa: E402
from latentopt.rl.critics import stacked  # noqa: E402
from latentopt.rl.refine import RefinementSettings, refine_action  # noqa: E402
from latentopt.rl.refined_policy import RefinedPolicy  # noqa: E402
from latentopt.rl.training import TrainingSettings, train_agent  # noqa: E402

VECTOR, IMAGE = spaces.Box(-1, 1, (3,)), spaces.Box(0, 255, (36, 36, 3), np.uint8)
OBSERVATIONS = {
    "dict": spaces.Dict({"b": VECTOR, "a": spaces.Box(-2, 2, (2, 2))}),
    "dict with an image": spaces.Dict({"view": IMAGE, "speed": VECTOR, "gear": spaces.Discrete(3)}),
    "image, colours last": IMAGE,
    "float64": spaces.Box(-1, 1, (3,), np.float64),
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(4),
}
SMALL = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 10, "device": "cpu", "seed": 0}


def policy_for(space: Any) -> str:
    return "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy" if space is IMAGE else "MlpPolicy"


def batch_of(env: str, count: int = 4) -> Any:
    venv = make_vec_env(env, count)
    venv.seed(1)
    return venv.reset()


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_agents_of_any_observations_are_refined(kind: str, tmp_path) -> None:
    env = register("Room-v0", observations=OBSERVATIONS[kind])
    model = sb3.TD3(policy_for(OBSERVATIONS[kind]), gymnasium.make(env), **SMALL)
    observations = batch_of(env)
    plain, _ = model.predict(observations, deterministic=True)
    policy = RefinedPolicy(model, optimizer="adam-critic", steps=3)
    found = policy.refine(observations, deterministic=True)
    assert torch.equal(found.action, refine_action(model, observations, plain, optimizer="adam-critic", steps=3).action)
    tensors, _ = model.policy.obs_to_tensor(observations)
    scaled = torch.from_numpy(model.policy.scale_action(found.action.numpy()))
    with torch.no_grad():
        own = stacked(model.critic(tensors, scaled.float()), 4).min(0).values
    torch.testing.assert_close(found.after, own, atol=1e-5, rtol=1e-4)
    if "image" not in kind:
        return
    model.save(tmp_path / "agent.zip")
    options = {"episodes": 1, "refine_steps": 2, "gif": False, "wandb": "disabled", "optimizer": "adam-critic"}
    result = refine(str(tmp_path / "agent.zip"), env, out=str(tmp_path / "out"), **options)
    for row in result.rows:
        played, total = gymnasium.make(env), 0.0
        observation, _ = played.reset(seed=row["seed"])
        for _ in range(STEPS):
            observation, reward, *_ = played.step(model.predict(observation, deterministic=True)[0])
            total += float(reward)
        assert row["plain"] == pytest.approx(total, abs=1e-4)
        assert row["refined_steps"] == STEPS
        assert row["gain"] >= 0


def test_an_agent_of_dictionaries_learns_from_refined_actions() -> None:
    env = register("Room-v0", observations=OBSERVATIONS["dict"])
    small = {"hidden": [8], "batch_size": 4, "learning_starts": 5, "every": 20, "episodes": 1, "steps": 20}
    model, points = train_agent(TrainingSettings(env, refinement=RefinementSettings(1.0, steps=2), **small), 0)
    assert model.num_timesteps == 20
    assert points[-1].gain > 0


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Tuple([VECTOR, VECTOR]), "Tuple"),
        (spaces.Dict({"inner": spaces.Dict({"x": VECTOR})}), "a Dict with Dict"),
        (spaces.Text(3), "Text"),
    ],
)
def test_observations_that_no_agent_takes_are_refused(space: Any, words: str, tmp_path) -> None:
    env, out = register("Room-v0", observations=space), tmp_path / "out"
    (tmp_path / "agent.zip").write_bytes(b"")
    for job in (lambda: refine(str(tmp_path / "agent.zip"), env, out=str(out)), lambda: TrainingSettings(env).model(0)):
        with refuses("env", words):
            job()
    with refuses("env", words):
        attack_episodes(lambda x: x, _Vector(space), 1)
    assert not out.exists()


class _Vector:
    num_envs, env_method, training = 1, None, False

    def __init__(self, space: Any) -> None:
        self.observation_space = space


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "finite bounds"),
        (spaces.Box(np.zeros(2, np.float32), np.array([np.inf, 1], np.float32)), "finite bounds"),
        (spaces.Box(-1, 1, (2, 2)), "vectors"),
        (spaces.Discrete(2), "continuous"),
    ],
)
def test_actions_that_cannot_be_refined_are_refused(space: Any, words: str) -> None:
    with refuses("env", words):
        TrainingSettings(register("Room-v0", observations=VECTOR, actions=space)).model(0)


ACTIONS = {
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 2]),
    "multi-binary": spaces.MultiBinary(3),
    "continuous": BOUNDS,
    "float64": spaces.Box(-1, 1, (2,), np.float64),
}
JOBS = (("vector", "multi-discrete"), ("dict", "continuous"))
PAIRS = [("vector", kind) for kind in ACTIONS] + [("dict", kind) for kind in ("discrete", "multi-binary", "continuous")]


@pytest.mark.parametrize(("seen", "kind"), [*PAIRS, ("bytes", "multi-discrete")])
def test_policies_of_any_actions_are_attacked_and_act_as_it_says(seen: str, kind: str, tmp_path) -> None:
    known = {**OBSERVATIONS, "vector": VECTOR, "bytes": spaces.Dict({"view": IMAGE})}
    env = register("Room-v0", observations=known[seen], actions=ACTIONS[kind])
    settings = {"n_steps": 4, "device": "cpu", "seed": 0}
    model = sb3.PPO(policy_for(known[seen]), gymnasium.make(env), batch_size=4, **settings)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(50)  # an untrained agent hardly looks
    observations = batch_of(env, 6)
    found = attack_policy(model, observations, 0.2, steps=5)
    for seen_by, actions in zip((observations, found.observations), found.actions, strict=True):
        acted = model.predict(seen_by, deterministic=True)[0]
        if kind in ("continuous", "float64"):
            actions = np.clip(actions.numpy(), ACTIONS[kind].low, ACTIONS[kind].high)
        np.testing.assert_allclose(np.asarray(actions), acted, atol=1e-4)
    arrays = [list(x.values()) if isinstance(x, dict) else [x] for x in (observations, found.observations)]
    for clean, attacked in zip(*arrays, strict=True):
        assert attacked.dtype == clean.dtype
        change = np.abs(attacked.astype(float) - clean).max() / (255 if seen == "bytes" else 1)
        assert 0 < change <= 0.2 + 1e-6
    is_discrete = kind.startswith(("multi", "discrete"))
    played = attack_episodes(model, make_vec_env(env, 2), 2, 0.2, steps=2, sample=is_discrete)
    assert played.lengths.tolist() == [STEPS, STEPS]
    if (seen, kind) not in JOBS:
        return
    model.save(tmp_path / "agent.zip")
    words = {"episodes": 1, "steps": 2, "wandb": "disabled", "out": str(tmp_path / "out")}
    assert len(attack_job(str(tmp_path / "agent.zip"), 0.2, env, **words).rows) == 1


def test_a_function_of_dictionaries_is_a_critic() -> None:
    def q(s: dict[str, torch.Tensor], a: torch.Tensor) -> torch.Tensor:
        return (s["gain"] * a).sum(1) + s["view"].flatten(1).sum(1)

    gains = torch.tensor([[1.0, -2.0], [-1.0, 3.0], [2.0, 1.0]])
    seen = {"gain": gains, "view": np.zeros((3, 2, 2), np.float32)}
    found = refine_action(q, seen, torch.zeros(3, 2), -1.0, 1.0, radius=0.5, optimizer="pgd", steps=20)
    torch.testing.assert_close(found.action, 0.5 * gains.sign())
    with refuses("observations", "one for each"):
        refine_action(q, {"gain": gains[:2], "view": seen["view"]}, torch.zeros(3, 2), -1.0, 1.0)
