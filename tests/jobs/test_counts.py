"""What a target cost is one figure, of that target: in Python, in a job's table, in its lines, for a callback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from files import call, table, write_classifier

import latentopt as lo
from latentopt.inverse.initializers import Initializer, Nearest, Random
from latentopt.jobs.reconstruct import reconstruct
from latentopt.jobs.targets import load_images

COUNT, STEPS = 4, 5


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Nothing is learnt yet."""
    monkeypatch.setenv("LATENTOPT_CACHE", str(tmp_path / "cache"))


def forwards(folder: Path) -> list[int]:
    return [int(row["forwards"]) for row in table(folder)]


def costs(file: Path, key: str) -> list[float]:
    return [json.loads(line)[key] for line in file.read_text().splitlines()]


def job(out: Path, *more: object) -> list[object]:
    words = ["reconstruct", "--model", "mnist-vae", "--targets", "digits", "--resize", "--limit", COUNT]
    return [*words, "--steps", STEPS, "--wandb", "disabled", "--device", "cpu", "--out", out, *more]


@pytest.mark.parametrize("batch", [3, 1])
def test_the_command_line_counts_what_python_counts(tmp_path, capsys, batch):
    generator = lo.load("mnist-vae")
    assert isinstance(generator, lo.Generator)
    images = load_images("digits", shape=(1, 28, 28))[:COUNT]
    result = lo.reconstruct(generator, images, steps=STEPS)
    assert result.forwards.tolist() == [549] * COUNT  # 2,000 samples to learn from, shared out, are 500 each
    said = call(capsys, *job(tmp_path / "o", "--batch-size", batch))
    assert said.code == 0
    assert forwards(tmp_path / "o") == [549] * COUNT
    assert "549" in said.out


def test_a_start_that_an_earlier_job_learnt_is_counted_as_if_learnt_anew(tmp_path, capsys, own_cache):
    for name in ("first", "second"):
        assert call(capsys, *job(tmp_path / name)).code == 0
    assert forwards(tmp_path / "first") == forwards(tmp_path / "second") == [549] * COUNT
    assert len(list((tmp_path / "cache" / "starts").iterdir())) == 1


def test_what_does_not_divide_is_shared_to_the_last_forward(tmp_path, capsys):
    assert call(capsys, *job(tmp_path / "o", "--limit", 3, "--batch-size", 2)).code == 0
    random = job(tmp_path / "r", "--limit", 3, "--batch-size", 2, "--start", "random")
    assert call(capsys, *random).code == 0
    more = [a - b for a, b in zip(forwards(tmp_path / "o"), forwards(tmp_path / "r"), strict=True)]
    assert more == [667, 667, 666]


@pytest.mark.parametrize("start", [Nearest(100), Random()])
@pytest.mark.parametrize("limit", [1, 4])
def test_a_jobs_lines_tell_the_cost_of_a_target(tmp_path, limit, start):
    learnt = 100 // limit if isinstance(start, Nearest) else 0
    settings = {"steps": STEPS, "restarts": 2, "halving": (), "optimizer": lo.Adam(), "resize": True, "device": "cpu"}
    out = tmp_path / "o"
    reconstruct("mnist-vae", ["digits"], start=start, limit=limit, out=str(out), wandb="disabled", **settings)
    assert costs(out / "metrics.jsonl", "cost/forwards") == [learnt + 2 * t for t in range(1, STEPS + 1)]


@pytest.mark.parametrize("start", [Nearest(100), Random()])
@pytest.mark.parametrize("retries", [0, 1])
def test_callbacks_and_the_lines_that_they_write_tell_it_too(tmp_path, start: Initializer, retries):
    """When it is tried again as well, when a callback is not closed between two of them."""
    generator = lo.load("mnist-vae")
    assert isinstance(generator, lo.Generator)
    seen: list[int] = []
    watch = [lo.callbacks.JsonLines(tmp_path / "lines"), lo.Track(tmp_path / "track", "disabled")]
    settings = {"steps": STEPS, "restarts": 2, "halving": (), "optimizer": lo.Adam(), "retries": retries}
    images = load_images("digits", shape=(1, 28, 28))[:COUNT]
    callbacks = [*watch, lambda progress: seen.append(progress.forwards)]
    result = lo.reconstruct(generator, images, start=start, callbacks=callbacks, **settings)
    learnt = 25 if isinstance(start, Nearest) else 0
    first = [learnt + 2 * t for t in range(1, STEPS + 1)]
    rest = [first[-1] + 2 + 1 + 2 * t for t in range(1, STEPS + 1)]  # the last iterates, and what is returned
    expected = [*first, *(rest if retries else [])]
    assert seen == [COUNT * cost for cost in expected]
    assert costs(tmp_path / "lines", "forwards") == expected
    assert costs(tmp_path / "track/metrics.jsonl", "cost/forwards") == expected
    assert result.forwards.tolist() == [expected[-1] + 3] * COUNT


def test_an_attacks_lines_tell_the_cost_of_an_image(tmp_path, capsys):
    words = ["--model", write_classifier(tmp_path / "m", hidden=12), "--data", "digits", "--eps", 0.02, "--limit", 7]
    words += ["--batch-size", 4, "--optimizer", "pgd", "--steps", 3, "--restarts", 2, "--out", tmp_path / "o"]
    assert call(capsys, "attack", *words, "--wandb", "disabled", "--device", "cpu").code == 0
    lines = [json.loads(line) for line in (tmp_path / "o/metrics.jsonl").read_text().splitlines()]
    ends = [line["cost/forwards"] for line in lines if "metric/success" in line]
    each = forwards(tmp_path / "o")
    assert ends == pytest.approx([sum(each[:4]) / 4, sum(each[4:]) / 3])
    assert all(0 < line["cost/forwards"] <= max(ends) for line in lines)


def test_a_sample_that_leaves_early_lowers_the_mean(tmp_path):
    problem = lo.Problem(torch.nn.Identity(), lambda x: x[:, 0].abs(), (1,), 2, success=lambda value, _: value < 0.5)
    file = tmp_path / "lines"
    start = torch.tensor([[0.1], [9.0]])
    result = lo.solve(problem, "gd", steps=3, start=start, callbacks=[lo.callbacks.JsonLines(file)])
    assert costs(file, "forwards")[0] == 1
    assert costs(file, "forwards")[-1] < result.forwards.double().mean() < 5


def test_a_jobs_lines_go_on_in_later_rounds(tmp_path):
    settings = {"steps": STEPS, "restarts": 2, "halving": (), "optimizer": lo.Adam(), "resize": True, "device": "cpu"}
    out = tmp_path / "o"
    settings |= {"start": Random(), "limit": COUNT, "tolerance": 1e-9, "retries": 2}
    reconstruct("mnist-vae", ["digits"], out=str(out), wandb="disabled", **settings)
    lines = costs(out / "metrics.jsonl", "cost/forwards")
    assert len(lines) == 3 * STEPS
    assert lines == sorted(lines)
    assert abs(lines[-1] - forwards(out)[0]) <= 3  # but for the last looks
