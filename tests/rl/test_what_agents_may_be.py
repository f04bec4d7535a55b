"""What an agent and an environment may be: each kind works, or one line tells what is missing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agents import PENDULUM, write_agent
from files import refused
from nets import refuses
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium (the extra rl)")
sb3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (the extra rl)")

from gymnasium import spaces  # noqa: E402
from rooms import STEPS, Room, register  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.vec_env import VecFrameStack  # noqa: E402

import latentopt as lo  # noqa: E402
from latentopt.jobs.attack_policy import attack_policy as attack_job  # noqa: E402
from latentopt.jobs.refine import refine  # noqa: E402
from latentopt.rl.actor_critic import load_actor_critic  # noqa: E402
from latentopt.rl.agents import load_agent  # noqa: E402
from latentopt.rl.attack_episodes import attack_episodes  # noqa: E402
from latentopt.rl.attack_policy import attack_policy  # noqa: E402
from latentopt.rl.refined_policy import RefinedPolicy  # noqa: E402
from latentopt.rl.rollout import make_environment  # noqa: E402
from latentopt.rl.saved_models import algorithm_of, load_model  # noqa: E402

VECTOR = spaces.Box(-1, 1, (3,))


class Layers(nn.Module):
    def __init__(self, outputs: int, how: str) -> None:
        super().__init__()
        self.layers, self.how = nn.Linear(3, outputs), how

    def forward(self, x: Tensor) -> Any:
        h = self.layers(x)
        several = {"tuple": (h, h.sum(1)), "dictionary": {"logits": h, "value": h.sum(1)}}
        distributions = {"categorical": Categorical(logits=h), "normal": Independent(Normal(h, 1.0), 1)}
        return {"tensor": h, **several, **distributions}[self.how]


class Quantiles(nn.Module):
    """The policy of a QR-DQN agent, as far as it is read."""

    observation_space, action_space = VECTOR, spaces.Discrete(2)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5 * 2)

    def quantile_net(self, x: Tensor) -> Tensor:
        return self.layer(x).reshape(-1, 5, 2)

    def _predict(self, x: Tensor, deterministic: bool = True) -> Tensor:
        return self.quantile_net(x).mean(1).argmax(1)


def safetensors(tmp_path: Path) -> Any:
    return load_agent(write_agent(tmp_path / "agent.safetensors"), make_environment(PENDULUM))


POLICIES = {
    "module": lambda path: (Layers(2, "tensor"), "discrete"),
    "function": lambda path: (lambda x: x[:, :2], "discrete"),
    "logits and a value": lambda path: (Layers(2, "tuple"), "discrete"),
    "dictionary of outputs": lambda path: (Layers(2, "dictionary"), "discrete"),
    "distribution of actions": lambda path: (Layers(2, "categorical"), "discrete"),
    "distribution of means": lambda path: (Layers(2, "normal"), "continuous"),
    "quantiles": lambda path: (Quantiles(), "discrete"),
    "model": lambda path: (sb3.TD3("MlpPolicy", PENDULUM, buffer_size=1, device="cpu"), "continuous"),
    "policy of a model": lambda path: (sb3.DQN("MlpPolicy", register_room(), device="cpu").policy, "discrete"),
    "tensors": lambda path: (safetensors(path), "continuous"),
}


def register_room(**arguments: Any) -> str:
    return register("Room-v0", **{"observations": VECTOR, "actions": spaces.Discrete(2), **arguments})


@pytest.mark.parametrize("kind", POLICIES)
def test_what_a_policy_may_be(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy, actions = POLICIES[kind](tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) / 4
    found = attack_policy(policy, x, 0.3, kind=actions, steps=5)
    assert found.discrete == (actions == "discrete")
    assert (found.after != found.before).any()
    again = attack_policy(policy, found.observations, 0.0, kind=actions, steps=1)
    torch.testing.assert_close(again.before, found.after)


@pytest.mark.parametrize("start", [0, 1, -2])
def test_actions_that_begin_elsewhere(start: int) -> None:
    env = make_vec_env(register_room(actions=spaces.Discrete(2, start=start)), 2)
    played = attack_episodes(lambda x: torch.tensor([[0.0, 1.0]]).expand(len(x), 2), env, 2)
    assert played.returns.tolist() == [STEPS * (start + 1)] * 2


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.MultiBinary(4), spaces.MultiDiscrete([3, 4])])
def test_observations_that_cannot_change_a_little_are_refused_as_such(space: spaces.Space) -> None:
    agent = sb3.DQN("MlpPolicy", register_room(observations=space), buffer_size=8, device="cpu")
    observations = np.stack([space.sample(), space.sample()])
    with refuses("policy", "images or vectors"):
        attack_policy(agent, observations, 0.1)


def test_a_policy_in_training_mode_is_refused() -> None:
    with refuses("network", "eval mode"):
        attack_policy(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.zeros(2, 3), 0.1)


def test_observations_may_be_a_list() -> None:
    policy, rows = nn.Linear(3, 2).eval(), [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]
    sequence: Any = rows
    found = [attack_policy(policy, x, 0.5, steps=2).observations for x in (sequence, torch.tensor(rows))]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "observation", [np.zeros(4), "a", None, np.zeros((2, 2, 3)), np.full(3, np.nan), np.zeros((0, 3))]
)
def test_an_observation_that_an_agent_does_not_take_is_one_line(observation: Any) -> None:
    env = register_room(observations=VECTOR, actions=spaces.Box(-1, 1, (2,)))
    policy = RefinedPolicy(sb3.TD3("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, buffer_size=8, device="cpu"))
    with refuses("observation"):
        policy.predict(observation, deterministic=True)


def test_several_actions_of_a_function_are_their_combinations() -> None:
    env = make_vec_env(register_room(actions=spaces.MultiDiscrete([2, 3])), 1)
    played = attack_episodes(lambda x: torch.eye(6)[[5]].expand(len(x), 6), env, 1)
    assert played.returns.tolist() == [STEPS * 3.0]
    with refuses("policy", "combinations"):
        attack_episodes(lambda x: x, make_vec_env(register_room(actions=spaces.MultiBinary(30)), 1), 1)


def test_an_agent_in_tensors_is_refined_attacked_and_played(tmp_path: Path) -> None:
    name = register_room(actions=spaces.Box(-3, 1, (1,)))
    env = make_environment(name)
    agent = load_agent(write_agent(tmp_path / "agent.safetensors"), env)
    x = np.stack([env.reset(seed=seed)[0] for seed in range(3)])
    policy = RefinedPolicy(agent, optimizer="gd-critic", steps=4)
    plain, _ = agent.predict(x, deterministic=True)
    refined, _ = policy.predict(x, deterministic=True)
    assert np.array_equal(policy.predict(x[1], deterministic=True)[0].shape, plain[1].shape)
    player = load_actor_critic(tmp_path / "agent.safetensors", env)
    assert plain == pytest.approx(player.unscale(player.actor(x)), abs=1e-6)
    own = lo.Refiner(player.critic, -1.0, 1.0, 0.25, "gd-critic", 4)(x, player.actor(x))
    assert refined == pytest.approx(player.unscale(own.action.numpy()), abs=1e-5)
    assert (policy.refine(x, deterministic=True).gain >= 0).all()
    words = {"episodes": 1, "steps": 1, "optimizer": "fgsm", "wandb": "disabled", "out": str(tmp_path / "out")}
    rows = attack_job(str(tmp_path / "agent.safetensors"), 0.1, name, **words).rows
    assert rows[0]["unattacked_steps"] == STEPS
    alone = load_agent(tmp_path / "agent.safetensors")
    assert torch.equal(attack_policy(alone, x, 0.1, steps=2).before, attack_policy(agent, x, 0.1, steps=2).before)
    with refuses("model", "with its environment"):
        RefinedPolicy(alone)
    for wrong in ({"a": x}, x[:, :2], x[None]):
        with refuses("observation", "(B, 3)"):
            policy.predict(wrong)


def test_an_agent_of_stacked_frames_sees_them_in_the_job_and_in_a_vecenv(tmp_path: Path) -> None:
    name = register("Room-v0", observations=spaces.Box(0, 255, (36, 36, 1), np.uint8))
    env = VecFrameStack(make_vec_env(name, 2), 4)
    model = sb3.TD3("CnnPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=10, device="cpu", seed=0)
    observations = env.reset()
    policy = RefinedPolicy(model, optimizer="adam-critic", steps=2)
    actions, _ = policy.predict(observations, deterministic=True)
    assert actions.shape == (2, 2)
    assert (policy.refine(observations, deterministic=True).gain >= 0).all()
    played = attack_episodes(model, env, 2, 1 / 255, steps=1)
    assert played.lengths.tolist() == [STEPS, STEPS]


def spoil(path: Path, *names: str) -> None:
    """Make objects in an archive unreadable, as those of another version of Python are."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(files["data"])
    for name in data.keys() & set(names):
        data[name] = {":type:": "<class 'function'>", ":serialized:": "AAAA"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "data": json.dumps(data).encode()}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "names", [("lr_schedule", "learning_rate", "clip_range"), ("observation_space", "action_space")]
)
@pytest.mark.parametrize("kind", ["PPO", "TD3"])
def test_archives_of_other_versions_are_loaded(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    model, path = getattr(sb3, kind)("MlpPolicy", PENDULUM, device="cpu", seed=0), tmp_path / "old.zip"
    model.save(path)
    spoil(path, *names)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert algorithm_of(path) == kind
    for match in (True, False):
        loaded = load_model(path, kind, make_environment(PENDULUM), match)
        assert np.array_equal(loaded.predict(x, deterministic=True)[0], model.predict(x, deterministic=True)[0])


@pytest.mark.parametrize("name", ["QRDQN", "TQC", "CrossQ", "TRPO", "ARS", "MaskablePPO", "RecurrentPPO"])
def test_algorithms_of_sb3_contrib(name: str, tmp_path: Path) -> None:
    contrib = pytest.importorskip("sb3_contrib", reason="needs sb3-contrib")
    env = PENDULUM if name in ("TQC", "CrossQ") else register_room()
    policy = {"ARS": "LinearPolicy", "RecurrentPPO": "MlpLstmPolicy"}.get(name, "MlpPolicy")
    model = getattr(contrib, name)(policy, gymnasium.make(env), device="cpu", seed=0)
    model.save(tmp_path / "agent.zip")
    words = {"episodes": 1, "steps": 1, "wandb": "disabled", "out": str(tmp_path / "out")}
    if name in ("ARS", "RecurrentPPO"):
        with pytest.raises(lo.InputError, match=r"without memory|logits"):
            attack_job(str(tmp_path / "agent.zip"), 0.1, env, **words)
        return
    assert algorithm_of(tmp_path / "agent.zip") == name
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found, acted = attack_policy(model, x / 9, 0.1, steps=2), model.predict(x / 9, deterministic=True)[0]
    if found.discrete:
        assert found.actions[0].tolist() == acted.tolist()
        return
    actions, _ = RefinedPolicy(model, optimizer="adam-critic", steps=2).predict(x, deterministic=True)
    assert actions.shape == acted.shape
    player = load_actor_critic(tmp_path / "agent.zip", make_environment(env))
    assert player.unscale(player.actor(x / 9)) == pytest.approx(acted, abs=1e-5)


def failing(error: Exception) -> Any:
    def make(**options: Any) -> None:
        raise error

    return make


ENVIRONMENTS = {
    "NoSuch-v0": None,
    "nosuchmodule:Name-v0": None,
    "Broken-v0": ImportError("Box2D is not installed"),
    "Broken-v1": FileNotFoundError("no display"),
    "Broken-v2": TypeError("missing 1 required argument"),
    "Broken-v3": gymnasium.error.DependencyNotInstalled("MuJoCo is not installed\nand more"),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_that_cannot_be_made_is_one_line(name: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("LATENTOPT_TRUST", "nosuchmodule")
    if ENVIRONMENTS[name] is not None:
        gymnasium.registry.pop(name, None)
        gymnasium.register(name, failing(ENVIRONMENTS[name]))
    path, zipped = write_agent(tmp_path / "agent.safetensors"), tmp_path / "agent.zip"
    sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu").save(zipped)
    out = tmp_path / "out"
    commands = (
        ("refine", "--agent", path, "--env", name),
        ("attack-policy", "--model", zipped, "--eps", "0.1", "--env", name),
        ("train-rl", "pendulum-td3", "--env", name),
    )
    for words in commands:
        line = refused(capsys, *words, "--out", out)
        assert name.split(":")[0] in line
    assert not out.exists()


MINE = """
from gymnasium import spaces
from rooms import register

actions = spaces.Box(-2, 2, (1,))
register("Mine-v0", observations=spaces.Box(-1, 1, (3,)), actions=actions, reward=lambda total: total.reshape(1))
"""


def test_an_environment_of_ones_own_module(tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "my_rooms.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    path = write_agent(tmp_path / "agent.safetensors")
    options = {"episodes": 1, "refine_steps": 1, "gif": False, "wandb": "disabled", "out": str(tmp_path / "out")}
    with refuses("env", "LATENTOPT_TRUST"):
        refine(str(path), "my_rooms:Mine-v0", **options)
    monkeypatch.setenv("LATENTOPT_TRUST", "my_rooms")
    assert refine(str(path), "my_rooms:Mine-v0", **options).rows[0]["steps"] == STEPS


def test_a_missing_package_is_one_line(tmp_path: Path, capsys, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "agent.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {"__module__": "x"}, "n_quantiles": 3}))
    monkeypatch.setitem(__import__("sys").modules, "sb3_contrib", None)
    words = ("attack-policy", "--model", tmp_path / "agent.zip", "--eps", "0.1", "--env", "CartPole-v1")
    assert "pip install sb3-contrib" in refused(capsys, *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("actions", "kind", "env_actions"),
    [
        (2, "discrete", spaces.Discrete(3)),
        (2, "discrete", spaces.Box(-1, 1, (2,))),
        (2, "continuous", spaces.Discrete(2)),
        (2, "continuous", spaces.Box(-1, 1, (3,))),
        (5, "discrete", spaces.MultiDiscrete([2, 3])),
        (2, "discrete", spaces.Tuple([spaces.Discrete(2)])),
    ],
)
def test_a_policy_of_other_actions_is_refused(actions: int, kind: Any, env_actions: Any) -> None:
    with refuses("env", "actions that the policy's"):
        attack_episodes(Layers(actions, "tensor"), Room(VECTOR, env_actions), 1, kind=kind)


@pytest.mark.parametrize(("words", "name"), [(["--env", "Room-v0"], "env"), (["--sample", "true"], "sample")])
def test_what_does_not_fit_an_agent_is_known_before_anything_is_written(words, name, tmp_path, capsys) -> None:
    register_room(actions=spaces.Discrete(2))
    sb3.TD3("MlpPolicy", PENDULUM, buffer_size=1, device="cpu").save(tmp_path / "agent.zip")
    given = {"--env": PENDULUM, **dict([words])}
    options = [word for pair in given.items() for word in pair]
    agent = ("--model", tmp_path / "agent.zip", "--eps", "0.1", "--steps", "1", "--out", tmp_path / "out")
    assert refused(capsys, "attack-policy", *agent, *options).startswith(f"latentopt: error: {name}: ")
    assert not (tmp_path / "out").exists()
