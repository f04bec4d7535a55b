from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from files import call, table, write_classifier
from nets import near
from PIL import Image

from latentopt.analysis.dynamics import compare_dynamics, input_hessian_eigs
from latentopt.jobs.analyze.dynamics import dynamics
from latentopt.reports import WrittenReport
from latentopt.zoo import cards, datasets
from latentopt.zoo.paths import shipped_folder

COUNT, STEPS = 12, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_classifier(tmp_path_factory.mktemp("relu") / "m", hidden=30))


def run(model: str, out: Path, **changes: Any) -> WrittenReport:
    settings = {"data": "digits", "limit": COUNT, "steps": STEPS, "wandb": "disabled", "device": "cpu", **changes}
    return dynamics(model, out=str(out), **settings)


@pytest.fixture(scope="module")
def done(model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("job") / "out"
    run(model, out)
    return out


def test_everything_is_written(done):
    names = {path.name for path in done.iterdir()}
    records = {"metrics.jsonl", "recipe.yaml", "job.json", "summary.json"}
    assert names == {"table.md", "results.csv", "plot.png", "confidence.png", *records}
    assert yaml.safe_load((done / "recipe.yaml").read_text())["job"] == "analyze-dynamics"
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert [line["m"] for line in lines] == [1, 2, 3, 4] * 3
    assert {"error/eigen", "error/first-order", "error/region-exact", "flips", "loss/total"} <= set(lines[0])
    with Image.open(done / "plot.png") as plot, Image.open(done / "confidence.png") as confidence:
        assert min(*plot.size, *confidence.size) > 300
    text = (done / "table.md").read_text()
    for title in ("Error after the last step", "What flips explain", "Error by step", "Gradients by confidence"):
        assert f"## {title}" in text


def test_the_rows_are_what_the_functions_say(done, model):
    x, y = datasets.load_labelled("digits", limit=COUNT)
    network, x = cards.load_classifier(model).double(), x.double()
    top = input_hessian_eigs(network, x, y, k=1).values[:, 0]
    found = compare_dynamics(network, x, y, 0.5 / (STEPS * top), STEPS)
    rows = table(done)
    assert len(rows) == 3 * COUNT
    own = [row for row in rows if row["setting"] == "a m l_1 = 0.5"]
    assert [int(row["label"]) for row in own] == y.tolist()
    assert [int(row["flips"]) for row in own] == found.flips[-1].tolist()
    near(torch.tensor([float(row["error_eigen"]) for row in own]).double(), found.error["eigen"][-1], 1e-7)
    near(torch.tensor([float(row["top"]) for row in own]).double() / top, torch.ones(COUNT).double(), 1e-6)
    shared = {float(row["step"]) for row in rows if row["setting"].endswith("for all")}
    assert len(shared) == 1
    assert shared.pop() == pytest.approx(0.5 / (STEPS * float(top.quantile(0.9))), rel=1e-6)


def test_one_step_size_and_other_batches(model, tmp_path):
    for name, size in (("one", 5), ("other", 100)):
        run(model, tmp_path / name, limit=6, step=0.01, batch_size=size, noise=0.1)
    one, other = (table(tmp_path / name) for name in ("one", "other"))
    assert {row["setting"] for row in one} == {"a = 0.01"}
    for key in ("error_eigen", "parameters_end", "flips"):
        for a, b in zip(one, other, strict=True):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-6, abs=1e-12)


def test_the_command_and_its_recipe(model, tmp_path, capsys):
    words = ["--model", model, "--data", "digits", "--limit", 3, "--steps", 2, "--wandb", "disabled", "--device", "cpu"]
    said = call(capsys, "run", "analyze-dynamics", *words, "--growth", "[0.1]", "--out", tmp_path / "a")
    assert said.code == 0
    assert "a m l_1 = 0.1" in said.out
    said = call(capsys, "analyze", "dynamics", *words, "--growth", "[0.1]", "--out", tmp_path / "a")
    assert said.code == 2
    assert "out" in said.err
    assert (shipped_folder("recipes") / "analyze-dynamics.yaml").read_text().startswith("# ")
