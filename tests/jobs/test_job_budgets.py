"""The budgets of a reconstruction job are those of `solve`, for each target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from files import blobs, call, own_images, stopped_in_its_second_batch, table
from safetensors.torch import load_file

import latentopt as lo
from latentopt.inverse.initializers import Random, Regression, share_cost
from latentopt.jobs.reconstruct import reconstruct
from latentopt.operators import Downsample
from latentopt.optimizers import method
from latentopt.zoo import cards

COUNT, STEPS, RESTARTS = 5, 12, 3


def run(folder: Path, out: str, **changes: Any) -> list[dict[str, str]]:
    path = folder / "own.npy"
    if not path.exists():
        np.save(path, own_images(COUNT).numpy())
    settings = {"operator": Downsample(4), "steps": STEPS, "restarts": RESTARTS, "batch_size": 2}
    settings |= {"optimizer": method("adr-gd-soft"), "start": Random(), **changes}
    reconstruct("mnist-vae", [str(path)], out=str(folder / out), wandb="disabled", device="cpu", **settings)
    return table(folder / out)


def costs(rows: list[dict[str, str]]) -> list[tuple[int, int]]:
    return [(int(row["forwards"]), int(row["backwards"])) for row in rows]


@pytest.mark.parametrize(("evaluations", "steps"), [(22, 3), (27, 3), (28, 4), (1000, STEPS)])
def test_no_target_costs_more_than_its_evaluations(tmp_path, evaluations, steps):
    rows = run(tmp_path, "o", evaluations=evaluations)
    assert costs(rows) == [(RESTARTS * (steps + 1) + 1, RESTARTS * steps)] * COUNT
    problem = lo.Reconstruction(cards.load_generator("mnist-vae"), own_images(COUNT), Downsample(4))
    result = lo.solve(problem, "adr-gd-soft", steps=STEPS, restarts=RESTARTS, evaluations=evaluations)
    ours = load_file(tmp_path / "o" / "latents.safetensors")["latents"]
    torch.testing.assert_close(ours, result.x, rtol=0, atol=1e-4)


def test_patience_ends_targets_that_no_longer_improve(tmp_path):
    adam = lo.Adam(lr=0.3, schedule="constant")
    rows = run(tmp_path, "o", patience=5, steps=400, optimizer=adam, restarts=1, picture_every=100)
    assert {row["status"] for row in rows} == {"STALLED"}
    assert len(set(costs(rows))) > 1
    assert max(backwards for _, backwards in costs(rows)) < 400
    assert all((tmp_path / "o" / name).is_file() for name in ("trajectory.gif", "grid.png", "convergence.png"))


def test_seconds_are_for_each_batch(tmp_path):
    rows = run(tmp_path, "o", seconds=1e-6)
    assert costs(rows) == [(RESTARTS * 2 + 1, RESTARTS)] * COUNT


def test_a_budget_is_part_of_what_a_job_is_and_a_stopped_job_goes_on_with_it(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "a.npy", blobs(3, seed=0))
    words = ["reconstruct", "--model", "mnist-vae", "--targets", tmp_path / "a.npy", "--out", tmp_path / "out"]
    words += ["--steps", 9, "--restarts", 2, "--batch-size", 1, "--wandb", "disabled", "--device", "cpu"]
    budget = ["--evaluations", 20, "--patience", 50, "--seconds", 1000]
    with stopped_in_its_second_batch(monkeypatch):
        assert call(capsys, *words, *budget).code == 130
    for changed in (["--evaluations", 21], ["--patience", 49], ["--seconds", 999]):
        said = call(capsys, *words, *budget, *changed)
        assert (said.code, changed[0].strip("-") in said.err) == (2, True)
    assert call(capsys, *words).code == 2
    assert call(capsys, *words, *budget).code == 0
    learning = share_cost(Regression().pool, 3, torch.arange(3)).tolist()
    assert costs(table(tmp_path / "out")) == [(2 * 5 + 1 + share, 2 * 4) for share in learning]
