"""A result holds the best input of every restart, for several answers to one question."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import latentopt as lo
from latentopt import objectives, operators, sets

torch.manual_seed(0)
BODY = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))).eval()
GENERATOR = lo.Generator(BODY, latent_shape=(4,))
TARGET = GENERATOR(GENERATOR.latents(2, seed=3)).detach()
NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
PROBLEM = lo.Problem(NET, objectives.Unit(), (3,), 2, sets.Box(-1.0, 1.0))


@pytest.mark.parametrize("restarts", [1, 4])
def test_a_result_holds_every_restart(restarts):
    result = lo.solve(PROBLEM, "pgd", steps=3, restarts=restarts)
    assert result.all_x.shape == (restarts, 2, 3)
    assert torch.equal(result.all_x[result.restart, torch.arange(2)], result.x)
    assert torch.equal(result.all_value.min(0).values, result.all_value[result.restart, torch.arange(2)])
    again = torch.stack([PROBLEM.evaluate(x).value for x in result.all_x])
    assert torch.allclose(again, result.all_value)


def test_one_sample_and_many_restarts_give_many_results():
    alike = lo.Reconstruction(GENERATOR, TARGET[:1], operators.Downsample(8))
    result = lo.solve(alike, "adam", steps=3, restarts=5)
    assert len(result.all_x[:, 0].unique(dim=0)) == 5


def test_results_of_retries_follow_those_of_the_first_attempt():
    result = lo.reconstruct(
        GENERATOR,
        torch.cat([TARGET[:1], 1 - TARGET[1:]]),
        tolerance=1e-3,
        retries=1,
        steps=60,
        restarts=2,
        start="random",
    )
    assert result.status[0] == lo.Status.SOLVED != result.status[1]
    assert result.all_x.shape == (4, 2, 4)
    assert result.all_value[2:, 0].isnan().all()
    assert result.all_value[2:, 1].isfinite().all()
    assert torch.equal(result.all_x[result.restart, torch.arange(2)], result.x)


def test_a_result_of_a_file_without_restarts_is_read(tmp_path):
    lo.solve(PROBLEM, "pgd", steps=1).save(tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        metadata = file.metadata()
    tensors = {n: t for n, t in load_file(tmp_path / "new.safetensors").items() if not n.startswith("all_")}
    save_file(tensors, tmp_path / "old.safetensors", metadata)
    assert lo.Result.load(tmp_path / "old.safetensors").all_x.numel() == 0
    assert lo.Result.load(tmp_path / "new.safetensors").all_x.shape == (1, 2, 3)
