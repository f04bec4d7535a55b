"""Help, its examples, dry runs: what the command line tells before it does anything."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from files import ROOT, call, contents, write_classifier, write_mnist
from safetensors.torch import load_file

from latentopt.cli import run_folders
from latentopt.cli.help import EXAMPLES
from latentopt.cli.options import parse_job
from latentopt.cli.registry import COMMANDS, JOBS
from latentopt.cli.run import choose_job

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
LINES = dict.fromkeys(
    [*EXAMPLES, *(line for command in COMMANDS.values() for line in command.examples)]
    + [line for job in JOBS.values() for line in job.examples]
)
"""Every example of every help, once."""
LOOKS = {"models", "recipes", "doctor", "completion", "sweep"}
QUICK = (
    "latentopt models list",
    "latentopt models show mnist-vae",
    "latentopt recipes list",
    "latentopt recipes show digits",
    "latentopt recipes copy pgd my-attack.yaml",
    "latentopt run digits --steps 50 --dry-run",
    "latentopt train-rl pendulum-ddpg --seeds 1 --steps 2000 --out runs/quick-ddpg --dry-run",
    "latentopt diagnose --model mnist-vae --samples 4 --steps 20 --restarts 2",
    "latentopt reconstruct --model mnist-vae --targets digits --resize --limit 4 --steps 20 --out runs/quick",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files of MNIST's names, whether or not there are others."""
    return write_mnist(tmp_path_factory.mktemp("data"), train=1600, test=500)


@pytest.fixture(autouse=True)
def _data(data, monkeypatch):
    monkeypatch.setenv("LATENTOPT_DATA", str(data))


def test_every_command_has_two_to_four_examples():
    helps = {name: command.examples for name, command in COMMANDS.items()}
    helps |= {job.words: job.examples for job in JOBS.values()}
    assert {name for name, lines in helps.items() if not 2 <= len(lines) <= 4} == set()
    for name, lines in helps.items():
        assert all(f"latentopt {name}" in line or f"latentopt run {name.replace(' ', '-')}" in line for line in lines)


def commands(line: str) -> list[list[str]]:
    """The words of an example's calls of latentopt."""
    words = [shlex.split(part) for part in line.replace('eval "$(', "").replace(')"', "").split("&&")]
    return [part[1 : part.index(">") if ">" in part else None] for part in words]


@pytest.mark.parametrize("line", LINES)
def test_every_example_parses(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in commands(line):
        assert words[0] in COMMANDS
        if words[0] == "sweep":
            words[1] = str(ROOT / words[1])
            assert call(capsys, *words, "--dry-run").code == 0
        elif words[0] in LOOKS:
            assert words[0] == "doctor" or call(capsys, *words).code == 0
        elif folders := run_folders(words[1:] if words[0] == "compare" else []):
            assert len(folders) == 2
        else:
            job, rest, recipe = choose_job(words)
            assert parse_job(job, rest, recipe).dry == ("--dry-run" in words)


@pytest.mark.parametrize("line", QUICK)
def test_a_quick_example_runs(line, tmp_path, monkeypatch, capsys):
    assert line.removesuffix(" --dry-run") in LINES or line in LINES
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (words,) = commands(line)
    said = call(capsys, *words)
    assert said.code == 0
    assert said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_shows_its_examples(name, capsys):
    said = call(capsys, name, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"usage: latentopt {name}")
    assert all(f"  {line}\n" in said.out for line in COMMANDS[name].examples)
    assert not re.search(r"\{\d*\}", said.out)  # no pattern that was never filled in
    assert call(capsys, "help", name) == said


@pytest.mark.parametrize("words", [("analyze", "regions"), ("run", "digits"), ("train-rl", "pendulum-td3")])
def test_the_help_of_a_named_job_has_its_options_and_examples(words, capsys):
    said = call(capsys, *words, "--help")
    assert said.code == 0
    assert "--dry_run" in said.out
    assert "\nexamples:\n  latentopt " in said.out


def test_help_of_a_group_lists_its_names(capsys):
    names = [job.words.split()[1] for job in JOBS.values() if job.words.startswith("analyze ")]
    said = call(capsys, "analyze", "--help").out
    assert all(f"\n  {name} " in said for name in names)


def test_bench_says_where_it_went(capsys):
    said = call(capsys, "bench", "norms", "--quick")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "python -m benchmarks NAME" in said.err


QUICK_ANSWERS = {
    "--help": 0,
    "--version": 0,
    "analyze --help": 0,
    "attack --help": 0,
    "reconstruct --help": 0,
    "attack --model mnist-cnn --data mnist --eps 0.1 --optimizer adam --optimizer.lr 0.1 --dry-run": 0,
    "run digits --dry-run": 0,
    "models list": 0,
    "completion bash": 0,
    "reconstruct --model mnist-vae --targets no-such.png": 2,
    "attack --model mnist-cnn --data mnist --eps 0.1 --optimizer adam --optimizer.rate 1": 2,
    "attack --model mnist-cnn --data mnist --eps 0.1 --colour red": 2,
}
HEAVY = ("torch", "lightning", "torchvision", "wandb", "matplotlib")
SCRIPT = """
import json, os, sys, time
from latentopt.cli import main

def run(words):
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code or 0
    heavy = [name for name in {heavy!r} if name in sys.modules]
    sys.stdout.flush()
    print(json.dumps([" ".join(words), code, heavy, started + time.process_time()]), file=sys.stderr)

started = time.process_time()
for line in sys.argv[1:]:
    if not (child := os.fork()):
        run(line.split())
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each command runs in a fork of one process")
def test_help_dry_runs_and_refusals_import_nothing_heavy(tmp_path):
    command = [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *QUICK_ANSWERS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    answers = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    assert [tuple(answer[:3]) for answer in answers] == [(words, code, []) for words, code in QUICK_ANSWERS.items()]
    assert max(seconds for *_, seconds in answers) < 1.5


def dry(capsys, *words) -> dict:
    said = call(capsys, *words, "--dry-run")
    assert (said.code, said.err) == (0, "")
    return yaml.safe_load(said.out)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("run", "digits", "--optimizer", "adr-gd", "--loss=huber", "--batch-size", "3"), id="reconstruct"),
        pytest.param(("run", "portfolio", "--eps", "0.1", "--limit", "4"), id="attack"),
        pytest.param(
            ("attack", "--model", "mnist-cnn", "--data", "mnist", "--eps", "0.1", "--limit", "2"), id="options"
        ),
        pytest.param(("diagnose", "--model", "mnist-vae", "--start", "random", "--steps", "7"), id="diagnose"),
        pytest.param(("train", "train-mnist-vae", "--epochs", "3", "--module.beta", "0.5"), id="train"),
        pytest.param(("analyze", "regions", "--model", "random-2d", "--seed", "4"), id="analyze"),
        pytest.param(("analyze", "capped", "--betas", "0.1", "--seeds", "1"), id="capped"),
    ],
)
def test_what_a_dry_run_prints_is_the_same_job_again_and_nothing_is_written(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    resolved = dry(capsys, *words)
    assert contents(tmp_path) == {}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
    assert dry(capsys, "run", "mine.yaml") == resolved
    job, rest, recipe = choose_job(["run", "mine.yaml"])
    again = parse_job(job, rest, recipe)
    first = parse_job(*choose_job(list(words)))
    assert again.resolved() == first.resolved() == resolved
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_the_job_of_a_dry_runs_recipe_is_the_job_that_was_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = str(write_classifier(tmp_path / "m", hidden=12))
    words = [
        "--model",
        model,
        "--data",
        "digits",
        "--eps",
        "0.02",
        "--limit",
        "4",
        "--optimizer",
        "pgd",
        "--steps",
        "3",
    ]
    words += ["--wandb", "disabled", "--device", "cpu"]
    resolved = dry(capsys, "attack", *words, "--out", "one")
    assert not (tmp_path / "one").exists()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(resolved))
    assert call(capsys, "attack", *words, "--out", "one").code == 0
    assert call(capsys, "run", "mine.yaml", "--out", "two").code == 0
    one, two = (yaml.safe_load((tmp_path / name / "recipe.yaml").read_text()) for name in ("one", "two"))
    assert {**one, "out": ""} == {**two, "out": ""}
    assert {**resolved, "optimizer": 0} == {**one, "optimizer": 0}
    found = [load_file(tmp_path / name / "adversarial.safetensors")["adversarial"] for name in ("one", "two")]
    assert bool((found[0] == found[1]).all())


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("attack", "--model", "nix", "--data", "mnist", "--eps", "0.1"), "model"),
        (("attack", "--model", "mnist-cnn", "--data", "mnist", "--eps", "-1"), "eps"),
        (("run", "digits", "--steps", "0"), "steps"),
        (("run", "digits", "--noise", "-1"), "noise"),
        (("run", "digits", "--tolerance", "0"), "tolerance"),
        (("run", "digits", "--out", "taken"), "out"),
        (("analyze", "regions", "--model", "random-2d", "--out", "taken"), "out"),
        (("train", "train-mnist-vae", "--out", "models", "--name", "mine"), "out"),
    ],
)
def test_a_dry_run_refuses_what_the_job_would_refuse(words, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path in ("taken/table.md", "taken/other.txt", "models/mine/card.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    before = contents(tmp_path)
    said = call(capsys, *words, "--dry-run")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert f"{name}: expected" in said.err
    assert contents(tmp_path) == before


def test_every_shipped_recipe_resolves():
    for name in RECIPES:
        job, rest, recipe = choose_job(["run", name])
        resolved = parse_job(job, rest, recipe).resolved()
        assert resolved["job"] == job.name
        assert set(recipe or {}) <= set(resolved)


def test_a_results_folder_may_name_an_environment_variable(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    job, rest, recipe = choose_job(["run", "digits", "--out", "runs/$WANDB_RUN_ID"])
    assert job.module().prepare(parse_job(job, rest, recipe).settings).folder == Path("runs/abc")
