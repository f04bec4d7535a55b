"""Folders of runs are read back, typed, and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from files import QUICK, call, contents, table, write_model
from nets import refuses
from safetensors.torch import save_file

import latentopt as lo
from latentopt.reports import csv_text


def write_run(folder: Path, optimizer: str, losses: list[float], names: list[str] | None = None, **more: Any) -> Path:
    """A folder as a job of reconstruction leaves it."""
    folder.mkdir(parents=True)
    recipe = {"job": "reconstruct", "steps": 5, "out": str(folder), "optimizer": {"class_path": optimizer}, **more}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    rows = [{"name": f"{i}", "loss": loss, "solved": i == 0, "forwards": 10 + i} for i, loss in enumerate(losses)]
    rows = [{**row, "name": name} for row, name in zip(rows, names or [row["name"] for row in rows], strict=True)]
    (folder / "results.csv").write_text(csv_text(rows))
    lines = [{"step": t, "loss/best": 1 / (t + 1), "cost/forwards": 2.0 * t} for t in range(3)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "summary.json").write_text(json.dumps({"best/mean_loss": sum(losses) / len(losses)}))
    save_file({"latents": torch.arange(len(losses)).double()}, folder / "latents.safetensors")
    return folder


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    first = write_run(tmp_path / "a", "adam", [1.0, 2.0, 4.0])
    return first, write_run(tmp_path / "b", "lbfgs", [3.0, 1.0, 1.0], ["2", "0", "7"], tolerance=0.1)


def test_a_run_is_read_with_its_types(two):
    run = lo.read_run(two[0])
    assert (run.settings["steps"], run.settings["optimizer"]) == (5, {"class_path": "adam"})
    assert run.rows[0] == {"name": "0", "loss": 1.0, "solved": True, "forwards": 10}
    assert [row["solved"] for row in run.rows] == [True, False, False]
    assert run.metrics[2]["cost/forwards"] == 4.0
    assert run.best == {"mean_loss": 7 / 3}
    assert run.finished
    assert run.tensor.tolist() == [0, 1, 2]
    assert "mean_loss=2.333" in repr(run)
    assert len(repr(run).splitlines()) == 1
    assert "<img" in run._repr_html_()


def test_runs_are_compared_side_by_side_and_in_pairs(two):
    found = lo.compare_runs(*map(str, two))
    assert found.settings == {"optimizer": {"a": "adam", "b": "lbfgs"}, "tolerance": {"a": None, "b": 0.1}}
    assert found.figures["loss"] == {"a": 7 / 3, "b": 5 / 3}
    assert found.figures["solved"]["a"] == pytest.approx(1 / 3)
    difference = found.differences["loss"]["b"]  # of the names 0 and 2: 1 - 1 and 3 - 4
    assert (difference.mean, difference.low < -0.5 < difference.high) == (-0.5, True)
    text = found.markdown()
    assert "## Settings that differ" in text
    assert "| optimizer | adam | lbfgs |" in text
    assert "| loss " in text
    assert "-0.5 [" in text
    assert found.rows[1]["run"] == "b"
    assert found.csv().splitlines()[0].startswith("run,optimizer,tolerance,job,samples,mean_loss,loss")
    assert found.plot().axes[0].get_xlabel() == "forwards of a sample"


def test_samples_that_have_numbers_alone_are_paired_only_on_the_same_data(tmp_path):
    for name, data in (("a", "mnist"), ("b", "mnist"), ("c", "digits")):
        folder = write_run(tmp_path / name, "adam", [0.0], data=data)
        (folder / "results.csv").write_text(csv_text([{"index": i, "margin": float(i)} for i in range(3)]))
    assert lo.compare_runs(tmp_path / "a", tmp_path / "b").differences["margin"]["b"].mean == 0
    assert lo.compare_runs(tmp_path / "a", tmp_path / "c").differences == {}


def test_runs_of_one_name_keep_their_paths(tmp_path):
    for parent in "xy":
        write_run(tmp_path / parent / "run", "adam", [1.0])
    assert list(lo.compare_runs(tmp_path / "x/run", tmp_path / "y/run").runs) == [
        str(tmp_path / parent / "run") for parent in "xy"
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.yaml", "- 1"),
        ("recipe.yaml", "{"),
        ("results.csv", b"\xff\xfe"),
        ("results.csv", "a,b\n1,2,3\n"),
        ("metrics.jsonl", "{\n"),
        ("summary.json", "[1]"),
        ("summary.json", ""),
    ],
)
def test_a_file_that_no_run_wrote_is_named_in_one_line(two, name, content, capsys):
    (two[0] / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = call(capsys, "compare", *two)
    assert (said.code, said.err.count("\n"), said.out) == (2, 1, "")
    assert name in said.err


def test_what_is_no_run_is_refused(two, tmp_path):
    for folders, name in (
        ([two[0]], "runs"),
        ([two[0], two[0]], "runs"),
        ([two[0], tmp_path], str(tmp_path)),
        ([two[0], "no/such"], "no/such"),
    ):
        with refuses(name):
            lo.compare_runs(*folders)
    (two[0] / "latents.safetensors").unlink()
    with refuses(str(two[0])):
        _ = lo.read_run(two[0]).tensor
    with pytest.raises(lo.InputError, match="read_run"):
        lo.Result.load(job_tensor(two[1]))


def job_tensor(folder: Path) -> Path:
    path = folder / "latents.safetensors"
    save_file({"latents": torch.zeros(1)}, path, {"names": "[]", "job": "{}"})
    return path


@pytest.mark.parametrize("words", [["--ot", "x"], ["--out"], ["--out", ""], ["--out", "x", "y"], ["--methods", "adam"]])
def test_wrong_options_are_one_line_and_write_nothing(two, words, tmp_path, capsys):
    before = contents(tmp_path)
    said = call(capsys, "compare", *two, *words)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert contents(tmp_path) == before


def test_the_command_compares_jobs_and_keeps_the_tables(tmp_path, capsys):
    model = write_model(tmp_path / "m")
    for name in ("adam", "pgd"):
        words = ["reconstruct", "--model", model, "--targets", "digits", "--limit", 3, "--resize", "--start", "random"]
        assert call(capsys, *words, *QUICK, "--optimizer", name, "--out", tmp_path / name).code == 0
    said = call(capsys, "compare", tmp_path / "adam", tmp_path / "pgd", "--out", tmp_path / "o")
    assert said.code == 0, said.err
    assert "| optimizer " in said.out
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["plot.png", "results.csv", "table.md"]
    rows = table(tmp_path / "o")
    assert [row["run"] for row in rows] == ["adam", "pgd"]
    mean = sum(float(row["loss"]) for row in table(tmp_path / "pgd")) / 3
    assert float(rows[1]["mean_loss"]) == pytest.approx(mean)
    before = contents(tmp_path / "o")
    again = call(capsys, "compare", tmp_path / "adam", tmp_path / "pgd", "--out", tmp_path / "o")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert contents(tmp_path / "o") == before
