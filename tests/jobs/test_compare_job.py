"""`latentopt compare`: the problem of a recipe, its files, a stop, wrong input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from files import call

import latentopt as lo
from latentopt.comparison import Comparison
from latentopt.jobs import comparer
from latentopt.jobs.attack import AttackSettings
from latentopt.jobs.compare import CompareSettings, compare, prepare, run

DIGITS = {"job": "reconstruct", "model": "mnist-vae", "targets": ["digits"], "resize": True}
ATTACK = {"job": "attack", "model": "mnist-cnn", "data": "digits.npz", "eps": 0.1}


def settings(out: Path, **changes) -> CompareSettings:
    values = {"methods": ["lbfgs,adam"], "evaluations": 20, "seeds": 2, "limit": 2, "wandb": "disabled"}
    return CompareSettings(DIGITS, **{**values, "device": "cpu", "out": str(out), **changes})


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Three images of noise and their labels by the model itself."""
    import numpy as np

    x = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = lo.load("mnist-cnn")(x).argmax(1)
    pixels = (255 * x[:, 0]).to(torch.uint8).numpy()
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels.numpy())
    monkeypatch.chdir(tmp_path)


def test_the_command_writes_its_files(tmp_path, capsys):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(DIGITS))
    words = ["--methods", "lbfgs,adam,basin-cma", "--evaluations", "20", "--seeds", "2", "--limit", "2"]
    done = call(capsys, "compare", recipe, *words, "--out", tmp_path / "o", "--wandb", "disabled", "--device", "cpu")
    assert done.code == 0
    assert "basin-cma: evaluations: expected at least" in done.out
    assert {"results.csv", "table.md", "plot.png", "recipe.yaml"} <= {path.name for path in (tmp_path / "o").iterdir()}
    assert len(rows(tmp_path / "o")) == 2 * 2 * 2 + 2
    assert yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())["problem"] == DIGITS
    lines = [json.loads(line) for line in (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()]
    runs = [(line["step"], line["method"], line["seed"]) for line in lines]
    assert runs == [(0, "lbfgs", 0), (1, "lbfgs", 1), (2, "adam", 0), (3, "adam", 1)]
    again = call(capsys, "run", tmp_path / "o" / "recipe.yaml", "--out", tmp_path / "o")
    assert (again.code, again.out) == (0, done.out)


def test_the_rows_are_those_of_compare(tmp_path):
    compare(DIGITS, ["lbfgs", "adam"], 20, None, 2, limit=2, wandb="disabled", device="cpu", out=str(tmp_path / "o"))
    problem, start, _ = comparer.open_problem(settings(tmp_path).problem_settings(), torch.device("cpu"))
    found: Comparison = lo.compare(problem, ["lbfgs", "adam"], evaluations=20, seeds=2, start=start, progress=False)
    for theirs, ours in zip(found.rows, rows(tmp_path / "o"), strict=True):
        assert {k: str(v) for k, v in theirs.items() if "seconds" not in k} == ours


def test_a_stopped_job_goes_on(tmp_path, monkeypatch):
    run(prepare(settings(tmp_path / "whole")))
    plain, calls = comparer.run_method, []

    def stopped(*args, **kwargs):
        calls.append(args[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(comparer, "run_method", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(prepare(settings(tmp_path / "parts")))
    run(prepare(settings(tmp_path / "parts")))
    assert calls == ["lbfgs", "lbfgs", "adam", "adam", "adam"]
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    with pytest.raises(lo.InputError, match="other evaluations"):
        prepare(settings(tmp_path / "parts", evaluations=30))


@pytest.mark.parametrize("targeted", [None, 3])
def test_the_problem_of_an_attack(images, tmp_path, targeted):
    attack = AttackSettings(**{k: v for k, v in ATTACK.items() if k != "job"}, targeted=targeted)
    problem, start, (_, labels) = comparer.open_problem(attack, torch.device("cpu"))
    assert start is not None
    assert problem.batch == sum(label != targeted for label in labels.tolist())
    written = run(prepare(CompareSettings({**ATTACK, "targeted": targeted}, ["pgd", "adr-gd"], 30, wandb="disabled")))
    assert "| adr-gd " in written.markdown
    assert max(int(row["forwards"]) + int(row["backwards"]) for row in rows(Path("runs/compare"))) <= 30


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"evaluations": None}, "evaluations"),
        ({"evaluations": 0}, "evaluations"),
        ({"methods": ["adam,nothing"]}, "methods"),
        ({"methods": ["adam,adam"]}, "methods"),
        ({"seeds": 0}, "seeds"),
        ({"wandb": "no"}, "wandb"),
        ({"problem": {"job": "train"}}, "problem: job"),
        ({"problem": {**DIGITS, "colour": 1}}, "problem: colour"),
        ({"problem": {"job": "reconstruct"}}, "problem"),
        ({"problem": {**DIGITS, "model": "nothing"}}, "model"),
        ({"problem": {**DIGITS, "loss": "nothing"}}, "loss"),
        ({"problem": {**ATTACK, "targets": 2}}, "problem: targets"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, changes, name):
    values = {"problem": DIGITS, "methods": ["adam"], "evaluations": 20, "out": str(tmp_path / "o"), **changes}
    with pytest.raises(lo.InputError, match=f"^{name}: "):
        prepare(CompareSettings(**values))
    assert not list(tmp_path.iterdir())
