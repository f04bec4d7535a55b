"""Agents that learned under VecNormalize, held to what stable-baselines3 itself makes of them."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from files import call
from nets import refuses
from safetensors.numpy import save_file

sb3 = pytest.importorskip("stable_baselines3")

from far import FAR, NEAR, Far, learned, true_returns, write_learned  # noqa: E402
from gymnasium import spaces  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize  # noqa: E402

import latentopt as lo  # noqa: E402
from latentopt.jobs.attack_policy import attack_policy as attack_job  # noqa: E402
from latentopt.jobs.refine import refine as refine_job  # noqa: E402
from latentopt.rl.actor_critic import load_actor_critic  # noqa: E402
from latentopt.rl.agents import load_agent  # noqa: E402
from latentopt.rl.attack_episodes import attack_episodes  # noqa: E402
from latentopt.rl.normalization import Normalization, NormalizationWarning  # noqa: E402
from latentopt.rl.normalization_checks import doubt, sample_observations  # noqa: E402
from latentopt.rl.normalization_files import as_normalization, find_statistics, read_statistics  # noqa: E402
from latentopt.rl.rollout import make_environment, play_agent  # noqa: E402

OFF_POLICY = ("SAC", "TD3")


@pytest.fixture(scope="module")
def agents(tmp_path_factory) -> dict[str, Path]:
    """Folders with agents, by algorithm; those of NAME-raw saw observations as they are."""
    folders = {}
    for kind in ("PPO", *OFF_POLICY):
        for name, normalize in ((kind, True), (f"{kind}-raw", False)):
            folders[name] = tmp_path_factory.mktemp(name)
            write_learned(folders[name], kind, normalize=normalize)
    return folders


def copied(folder: Path, to: Path, statistics: str | None = None) -> str:
    """An agent alone in a folder, or with its statistics under a name."""
    shutil.copy(folder / "agent.zip", to / "agent.zip")
    if statistics is not None:
        (to / statistics).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "statistics.pkl", to / statistics)
    return str(to / "agent.zip")


class Both(Far):
    """An environment whose observations are dictionaries."""

    observation_space = spaces.Dict({"a": Far.observation_space})

    def _seen(self):
        return {"a": super()._seen()}


def vec(env: Any = Far) -> DummyVecEnv:
    return DummyVecEnv([env])


def moved(count: int = 2, **settings) -> Any:
    """A VecNormalize that has seen something."""
    venv = VecNormalize(DummyVecEnv([Far] * count), **settings)
    venv.reset()
    rng = np.random.default_rng(0)
    for _ in range(40):
        venv.step(rng.uniform(-2, 2, (count, 1)))
    return venv


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_statistics_are_read_from_a_pickle_exactly(protocol, tmp_path):
    venv = moved(clip_obs=1.5, epsilon=1e-3)
    for clip, epsilon in ((np.float64(1.5), np.float32(1e-3)), (1.5, 1e-3)):  # scalars of NumPy are numbers too
        venv.clip_obs, venv.epsilon = clip, epsilon
        (tmp_path / "v.pkl").write_bytes(pickle.dumps(venv, protocol))
        found = read_statistics(tmp_path / "v.pkl")
        assert found is not None
        assert (found.clip, found.epsilon) == (1.5, float(epsilon))
    raw = venv.get_original_obs()
    assert np.array_equal(found(raw), venv.normalize_obs(raw))
    assert found(raw).dtype == np.float32
    assert np.array_equal(found(torch.from_numpy(raw)).numpy(), venv.normalize_obs(raw))
    assert np.array_equal(found(raw[0]), venv.normalize_obs(raw)[0])
    assert np.array_equal(as_normalization(venv)(raw), venv.normalize_obs(raw))  # pyright: ignore[reportOptionalCall]
    assert found.unscaled(found.scaled(raw)) == pytest.approx(raw, rel=1e-6)


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_no_code_of_a_pickle_runs(tmp_path):
    mark, file = tmp_path / "ran", tmp_path / "v.pkl"
    command = Runs(f"touch {mark}")
    venv = moved()
    venv.class_to_run = command
    file.write_bytes(pickle.dumps(venv))
    found = read_statistics(file)
    assert found is not None
    assert np.array_equal(found.mean, venv.obs_rms.mean)
    wrong = venv.obs_rms
    venv.obs_rms = command
    contents = [pickle.dumps(held) for held in (command, [command], {"obs_rms": 1}, 3, wrong)]
    for content, words in [*[(content, "np.savez('vecnormalize.npz', mean=") for content in contents], (venv, "")]:
        file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        with refuses(str(file), words):
            read_statistics(file)
    for broken in (b"", b"\x80", b"r\xff\xff\xff\xff.", b"no pickle", b"(lp0\n.", b"cos\nsystem\n(S'true'\ntR."):
        file.write_bytes(broken)
        with pytest.raises(lo.InputError) as caught:
            read_statistics(file)
        assert str(caught.value).count("\n") == 0
    assert not mark.exists()
    pickle.loads(pickle.dumps(command))
    assert mark.exists()  # as pickle itself would have


def test_statistics_as_named_arrays(tmp_path):
    mean, var = np.array([100.0, -3.0]), np.array([4.0, 0.25])
    x = np.array([[103.0, 7.0]])
    np.savez(tmp_path / "plain.npz", mean=mean, var=var)
    assert read_statistics(tmp_path / "plain.npz")(x).tolist() == [[1.5, 10.0]]  # pyright: ignore[reportOptionalCall]
    np.savez(tmp_path / "whole.npz", mean=mean, var=var, epsilon=0.0, clip=1.25)
    assert read_statistics(tmp_path / "whole.npz")(x).tolist() == [[1.25, 1.25]]  # pyright: ignore[reportOptionalCall]
    save_file({"mean": mean, "var": var, "clip": np.array(50.0)}, tmp_path / "v.safetensors")
    assert read_statistics(tmp_path / "v.safetensors")(x).tolist() == [[1.5, 20.0]]  # pyright: ignore[reportOptionalCall]
    for name, arrays, words in [
        ("std", {"mean": mean, "std": var}, "mean and var"),
        ("more", {"mean": mean, "var": var, "std": var}, "mean and var"),
        ("negative", {"mean": mean, "var": -var}, "var: numbers >= 0"),
        ("shapes", {"mean": mean, "var": var[:1]}, "the shape of mean"),
        ("nan", {"mean": mean * np.nan, "var": var}, "finite numbers"),
        ("clip", {"mean": mean, "var": var, "clip": 0.0}, "a number > 0"),
        ("clips", {"mean": mean, "var": var, "clip": mean}, "a single number"),
        ("objects", {"mean": np.array([None]), "var": var}, "np.savez"),
    ]:
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        with refuses(str(path), words):
            read_statistics(path)
    with refuses("normalization", "no file"):
        read_statistics(tmp_path / "none.pkl")


def test_what_is_no_normalisation_of_observations(tmp_path):
    for off in (False, np.False_):
        games = moved(norm_obs=False)
        games.norm_obs = off
        games.save(str(tmp_path / "v.pkl"))
        assert read_statistics(tmp_path / "v.pkl") is None
    assert as_normalization(moved(norm_obs=False)) is None
    with refuses("normalization", "a Normalization"):
        as_normalization(3)
    VecNormalize(vec(Both), norm_obs_keys=["a"]).save(str(tmp_path / "d.pkl"))
    with refuses(str(tmp_path / "d.pkl"), "of a dictionary"):
        read_statistics(tmp_path / "d.pkl")


@pytest.mark.parametrize(
    "place",
    [
        "agent_vecnormalize.pkl",
        "agent/vecnormalize.pkl",
        "latentopt-far-v3/vecnormalize.pkl",
        "latentopt-far-v1/vecnormalize.npz",
        "vecnormalize.pkl",
        "vecnormalize.safetensors",
        "vec_normalize.pkl",
    ],
)
def test_where_statistics_are_looked_for(place, tmp_path):
    agent = tmp_path / "agent.zip"
    assert find_statistics(agent, FAR) is None
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"")
    assert find_statistics(agent, FAR) == tmp_path / place
    (tmp_path / "agent_vecnormalize.npz").write_bytes(b"")
    if not place.startswith("agent_"):
        assert find_statistics(agent, FAR) == tmp_path / "agent_vecnormalize.npz"


def test_statistics_of_a_checkpoint(tmp_path):
    from stable_baselines3.common.callbacks import CheckpointCallback

    agent, _ = learned("PPO", steps=10)
    agent.learn(100, CheckpointCallback(50, str(tmp_path), "mine", save_vecnormalize=True))
    assert find_statistics(tmp_path / "mine_50_steps.zip") == tmp_path / "mine_vecnormalize_50_steps.pkl"
    assert find_statistics(tmp_path / "mine_100_steps.zip") == tmp_path / "mine_vecnormalize_100_steps.pkl"


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("SAC", True),
        ("TD3", False),
        pytest.param("SAC", False, marks=pytest.mark.slow),
        pytest.param("TD3", True, marks=pytest.mark.slow),
    ],
)
def test_refine_plays_what_stable_baselines3_plays(kind, found, agents, tmp_path):
    agent = copied(agents[kind], tmp_path, "vecnormalize.pkl" if found else "elsewhere.pkl")
    named = None if found else str(tmp_path / "elsewhere.pkl")
    common = {"episodes": 3, "refine_steps": 2, "out": str(tmp_path / "out"), "wandb": "disabled", "gif": False}
    report = refine_job(agent, FAR, vecnormalize=named, **common)
    truth = true_returns(getattr(sb3, kind).load(agent), agents[kind] / "statistics.pkl", range(3))
    assert [row["plain"] for row in report.rows] == pytest.approx(truth, abs=1e-4)
    assert all(row["gain"] > 0 for row in report.rows)
    with refuses("out", "vecnormalize"):  # the statistics are part of what the job is
        refine_job(agent, FAR, vecnormalize="none", **common)
    if found:
        np.savez(tmp_path / "agent_vecnormalize.npz", mean=np.array([5000.0, 0.0]), var=np.array([1e6, 1e5]))
        with refuses("out", "a job with other statistics"):
            refine_job(agent, FAR, **common)


@pytest.mark.parametrize("kind", ["PPO", "SAC"])
def test_attacks_play_what_stable_baselines3_plays(kind, agents, tmp_path):
    agent = copied(agents[kind], tmp_path, f"{FAR}/vecnormalize.pkl")
    common = {"env": FAR, "algorithm": kind, "episodes": 2, "steps": 5, "wandb": "disabled"}
    report = attack_job(agent, 0.5, **common, out=str(tmp_path / "out"))
    truth = true_returns(getattr(sb3, kind).load(agent), agents[kind] / "statistics.pkl", range(2))
    assert report.returns["unattacked"].tolist() == pytest.approx(truth, abs=1e-3)
    assert report.changed > 0.9
    raw = attack_job(agent, 0.5, **common, out=str(tmp_path / "raw"), vecnormalize="none")
    assert raw.returns["unattacked"].tolist() != pytest.approx(truth, abs=1e-1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("PPO", ["attack-policy", "--algorithm", "PPO", "--eps", "0.5", "--steps", "2", "--model"]),
        ("TD3", ["refine", "--refine-steps", "2", "--gif", "false", "--agent"]),
    ],
)
def test_the_command_line_asks_for_statistics_or_warns(kind, words, agents, tmp_path, capsys):
    agent = copied(agents[kind], tmp_path, "elsewhere.pkl")
    words = [*words, agent, "--env", FAR, "--episodes", "1", "--wandb", "disabled", "--out"]
    said = call(capsys, *words, tmp_path / "a")
    if kind == "PPO":
        assert said.code == 2
        assert said.err.startswith(
            "latentopt: error: vecnormalize: expected statistics of the VecNormalize that agent.zip"
        )
        assert not (tmp_path / "a").exists()
    else:
        assert said.code == 0
        first = said.err.splitlines()[0]
        assert first.startswith("latentopt: warning: TD3: observations are unlike those of training: number 0 is about")
    for named in (str(tmp_path / "elsewhere.pkl"), "none"):
        said = call(capsys, *words, tmp_path / Path(named).stem, "--vecnormalize", named)
        assert (said.code, "warning" in said.err) == (0, False)
    said = call(capsys, *words, tmp_path / "b", "--vecnormalize", tmp_path / "no.pkl")
    assert (said.code, said.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("kind", ["PPO", "SAC", pytest.param("TD3", marks=pytest.mark.slow)])
def test_agents_that_saw_raw_observations_are_not_remarked_on(kind, agents, tmp_path, capsys):
    agent = copied(agents[f"{kind}-raw"], tmp_path)
    common = {"episodes": 1, "wandb": "disabled"}
    attack_job(agent, 0.5, FAR, kind, steps=2, out=str(tmp_path / "out"), **common)
    if kind in OFF_POLICY:
        refine_job(agent, FAR, refine_steps=1, gif=False, out=str(tmp_path / "refined"), **common)
    assert "warning" not in capsys.readouterr().err
    shutil.copy(agents[kind] / "statistics.pkl", tmp_path / "vecnormalize.pkl")  # of another agent
    with refuses("vecnormalize", "none, or the file that is agent.zip's"):
        attack_job(agent, 0.5, FAR, kind, steps=2, out=str(tmp_path / "again"), **common)
    attack_job(agent, 0.5, FAR, kind, steps=2, out=str(tmp_path / "again"), vecnormalize="none", **common)


@pytest.mark.parametrize(
    ("kind", "env"),
    [
        ("PPO", NEAR),
        ("SAC", NEAR),
        ("TD3", "Pendulum-v1"),
        pytest.param("PPO", "Pendulum-v1", marks=pytest.mark.slow),
        ("DDPG", "MountainCarContinuous-v0"),
        ("PPO", "CartPole-v1"),
        pytest.param("DQN", "CartPole-v1", marks=pytest.mark.slow),
        ("DQN", "MountainCar-v0"),
    ],
)
def test_no_false_alarm(kind, env):
    """Also where training ends with an episode, so that the last observation begins another."""
    agent, _ = learned(kind, env, normalize=False, steps=300)
    assert doubt(agent, make_environment(env), None) is None


@pytest.mark.parametrize("kind", ["SAC", "DDPG"])
def test_a_normalised_last_observation_shows_where_sizes_do_not(kind):
    """Observations of the MountainCar are below 1 in size; of its velocity a hundredth."""
    env = make_environment("MountainCarContinuous-v0")
    agent, venv = learned(kind, "MountainCarContinuous-v0", steps=150)
    assert "vecnormalize" in (doubt(agent, env, None) or "")
    assert doubt(agent, env, as_normalization(venv)) is None


def test_rewards_alone_that_were_normalised(tmp_path):
    """PPO keeps that there was a VecNormalize, not of what; its file says it."""
    agent = write_learned(tmp_path, "PPO", env=NEAR, norm_obs=False, steps=100)
    common = {"env": NEAR, "algorithm": "PPO", "episodes": 1, "steps": 2, "wandb": "disabled"}
    with refuses("vecnormalize", "none if of rewards alone"):
        attack_job(str(agent), 0.1, **common, out=str(tmp_path / "a"))
    found = attack_job(str(agent), 0.1, **common, out=str(tmp_path / "b"), vecnormalize="none")
    shutil.copy(tmp_path / "statistics.pkl", tmp_path / "vecnormalize.pkl")
    beside = attack_job(str(agent), 0.1, **common, out=str(tmp_path / "c"))
    assert beside.returns["attacked"].tolist() == found.returns["attacked"].tolist()


def test_an_attack_is_in_standard_deviations():
    w = torch.tensor([[2.0, -1.0]])
    normal = Normalization(np.array([5000.0, 0.0]), np.array([1e6, 1e4]), epsilon=0.0, clip=3.0)
    raw = np.array([[6000.0, 50.0], [9000.0, -50.0], [5000.0, -250.0]], np.float64)
    found = lo.attack_policy(lambda z: z @ w.T, raw, 0.5, kind="continuous", steps=20, normalization=normal)
    assert found.before.flatten().tolist() == pytest.approx([1.5, 6.5, 2.5], abs=1e-5)
    assert found.moved.tolist() == pytest.approx([1.5, 0.5, 1.5], abs=1e-4)  # the second is clipped at 3
    assert np.abs(found.observations[0] - raw[0]).tolist() == pytest.approx([500.0, 50.0], rel=1e-4)
    assert found.distance.tolist() == pytest.approx([0.5] * 3, abs=1e-3)
    with torch.no_grad():
        after = torch.from_numpy(normal(found.observations)) @ w.T
    assert found.after.flatten().tolist() == pytest.approx(after.flatten().tolist(), abs=1e-5)
    with refuses("normalization", "shape"):
        lo.attack_policy(lambda z: z @ w.T, raw[:, :1], 0.5, kind="continuous", normalization=normal)
    with refuses("normalization", "bytes"):
        lo.attack_policy(lambda z: z, raw.astype(np.uint8), 0.5, kind="continuous", normalization=normal)


def test_episodes_of_a_vecnormalize_keep_their_rewards_and_its_statistics():
    agent, venv = learned("PPO")
    before, plain, within = venv.obs_rms.mean.copy(), vec(), VecNormalize(vec())
    within.obs_rms = venv.obs_rms

    def returns(env: Any, *eps: float, **settings: Any) -> list[float]:
        env.seed(3)
        return attack_episodes(agent, env, 1, *eps, **settings).returns.tolist()

    assert returns(within) == returns(plain, normalization=venv)
    assert np.array_equal(within.obs_rms.mean, before)
    assert returns(within, 0.5, steps=5) == returns(plain, 0.5, steps=5, normalization=venv)
    assert attack_episodes(agent, within, 1, eps=0.5, steps=5).changed.tolist() == [1.0]
    with refuses("env", "a VecNormalize outside of all other wrappers"):
        attack_episodes(agent, VecFrameStack(VecNormalize(vec()), 2), 1)


def test_a_refined_policy_and_a_refiner_in_the_environments_units():
    agent, venv = learned("TD3")
    raw = sample_observations(make_environment(FAR), 0)[:8]
    seen = venv.normalize_obs(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = lo.RefinedPolicy(agent, steps=3).predict(seen, deterministic=True)[0]
    found = lo.RefinedPolicy(agent, steps=3, normalization=venv).predict(raw, deterministic=True)[0]
    assert np.array_equal(found, expected)
    one = lo.RefinedPolicy(agent, steps=3, normalization=venv).predict(raw[0], deterministic=True)[0]
    assert one == pytest.approx(expected[0], abs=1e-5)
    actions = agent.predict(seen, deterministic=True)[0]
    after = [
        lo.refine_action(agent, raw, actions, normalization=venv),
        lo.Refiner(agent, normalization=venv)(raw, actions),
    ]
    assert all(torch.equal(each.after, lo.refine_action(agent, seen, actions).after) for each in after)


@pytest.mark.parametrize("kind", ["PPO", "TD3"])
def test_raw_observations_given_in_python_are_warned_of(kind):
    agent, venv = learned(kind)
    raw = sample_observations(make_environment(FAR), 0)
    calls = [lambda: lo.attack_policy(agent, raw[:4], 0.1, steps=1), lambda: attack_episodes(agent, vec(), 1)]
    if kind == "TD3":
        calls.append(lambda: lo.RefinedPolicy(agent, steps=1).predict(raw[0]))
        calls.append(lambda: lo.refine_action(agent, raw, agent.predict(raw)[0], steps=1))
    for warn in calls:
        with pytest.warns(NormalizationWarning, match="observations"):
            warn()
    lo.attack_policy(agent, venv.normalize_obs(raw)[:4], 0.1, steps=1)


def test_statistics_beside_a_safetensors_agent(tmp_path):
    agent, venv = learned("TD3")
    file, env = tmp_path / "a.safetensors", make_environment(FAR)
    save_file({name: tensor.numpy() for name, tensor in agent.policy.state_dict().items()}, file)
    with pytest.warns(NormalizationWarning, match="observations reach"):
        load_actor_critic(file, env)
    venv.save(str(tmp_path / "a_vecnormalize.pkl"))
    player, raw = load_actor_critic(file, env), sample_observations(env, 0)
    expected = agent.predict(venv.normalize_obs(raw), deterministic=True)[0]
    assert player.unscale(player.actor(player.observe(raw))) == pytest.approx(expected, abs=1e-5)
    truth = true_returns(agent, tmp_path / "a_vecnormalize.pkl", range(4, 5))
    assert play_agent(load_agent(file, env), env, 4)[0] == pytest.approx(truth[0], abs=1e-4)
    np.savez(tmp_path / "three.npz", mean=np.zeros(3), var=np.ones(3))
    with refuses("normalization", "statistics of observations of shape (2,)"):
        load_agent(file, vecnormalize=tmp_path / "three.npz")
