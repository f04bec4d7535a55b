from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from files import DATA, ROOT, call, contents
from nets import refuses
from safetensors.torch import save_file
from torch import nn

gymnasium = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")

from latentopt.bench.kept import kept  # noqa: E402
from latentopt.bench.returns import returns  # noqa: E402
from latentopt.bench.statistics import bootstrapped  # noqa: E402
from latentopt.bench.train_rl import train_rl as bench_train_rl  # noqa: E402
from latentopt.cli.arguments import arguments_of  # noqa: E402
from latentopt.cli.recipes import read_recipe  # noqa: E402
from latentopt.jobs.refine import refine  # noqa: E402
from latentopt.jobs.train_rl import train_rl  # noqa: E402
from latentopt.rl.agents import environment  # noqa: E402
from latentopt.rl.curves import Point, final, mean_gain, whole  # noqa: E402
from latentopt.rl.episodes import episodes  # noqa: E402
from latentopt.rl.players import load_player, play  # noqa: E402
from latentopt.rl.refine import Refiner  # noqa: E402
from latentopt.rl.refinement import Refinement  # noqa: E402
from latentopt.rl.training import Training, train_agent  # noqa: E402

PENDULUM = "Pendulum-v1"
SMALL = {"hidden": [8, 8], "batch_size": 16, "learning_starts": 20, "every": 30, "episodes": 2}
JOB = {**SMALL, "env": PENDULUM, "steps": 60, "seeds": 2, "wandb": "disabled"}


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


@pytest.fixture
def agent(tmp_path):
    """A safetensors agent for Pendulum, with twin critics."""
    torch.manual_seed(0)
    tensors = {}
    for name, sizes in {"actor": (3, 8, 8, 1), "critic_1": (4, 8, 8, 1), "critic_2": (4, 8, 8, 1)}.items():
        for at, (before, after) in enumerate(pairwise(sizes), 1):
            layer = nn.Linear(before, after)
            tensors |= {f"{name}.l{at}.weight": layer.weight.data, f"{name}.l{at}.bias": layer.bias.data}
    save_file(tensors, tmp_path / "pendulum.safetensors")
    return tmp_path / "pendulum.safetensors"


def test_episodes_side_by_side_are_those_alone():
    seeds = [3, 1, 4]
    seen = []

    def act(observations, running):
        seen.append(running.tolist())
        return observations / 10

    found = episodes([Corridor() for _ in seeds], seeds, act)
    assert found.steps.tolist() == seeds
    assert found.returns == pytest.approx([sum(range(1, seed + 1)) / 10 for seed in seeds])
    assert seen == [[0, 1, 2], [0, 2], [0, 2], [2]]


def test_play_counts_the_gain_of_every_step(agent):
    environments = [environment(PENDULUM) for _ in range(2)]
    player = load_player(agent, environments[0])
    plain = play(player, environments, [5, 6], None)
    assert plain.gains.tolist() == [0, 0]
    assert plain.seconds == 0
    alone = play(player, environments[:1], [6], None)
    assert alone.returns[0] == pytest.approx(plain.returns[1], abs=1e-3)
    better = play(player, environments, [5, 6], Refiner(player.critic, -1.0, 1.0, 0.25, "gd", 3, "min"))
    assert better.steps.tolist() == [200, 200]
    assert (better.gains > 0).all()
    assert (better.returns != plain.returns).all()
    assert player.actions(np.array([[-1.0], [0.0], [0.5]])).ravel().tolist() == [-2, 0, 1]


@pytest.mark.parametrize("kind", ["TD3", "DDPG", "SAC", "TQC"])
def test_models_of_stable_baselines3_play(kind, tmp_path):
    module = pytest.importorskip("sb3_contrib") if kind == "TQC" else sb3
    model = getattr(module, kind)("MlpPolicy", PENDULUM, policy_kwargs={"net_arch": [8, 8]}, seed=0, device="cpu")
    model.save(tmp_path / "agent.zip")
    player = load_player(tmp_path / "agent.zip", environment(PENDULUM))
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = model.predict(observations, deterministic=True)[0]
    assert player.actions(player.actor(observations)) == pytest.approx(expected, abs=1e-5)
    found = Refiner(player.critic, -1.0, 1.0, 0.25, "adam", 5, "min")(observations, player.actor(observations))
    assert (found.gain >= 0).all()
    with refuses(str(tmp_path / "agent.zip"), "MountainCarContinuous-v0"):
        load_player(tmp_path / "agent.zip", environment("MountainCarContinuous-v0"))


def test_files_that_hold_no_agent(tmp_path, agent):
    (tmp_path / "no.zip").write_bytes(b"no archive")
    with refuses(str(tmp_path / "no.zip")):
        load_player(tmp_path / "no.zip", environment(PENDULUM))
    sb3.PPO("MlpPolicy", PENDULUM, n_steps=8, batch_size=8, device="cpu").save(tmp_path / "ppo.zip")
    with refuses(str(tmp_path / "ppo.zip"), "TD3, DDPG, SAC or TQC"):
        load_player(tmp_path / "ppo.zip", environment(PENDULUM))
    with refuses("MountainCarContinuous-v0", "3 and 1"):
        load_player(agent, environment("MountainCarContinuous-v0"))


def test_figures_of_a_curve():
    points = [
        Point(step, mean, mean, mean, gain, 0.0) for step, mean, gain in [(0, -9, np.nan), (1, 2, 0.5), (2, 4, 1.5)]
    ]
    assert (final(points), final(points, 0.7), whole(points), mean_gain(points)) == (4, 3, 3, 1)
    assert np.isnan(mean_gain(points[:1]))


def test_a_training_is_reproducible_and_evaluates_the_actor_alone():
    training = Training(PENDULUM, steps=45, **SMALL)
    (model, one), (_, two) = train_agent(training, 3), train_agent(training, 3)
    assert [point.step for point in one] == [0, 30, 45]
    assert [point.mean for point in one] == [point.mean for point in two]
    assert all(point.low <= point.mean <= point.high for point in one)
    assert model.num_timesteps == 45


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"env": "CartPole-v1"}, "env"),
        ({"env": "NoSuch-v0"}, "environment"),
        ({"steps": 0}, "steps"),
        ({"optimizer": "gda"}, "optimizer"),
        ({"optimizer": "gd", "epsilon": 2.0}, "epsilon"),
        ({"hidden": [0]}, "hidden"),
        ({"seeds": 0}, "seeds"),
        ({"wandb": "on"}, "wandb"),
        ({"algorithm": "ppo"}, "algorithm"),
    ],
)
def test_a_training_that_cannot_begin_writes_nothing(settings, name, tmp_path):
    with refuses(name):
        train_rl(**{**JOB, **settings, "out": str(tmp_path / "out")})
    assert not (tmp_path / "out").exists()


def test_a_stopped_training_goes_on_and_never_overwrites(tmp_path, monkeypatch):
    from latentopt.jobs import train_rl as module

    out, trained = str(tmp_path / "out"), module._trained

    def stopped(training, at, *rest):
        if at == 1:
            raise KeyboardInterrupt
        return trained(training, at, *rest)

    monkeypatch.setattr(module, "_trained", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_rl(**JOB, optimizer="gd", out=out)
    monkeypatch.setattr(module, "_trained", trained)
    first = (tmp_path / "out" / "agents" / "seed-0.zip").stat().st_mtime_ns
    report = train_rl(**JOB, optimizer="gd", out=out)
    assert (tmp_path / "out" / "agents" / "seed-0.zip").stat().st_mtime_ns == first
    assert [row["seed"] for row in report.rows] == [0, 1]
    assert all(row["gain"] > 0 for row in report.rows)
    held = contents(tmp_path / "out")
    assert {"results.csv", "metrics.jsonl", "recipe.yaml", "curve.safetensors", "curves.png"} <= set(held)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert train_rl(**JOB, optimizer="gd", out=out).rows == report.rows
    assert (tmp_path / "out" / "metrics.jsonl").read_text().splitlines() == lines
    with refuses("out", "other"):
        train_rl(**JOB, optimizer="adam", out=out)
    whole_ = train_rl(**JOB, optimizer="gd", out=str(tmp_path / "other"))
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in whole_.rows] == [
        {k: v for k, v in row.items() if k not in drop} for row in report.rows
    ]


def test_refine_on_the_command_line(capsys, tmp_path, agent):
    words = [
        "refine",
        "--agent",
        agent,
        "--env",
        PENDULUM,
        "--episodes",
        "2",
        "--refine-steps",
        "2",
        "--optimizer",
        "gd",
    ]
    words += ["--out", tmp_path / "out", "--wandb", "disabled", "--gif", "false"]
    said = call(capsys, *words)
    assert said.code == 0
    assert "return " in said.out
    assert {"results.csv", "metrics.jsonl", "recipe.yaml"} <= set(contents(tmp_path / "out"))
    again = call(capsys, *words)
    assert again.out.splitlines()[:3] == said.out.splitlines()[:3]
    other = call(capsys, *words, "--box", "1")
    assert (other.code, "other box" in other.err) == (2, True)
    wrong = call(capsys, "refine", "--agent", agent, "--env", "CartPole-v1", "--out", tmp_path / "new")
    assert (wrong.code, wrong.out) == (2, "")
    assert not (tmp_path / "new").exists()


def test_a_smooth_critic_has_no_gates_to_drive(tmp_path):
    from latentopt.errors import InputError

    model = sb3.TD3("MlpPolicy", PENDULUM, policy_kwargs={"net_arch": [8], "activation_fn": nn.Tanh}, device="cpu")
    model.save(tmp_path / "smooth.zip")
    with pytest.raises(InputError, match=r"ReLU|gates|piecewise"):
        refine(str(tmp_path / "smooth.zip"), PENDULUM, optimizer="adr-gd", out=str(tmp_path / "out"), wandb="disabled")
    assert not (tmp_path / "out").exists()


def test_the_film_of_an_episode(tmp_path, agent):
    pytest.importorskip("pygame")
    from PIL import Image

    report = refine(str(agent), PENDULUM, episodes=1, refine_steps=1, out=str(tmp_path / "out"), wandb="disabled")
    assert np.isnan(report.error)
    with Image.open(tmp_path / "out" / "episode.gif") as film:
        assert film.size == (500, 250)
        assert 60 <= film.n_frames <= 120  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_kept_is_not_done_again(tmp_path):
    calls = []

    def work():
        calls.append(1)
        return {"value": 3}

    path = tmp_path / "kept" / "one.json"
    assert kept(path, {"seed": 1}, work) == kept(path, {"seed": 1}, work) == {"value": 3}
    assert len(calls) == 1
    with refuses("out"):
        kept(path, {"seed": 2}, work)


def test_the_bootstrap_interval():
    values = np.random.default_rng(1).normal(2.0, 1.0, 200)
    found = bootstrapped(values.tolist())
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.mean - 1.96 * found.error, found.mean + 1.96 * found.error), abs=0.02
    )
    assert bootstrapped([1.0]).low == -np.inf
    assert bootstrapped([2.0, 2.0]).low == 2


def test_bench_train_rl(tmp_path):
    settings = {"algorithms": "ddpg", "refinements": "gradient-ascent", "steps": 120, "quick": True}
    written = bench_train_rl(**settings, out=str(tmp_path))
    assert written.markdown.count("gradient-ascent") == 2
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "trained").iterdir()}
    assert len(times) == 4
    with refuses("out"):
        bench_train_rl(**settings, out=str(tmp_path))
    bench_train_rl(**settings, out=str(tmp_path), overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "trained").iterdir()} == times
    with refuses("refinements"):
        bench_train_rl(refinements="cem", out=str(tmp_path / "other"))


def test_bench_returns(tmp_path):
    if not (DATA / "rl_sb3/ddpg_LunarLanderContinuous-v2.safetensors").is_file():
        pytest.skip("LATENTOPT_DATA has no agents")
    pytest.importorskip("Box2D")
    written = returns(quick=True, out=str(tmp_path))
    assert "gradient-ascent" in written.markdown
    with refuses("boxes"):
        returns(boxes="a", out=str(tmp_path / "other"))
    with refuses("agents"):
        returns(agents="ant", out=str(tmp_path / "other"))


def train_rl_recipes() -> list[str]:
    return [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml")) if "\njob: train-rl\n" in path.read_text()]


@pytest.mark.parametrize("name", train_rl_recipes())
def test_recipes_of_training(name):
    arguments, _ = arguments_of("train-rl", train_rl, [], read_recipe(name))
    assert arguments["out"] == f"runs/{name}"
    assert arguments["algorithm"] in name
    if name.startswith("pendulum"):
        assert (arguments["steps"], arguments["seeds"]) == (20_000, 5)
    else:
        paper = Refinement.paper()
        refinement = Refinement(*(arguments[key] for key in ("epsilon", "optimizer", "refine_steps", "box", "critic")))
        assert refinement == paper


def test_a_recipe_is_trained(capsys, tmp_path):
    words = ["--steps", "30", "--seeds", "1", "--hidden", "[4,4]", "--every", "30", "--episodes", "1"]
    out = tmp_path / "out"
    said = call(capsys, "train-rl", "pendulum-ddpg-adr-gd", *words, "--out", out, "--wandb", "disabled")
    assert (said.code, "1 agents" in said.out) == (0, True)
    said = call(capsys, "train-rl", "digits")
    assert (said.code, "train-rl" in said.err) == (2, True)


def test_what_is_said_without_the_extra(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.delitem(sys.modules, "latentopt.rl.algorithms")
    with pytest.raises(ImportError, match=r"stable_baselines3.*pip install 'latentopt\[rl\]'"):
        importlib.import_module("latentopt.rl.algorithms")


def test_the_python_of_the_page_on_agents_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/agents.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    assert (names["gain"] >= 0).all()
    assert names["agent"].refinement == Refinement(epsilon=0.5)
