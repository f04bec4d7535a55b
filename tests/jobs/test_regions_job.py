from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from files import call, table, write_classifier
from nets import near, refill, refuses
from PIL import Image
from torch import nn

from latentopt.analysis.regions import trajectory_statistics
from latentopt.jobs.analyze.regions import regions
from latentopt.jobs.analyze.regions_cases import classifier_case, method_by_name, random_case
from latentopt.jobs.analyze.regions_runner import trajectory
from latentopt.networks.classifier import Classifier
from latentopt.reports import WrittenReport
from latentopt.zoo import cards, datasets
from latentopt.zoo.paths import shipped_folder

FILES = {"table.md", "results.csv", "plot.png", "landscape.png", "figure2.png", "metrics.jsonl", "recipe.yaml"}
FILES |= {"summary.json", "job.json"}


def run(out: Path, **changes: Any) -> WrittenReport:
    return regions(out=str(out), **{"steps": 5, "resolution": 20, "wandb": "disabled", **changes})


def test_a_random_network_has_its_pictures_and_rows(tmp_path):
    written = run(tmp_path / "out", optimizers="gd, adr-gd-paper,adr-gd", widths="2-6-1", seed=3)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    for title in ("Trajectories", "Step by step", "Units"):
        assert f"## {title}" in written.markdown
    for name in ("plot.png", "landscape.png", "figure2.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 300
    case = random_case("2-6-1", 3)
    x, values = trajectory(case.problem, method_by_name("gd", 0.05), case.start, 5, 3)
    found = trajectory_statistics(case.network, x)
    assert found.crossings is not None
    rows = [row for row in table(tmp_path / "out") if row["optimizer"] == "gd"]
    assert [int(row["flips"]) for row in rows] == found.flips[:, 0].tolist()
    assert [int(row["crossings"]) for row in rows] == found.crossings[:, 0].tolist()
    near(values[:, 0], -case.network(x[:, 0])[:, 0], 1e-12)
    near((x[1] - x[0]).norm(), torch.tensor(0.05, dtype=torch.float64), 1e-12)


def test_a_classifier_is_attacked_within_eps(tmp_path):
    model = str(write_classifier(tmp_path / "m", hidden=30))
    written = run(tmp_path / "out", model=model, data="digits", limit=3, optimizers="pgd", eps=0.3)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert "3 images" in written.markdown
    rows = table(tmp_path / "out")
    assert len(rows) == 3 * 5
    images, labels = datasets.load_labelled("digits", limit=3)
    case = classifier_case("m", cards.load_classifier(model).double(), images.double(), labels, 0.3)
    x, values = trajectory(case.problem, method_by_name("pgd", None), case.start, 5, 0)
    assert (x - images.double()).abs().max() <= 0.3 + 1e-12
    assert values[-1].mean() < values[0].mean()
    near(torch.tensor([float(row["objective"]) for row in rows[-3:]], dtype=torch.float64), values[-1], 1e-9)


def test_where_there_is_max_pooling_only_flips_are_told(tmp_path, monkeypatch):
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    classifier = Classifier(refill(module, 0, torch.float32))
    monkeypatch.setattr(cards, "load_classifier", lambda name, weights: classifier)
    written = run(tmp_path / "out", model="mnist-cnn", data="digits", limit=2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    (first,) = [line for line in written.markdown.splitlines() if line.startswith("| gd ")]
    assert [cell.strip() for cell in first.split("|")][-3:-1] == ["-", "-"]
    assert "crossings" not in table(tmp_path / "out")[0]


def test_a_smooth_classifier_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10))
    monkeypatch.setattr(cards, "load_classifier", lambda name, weights: Classifier(refill(module, 0, torch.float32)))
    with refuses("network", "piecewise-linear"):
        run(tmp_path / "out", model="mnist-cnn", data="digits", limit=2)
    assert not (tmp_path / "out").exists()


def test_the_command_and_its_recipes(tmp_path, capsys):
    words = ["--steps", 3, "--resolution", 20, "--wandb", "disabled"]
    said = call(capsys, "run", "analyze-regions", *words, "--out", tmp_path / "a")
    assert said.code == 0
    assert "seed 8" in said.out
    assert call(capsys, "analyze", "regions", *words, "--out", tmp_path / "a").code == 2
    for name in ("analyze-regions", "analyze-regions-mnist"):
        text = (shipped_folder("recipes") / f"{name}.yaml").read_text()
        assert text.startswith("# ")
        assert yaml.safe_load(text)["job"] == "analyze-regions"
