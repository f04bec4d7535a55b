"""Sweeps: W&B's files, the trials of one without a server, and what W&B's own agent would call."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import yaml
from files import ROOT, call, change_card, contents, refused, stopped_at_parts, write_classifier
from nets import refuses
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config
from wandb_runs import LoggedRun, drop_wandb_variables

from latentopt.cli.options import parse_job
from latentopt.cli.run import choose_job
from latentopt.cli.sweep import _check_parameters
from latentopt.jobs.experiment import expanded_folder
from latentopt.jobs.records import read_results
from latentopt.jobs.sweeps import read_summary, read_sweep

SHIPPED = sorted((ROOT / "recipes" / "sweeps").glob("*.yaml"))


def test_there_are_three_sweeps():
    assert [path.stem for path in SHIPPED] == ["attack-adr-gd", "reconstruct-digits", "train-rl-pendulum"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_one_of_the_jobs_options_and_values(path):
    sweep = read_sweep(path)
    _check_parameters(sweep)
    assert sweep.metric.startswith("best/")
    assert sweep.project == "latentopt"  # as the page on tracking says


@pytest.mark.filterwarnings("ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning")  # W&B leaves the file open
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_wandbs_agent_calls_is_a_job(path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    config = load_sweep_config(str(path))
    assert config is not None
    for options in read_sweep(path).trials(3):
        command = {"args": {name: {"value": value} for name, value in options.items()}}
        held = create_sweep_command_args(command)
        held |= {"env": ["/usr/bin/env"], "program": [config["program"]]}
        words = [part for word in create_sweep_command(config["command"]) for part in _expanded(word, held)]
        assert words[:2] == ["/usr/bin/env", "latentopt"]
        parsed = parse_job(*choose_job(words[2:]))
        resolved = parsed.resolved()
        assert resolved["wandb"] == "online"
        assert str(expanded_folder("out", resolved["out"])) == "runs/sweeps/r1"
        assert {name: _at(resolved, name) for name in options} == options


def _expanded(word: str, held: dict) -> list[str]:
    return held[word[2:-1]] if word.startswith("${") else [word]


def _at(resolved: dict, name: str) -> object:
    """A field of a recipe, or of an object in it; an object without settings by its short name."""
    value: object = resolved
    for part in name.split("."):
        assert isinstance(value, dict)
        value = value[part] if part in value else value["init_args"][part]
    return value["class_path"].split(".")[-1].lower() if isinstance(value, dict) else value


def write(path: Path, **changes) -> Path:
    content = {
        "program": "latentopt",
        "command": ["${env}", "latentopt", "run", "digits", "${args}"],
        "method": "grid",
        "metric": {"name": "best/mean_loss", "goal": "minimize"},
        "parameters": {"steps": {"values": [2, 3]}, "seed": {"value": 5}},
    }
    kept = {key: value for key, value in {**content, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def test_trials_of_a_grid_are_all_of_it_in_order(tmp_path):
    parameters = {"steps": {"values": [2, 3]}, "seed": {"value": 5}, "loss": {"values": ["mse", "huber"]}}
    trials = read_sweep(write(tmp_path / "s.yaml", parameters=parameters)).trials()
    assert [tuple(trial.values()) for trial in trials] == list(product([2, 3], [5], ["mse", "huber"]))
    assert read_sweep(write(tmp_path / "s.yaml", parameters=parameters, run_cap=3)).trials() == trials[:3]


def test_random_trials_follow_their_distributions_and_the_seed(tmp_path):
    parameters = {
        "a": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0},
        "b": {"min": 1, "max": 3},
        "c": {"min": 0.0, "max": 2.0},
        "d": {"distribution": "normal", "mu": 1.0, "sigma": 0.5},
        "e": {"values": ["x", "y"]},
    }
    sweep = read_sweep(write(tmp_path / "s.yaml", method="random", parameters=parameters))
    trials = sweep.trials(400, seed=1)
    assert trials == sweep.trials(400, seed=1)
    assert trials[:5] == sweep.trials(5, seed=1)
    assert trials[:5] != sweep.trials(5, seed=2)
    assert all(0.01 <= trial["a"] <= 1 and trial["b"] in (1, 2, 3) and 0 <= trial["c"] <= 2 for trial in trials)
    below = sum(trial["a"] < 0.1 for trial in trials)  # the middle of the logarithms
    assert abs(below - 200) < 60  # 6 standard deviations
    assert {trial["b"] for trial in trials} == {1, 2, 3}
    assert {trial["e"] for trial in trials} == {"x", "y"}
    mean = sum(trial["d"] for trial in trials) / 400
    assert abs(mean - 1) < 6 * 0.5 / math.sqrt(400)
    with refuses("trials"):
        sweep.trials()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": "bayes"}, "method"),
        ({"metric": None}, "metric"),
        ({"metric": {"name": "best/mean_loss", "goal": "up"}}, "goal"),
        ({"parameters": {}}, "parameters"),
        ({"parameters": {"steps": {"min": 1, "max": 3}}}, "parameters.steps"),
        ({"parameters": {"steps": {"values": []}}}, "parameters.steps"),
        ({"parameters": {"steps": {"values": ["many"]}}}, "parameters.steps"),
        ({"parameters": {"stepz": {"values": [1]}}}, "parameters.stepz"),
        ({"parameters": {"steps": {"values": [1]}, "stepz": {"values": [1]}}}, "parameters.stepz"),
        ({"parameters": {"optimizer": {"parameters": {"lr": {"value": 1}}}}}, "parameters.optimizer"),
        ({"method": "random", "parameters": {"steps": {"distribution": "beta"}}}, "parameters.steps"),
        ({"method": "random", "parameters": {"steps": {"min": 3, "max": 1}}}, "parameters.steps"),
        ({"command": ["python", "train.py", "${args}"]}, "command"),
        ({"command": ["latentopt", "run", "digits"]}, "command"),
        ({"command": ["latentopt", "models", "list", "${args}"]}, "command"),
        ({"command": ["latentopt", "bench", "norms", "${args}"]}, "command"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate"),
        ({"run_cap": 0}, "run_cap"),
        ({"project": 3}, "project"),
    ],
)
def test_a_bad_sweep_file_is_refused_in_one_line_and_nothing_is_written(tmp_path, capsys, changes, named):
    path = write(tmp_path / "s.yaml", **changes)
    assert named in refused(capsys, "sweep", path, "--out", tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


@pytest.mark.parametrize("words", [["nix.yaml"], [], ["digits"], ["{}", "--trials", "0"], ["{}", "--wandb", "on"]])
def test_bad_options_of_a_sweep_are_refused(tmp_path, capsys, words):
    path = write(tmp_path / "s.yaml")
    refused(capsys, "sweep", *(word.format(path) for word in words))


@pytest.fixture
def attack_sweep(tmp_path) -> Path:
    model = write_classifier(tmp_path / "m", hidden=12)
    command = ["latentopt", "attack", f"--model={model}", "--data=digits", "--limit=6", "--optimizer=pgd", "${args}"]
    parameters = {"eps": {"values": [0.01, 0.3]}, "steps": {"values": [1, 4]}}
    metric = {"name": "best/success", "goal": "maximize"}
    return write(tmp_path / "s.yaml", command=command, parameters=parameters, metric=metric)


def test_a_sweep_runs_each_trial_ranks_them_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch, attack_sweep):
    words = ["sweep", attack_sweep, "--out", tmp_path / "o", "--wandb", "disabled"]
    with stopped_at_parts(monkeypatch, KeyboardInterrupt, 3):
        assert call(capsys, *words).code == 130
    first = contents(tmp_path / "o" / "trial-000")
    result = call(capsys, *words)
    assert result.code == 0
    assert contents(tmp_path / "o" / "trial-000") == first
    rows = read_results(tmp_path / "o")
    assert sorted(row["trial"] for row in rows) == [f"trial-{index:03d}" for index in range(4)]
    success = [row["best/success"] for row in rows]
    assert success == sorted(success, reverse=True)
    assert success[0] > success[-1]
    assert rows[0]["eps"] == 0.3
    for row in rows:
        recipe = yaml.safe_load((tmp_path / "o" / row["trial"] / "recipe.yaml").read_text())
        assert (recipe["eps"], recipe["steps"]) == (row["eps"], row["steps"])
        assert (read_summary(tmp_path / "o" / row["trial"]) or {})["best/success"] == row["best/success"]
    assert result.out.splitlines()[1].split()[:2] == [rows[0]["trial"], f"{success[0]:.6g}"]
    assert (tmp_path / "o" / "plot.png").stat().st_size > 1000
    assert call(capsys, *words[:2], "--out", tmp_path / "o", "--seed", "3").code == 2  # another sweep


def test_a_trial_that_is_refused_is_told_and_the_others_are_done(tmp_path, capsys, attack_sweep):
    content = yaml.safe_load(attack_sweep.read_text())
    content["parameters"] = {"eps": {"values": [0.1, -1.0]}, "steps": {"value": 1}}
    attack_sweep.write_text(yaml.safe_dump(content))
    result = call(capsys, "sweep", attack_sweep, "--out", tmp_path / "o", "--wandb", "disabled")
    assert result.code == 3
    assert "refused trial-001: eps: expected" in result.err
    assert "1 trials, 1 refused" in result.out


def test_a_sweep_whose_model_has_changed_is_refused_and_nothing_is_done(tmp_path, capsys, attack_sweep):
    words = ["sweep", attack_sweep, "--out", tmp_path / "o", "--wandb", "disabled"]
    assert call(capsys, *words, "--trials", "2").code == 0
    change_card(tmp_path / "m", std=0.5)
    before = contents(tmp_path / "o")
    assert refused(capsys, *words).split(" with other ")[1].strip() == "weights_held, card.std"
    assert contents(tmp_path / "o") == before


@pytest.mark.parametrize(
    ("keys", "variables", "expected"),
    [
        ({"project": "p", "entity": "e"}, {}, ("p", "e")),
        ({"project": "p"}, {"WANDB_PROJECT": "mine"}, ("mine", "")),
        ({}, {"WANDB_ENTITY": "me"}, ("latentopt", "me")),
    ],
)
def test_project_and_entity_of_a_sweep_are_those_of_its_trials(
    tmp_path, capsys, monkeypatch, attack_sweep, keys, variables, expected
):
    drop_wandb_variables(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    attack_sweep.write_text(yaml.safe_dump({**yaml.safe_load(attack_sweep.read_text()), **keys}))
    count = 1 + (keys == {})  # several trials are a group
    assert call(capsys, "sweep", attack_sweep, "--out", tmp_path / "o", "--trials", count).code == 0
    logged = [LoggedRun(tmp_path / "o" / f"trial-{index:03d}") for index in range(count)]
    assert {(run.project, run.entity, run.run_group) for each in logged for run in each.runs} == {(*expected, "s-o")}
    assert len({each.ids[0] for each in logged}) == count
    assert [each.config["steps"] for each in logged] == [1, 4][:count]
