from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from files import call, contents, stopped_in_its_second_batch, table, write_classifier
from nets import near
from PIL import Image
from safetensors.torch import load_file

import latentopt as lo
from latentopt.classification import margin
from latentopt.jobs.attack import AttackJobResult, attack
from latentopt.jobs.attack_rates import Share, count_rates
from latentopt.zoo import cards, datasets

COUNT, EPS = 20, 0.03


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> str:
    return str(write_classifier(tmp_path_factory.mktemp("linear") / "m"))


def run(model: str, out: Path, **changes: Any) -> AttackJobResult:
    settings = {"optimizer": "pgd", "steps": 10, "limit": COUNT, "batch_size": 8, "wandb": "disabled", **changes}
    return attack(
        model, settings.pop("data", "digits"), settings.pop("eps", EPS), out=str(out), device="cpu", **settings
    )


@pytest.fixture(scope="module")
def done(linear, tmp_path_factory) -> tuple[Path, AttackJobResult]:
    out = tmp_path_factory.mktemp("job") / "out"
    return out, run(linear, out, targets="all")


def adversarial(folder: Path) -> torch.Tensor:
    return load_file(folder / "adversarial.safetensors")["adversarial"]


def figures(folder: Path, name: str) -> torch.Tensor:
    """A column of a job's results."""
    return torch.tensor([float({"True": 1, "False": 0}.get(row[name], row[name])) for row in table(folder)])


def test_a_linear_classifier_is_broken_exactly_where_it_can_be(done, linear):
    """Each pixel moves as far as the ball and [0, 1] let it, towards the class that gains most by it."""
    images, labels = datasets.load_labelled("digits", limit=COUNT)
    model = cards.load_classifier(linear)
    (weight, _) = model.parameters()
    logits = model(images)
    low, high = ((images + sign * EPS).clamp(0, 1) - images for sign in (-1, 1))
    gained = (weight[None] - weight[labels][:, None]).unsqueeze(-2)  # (B, K, 1, 64)
    most = torch.maximum(gained * low.flatten(1)[:, None, None], gained * high.flatten(1)[:, None, None]).sum((2, 3))
    best = (logits - logits.gather(1, labels[:, None]) + most).scatter(1, labels[:, None], -torch.inf).amax(1)
    assert figures(done[0], "success").bool().tolist() == (best > 0).tolist()
    assert 5 <= int((best > 0).sum()) <= 15
    assert (figures(done[0], "margin") <= best + 1e-4).all()


def test_the_rows_are_what_the_saved_inputs_give(done, linear):
    out, _ = done
    images, labels = datasets.load_labelled("digits", limit=COUNT)
    model, x = cards.load_classifier(linear), adversarial(out)
    assert figures(out, "index").tolist() == list(range(COUNT))
    assert figures(out, "label").tolist() == labels.tolist()
    assert figures(out, "clean").tolist() == model(images).argmax(1).tolist()
    assert figures(out, "adversarial").tolist() == model(x).argmax(1).tolist()
    assert figures(out, "success").bool().tolist() == (model(x).argmax(1) != labels).tolist()
    near(figures(out, "margin"), margin(model(x), labels), 1e-5)
    near(figures(out, "clean_margin"), margin(model(images), labels), 1e-5)
    near(figures(out, "loss"), torch.nn.functional.cross_entropy(model(x), labels, reduction="none"), 1e-5)
    near(figures(out, "distance"), (x - images).abs().flatten(1).amax(1), 1e-6)
    assert figures(out, "distance").max() <= EPS + 1e-6


@pytest.mark.parametrize(
    "settings", [{"norm": "l2", "eps": 1.0}, {"targets": "random"}, {"start": "random", "seed": 3}]
)
def test_the_search_is_the_one_that_attack_makes(linear, tmp_path, settings):
    run(linear, tmp_path / "o", **settings)
    images, labels = datasets.load_labelled("digits", limit=COUNT)
    arguments = {"optimizer": "pgd", "steps": 10, "eps": EPS, **settings}
    found = lo.attack(cards.load_classifier(linear), images, labels, **arguments)
    near(adversarial(tmp_path / "o"), found.x, 1e-5)
    for name in ("success", "distance", "target", "first_success", "forwards", "backwards"):
        near(figures(tmp_path / "o", name), getattr(found, name).float(), 1e-5)


def test_everything_promised_is_written_and_opens(done):
    out, report = done
    names = {"results.csv", "adversarial.safetensors", "metrics.jsonl", "recipe.yaml", "grid.png", "curve.png"}
    assert {path.name for path in report.files} == names
    assert {path.name for path in out.iterdir()} == {*names, "job.json", "summary.json", "shards"}
    assert yaml.safe_load((out / "recipe.yaml").read_text())["eps"] == EPS
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(len(lines)))
    assert lines[-1]["metric/success"] == report.rates.success.rate
    assert lines[-1]["metric/robust_accuracy"] == report.rates.robust.rate


def test_the_pictures_show_what_they_say(done):
    out, _ = done
    with Image.open(out / "curve.png") as image:
        assert image.size == (910, 546)
    with Image.open(out / "grid.png") as image:
        grid = np.asarray(image)[22:]  # below the titles
    height, width = 112 + 3 * 14 + 4, 112 + 4
    assert grid.shape == (8 * height, 2 * (8 + 3 * width), 3)  # 16 images, two a row, three columns
    images, _ = datasets.load_labelled("digits", limit=COUNT)
    change = adversarial(out)[1, 0] - images[1, 0]
    scale = 0.5 / (adversarial(out)[:16] - images[:16]).abs().max()
    shown = [images[1, 0], 0.5 + scale * change, adversarial(out)[1, 0]]
    left = 8 + 3 * width + 8 + 2  # of the second image
    for at, image in enumerate(shown):
        seen = grid[2 + 7 : 114 : 14, left + at * width + 7 : left + at * width + 112 : 14, 0]
        assert np.abs(seen - (255 * image.numpy()).round()).max() <= 1
    assert (grid[116 : 112 + 42, left : left + 112] < 128).any()  # the caption


def test_a_job_stopped_in_its_second_batch_goes_on_and_ends_as_one_that_was_not(linear, tmp_path, monkeypatch, done):
    with stopped_in_its_second_batch(monkeypatch), pytest.raises(KeyboardInterrupt):
        run(linear, tmp_path / "o", targets="all")
    assert len(list((tmp_path / "o" / "shards").iterdir())) == 1
    report = run(linear, tmp_path / "o", targets="all")
    assert table(tmp_path / "o") == table(done[0])
    assert report.rates == done[1].rates
    for name in ("adversarial.safetensors", "grid.png", "curve.png", "metrics.jsonl"):
        assert (tmp_path / "o" / name).read_bytes() == (done[0] / name).read_bytes(), name
    before = contents(tmp_path)
    assert run(linear, tmp_path / "o", targets="all").rows == report.rows
    assert contents(tmp_path) == before


def test_a_fixed_target_leaves_its_own_class_out(linear, tmp_path):
    report = run(linear, tmp_path / "o", targeted=3, eps=0.3)
    assert report.targeted
    assert report.left_out == 2
    assert [row["index"] for row in report.rows] == [i for i in range(COUNT) if i % 10 != 3]
    assert {row["target"] for row in report.rows} == {3}
    assert all(row["success"] == (row["adversarial"] == 3) for row in report.rows)
    assert report.rates.success.part > 0


@pytest.mark.parametrize("targets", ["random", "least-likely"])
def test_a_chosen_target_is_another_class_and_success_is_that_class(linear, tmp_path, targets):
    report = run(linear, tmp_path / "o", targets=targets, eps=0.3)
    assert report.targeted
    assert all(row["target"] != row["label"] for row in report.rows)
    assert all(row["success"] == (row["adversarial"] == row["target"]) for row in report.rows)
    if targets == "least-likely":
        images, labels = datasets.load_labelled("digits", limit=COUNT)
        logits = cards.load_classifier(linear)(images).scatter(1, labels[:, None], torch.inf)
        assert [row["target"] for row in report.rows] == logits.argmin(1).tolist()


def test_a_file_of_images_and_labels_is_data_too(linear, tmp_path, done):
    images, labels = datasets.load_labelled("digits", limit=COUNT)
    np.savez(tmp_path / "own.npz", images=images.numpy(), labels=labels.numpy())
    run(linear, tmp_path / "o", targets="all", data=str(tmp_path / "own.npz"))
    assert table(tmp_path / "o") == table(done[0])


def test_bytes_with_their_channels_last_are_images_too(linear, tmp_path):
    images, labels = datasets.load_labelled("digits", limit=COUNT)
    pixels = (255 * images).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "own.npz", images=pixels, labels=labels.numpy().astype(np.uint8))
    report = run(linear, tmp_path / "o", data=str(tmp_path / "own.npz"))
    assert report.rates.clean == Share(19, 20)


def test_warnings_are_told_and_kept(tmp_path, capsys):
    """A cross-entropy of 1e4 times the logits has no gradient left."""
    model = write_classifier(tmp_path / "m", scale=1e5)
    words = ["attack", "--model", model, "--data", "digits", "--eps", ".01", "--limit", 3, "--wandb", "disabled"]
    words += ["--optimizer", "pgd", "--steps", 2, "--device", "cpu", "--out", tmp_path / "o"]
    for _ in range(2):  # the second time nothing is left to do
        said = call(capsys, *words)
        assert said.code == 0
        assert [
            line for line in said.err.splitlines() if line.startswith("latentopt: warning: gradients: exactly zero")
        ]
    assert "exactly zero" in (tmp_path / "o" / "metrics.jsonl").read_text()


def test_the_command_prints_rates_costs_and_files(linear, tmp_path, capsys, done):
    words = ["attack", "--model", linear, "--data", "digits", "--eps", EPS, "--limit", COUNT, "--wandb", "disabled"]
    words += ["--optimizer", "pgd", "--steps", 10, "--targets", "all", "--device", "cpu", "--out", tmp_path / "o"]
    said = call(capsys, *words)
    assert said.code == 0
    share = done[1].rates.success
    low, high = share.interval
    wanted = f"attack succeeds {100 * share.rate:6.1f} %  [{100 * low:.1f}, {100 * high:.1f}]  ({share.part} of 19)"
    assert wanted in said.out
    assert "clean accuracy    95.0 %" in said.out
    assert said.err == ""  # no terminal, no bar
    assert str(tmp_path / "o" / "curve.png") in said.out
    assert table(tmp_path / "o") == table(done[0])
    again = call(capsys, "run", tmp_path / "o" / "recipe.yaml", "--out", tmp_path / "again")
    assert again.code == 0
    assert table(tmp_path / "again") == table(tmp_path / "o")


@pytest.mark.parametrize(("part", "whole"), [(0, 7), (7, 7), (3, 10), (72, 100), (1, 1)])
def test_intervals_are_wilsons(part, whole):
    from scipy.stats import binomtest

    exact = binomtest(part, whole).proportion_ci(0.95, "wilson")
    assert Share(part, whole).interval == pytest.approx((exact.low, exact.high), abs=1e-7)


def test_rates_are_of_the_images_they_say():
    rows = [
        {"label": 1, "clean": 1, "adversarial": 2, "success": True, "first_success": 4},
        {"label": 1, "clean": 1, "adversarial": 1, "success": False, "first_success": -1},
        {"label": 1, "clean": 0, "adversarial": 0, "success": True, "first_success": 0},
    ]
    assert count_rates(rows) == (Share(2, 3), Share(1, 3), Share(1, 2))
    assert count_rates([]).success.interval == (0.0, 1.0)
