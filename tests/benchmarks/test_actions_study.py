"""`python -m benchmarks actions`, end to end on made-up agents, and what its tables say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nets import randn, refuses
from safetensors.torch import save_file
from studies import result_rows

from benchmarks.__main__ import main
from benchmarks.action_agents import AGENTS, AgentStates, agent_states, certified
from benchmarks.action_methods import CONTROL, METHODS
from benchmarks.actions import actions
from latentopt.rl.critics import FixedStateCritic
from latentopt.rl.refine import refine_action

pytest.importorskip("gymnasium")


@pytest.fixture
def pendulum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An agent of random weights on Pendulum, under the name it has in the benchmark."""
    tensors = {}
    for name, sizes in (("actor", (3, 8, 1)), ("critic_1", (4, 16, 12, 1)), ("critic_2", (4, 16, 12, 1))):
        for index, (into, out) in enumerate(pairwise(sizes)):
            tensors[f"{name}.l{index + 1}.weight"] = randn(out, into, seed=len(tensors)).float()
            tensors[f"{name}.l{index + 1}.bias"] = randn(out, seed=len(tensors)).float()
    save_file(tensors, tmp_path / "pendulum.safetensors")
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path))
    monkeypatch.setitem(AGENTS, "pendulum", ("pendulum.safetensors", "Pendulum-v1"))
    return "pendulum"


def met(name: str) -> AgentStates:
    return agent_states(name, 6, seed=0)


def test_the_command_leaves_its_tables(pendulum, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["actions", "--agents", pendulum, "--states", "8", "--milliseconds", "1", "--exact", "2"]
    assert main([*words, "--radii", "0.25", "--methods", "adam,cem", "--out", str(out)]) == 0
    text = (out / "table.md").read_text()
    for words in (
        "pendulum, critic first, box 0.25",
        "pendulum, critic min, box 0.25",
        f"**{CONTROL}**",
        "| cem ",
        "2 of 2",
    ):
        assert words in text
    rows = result_rows(out)
    assert len(rows) == 2 * 4 * 8  # critics, methods with the printed one, states
    assert all(float(row["gain"]) >= 0 for row in rows)
    assert {row["held_out"] == "" for row in rows if row["critic"] == "min"} == {True}
    assert main([*words, "--out", str(out)]) == 2  # what is there is kept
    assert "pendulum" in capsys.readouterr().out


def test_tuning_writes_a_size_of_each_method(pendulum, tmp_path):
    pytest.importorskip("optuna")
    written = actions(pendulum, "adam,pgd", "first", "1", 4, 0.5, seed=3, tune=True, out=str(tmp_path / "tune"))
    sizes = yaml.safe_load(written.markdown.split("```yaml")[1].split("```")[0])["first, radius 1"]
    assert set(sizes) == {CONTROL, "adam", "pgd"}
    assert all(size in METHODS[name].sizes for name, size in sizes.items())


def test_no_method_beats_the_exact_maximum(pendulum):
    states = met(pendulum)
    exact = certified(states, 0.5, 6, seconds=20.0)
    assert exact.closed == 6
    common: dict[str, Any] = {"radius": 0.5, "critic": "first"}
    agent = states.agent.critics, states.observations, states.actions, -1, 1
    searches: list[dict[str, Any]] = [
        {"optimizer": "adam-critic", "restarts": 8},
        {"optimizer": "gd-critic"},
        {"optimizer": "cem"},
    ]
    for options in searches:
        result = refine_action(*agent, **common, **options)
        assert (result.gain <= torch.tensor(exact.bounds) + 1e-4).all()
        if options["optimizer"] == "cem":
            assert (result.gain >= torch.tensor(exact.gains) - 0.01).all()


def test_a_critic_at_an_observation_is_the_critic(pendulum):
    states = met(pendulum)
    actions = 2 * torch.rand(5, 1) - 1
    values = FixedStateCritic(states.agent.critics.networks[0], states.observations[2])(actions)
    theirs = states.agent.critics(states.observations[[2] * 5], actions)[0]
    torch.testing.assert_close(values, theirs)


def test_what_is_not_there_is_said(pendulum, tmp_path):
    with refuses("agents"):
        actions("cheetah")
    with refuses("radii"):
        actions(radii="wide")
    with refuses("radii"):
        actions(radii="0.25,-1")
    with refuses("critics"):
        actions(critics="max")
    with refuses("LATENTOPT_DATA"):
        actions("hopper", out=str(tmp_path / "out"))
