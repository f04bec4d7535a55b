from __future__ import annotations

import dataclasses

import pytest
import torch
from loops import same
from nets import fitting, linear, mlp, randn, refuses
from safetensors.torch import save_file
from torch import Tensor, nn

from latentopt import GD, InputError, LatentOptError, Problem, Result, Status, solve
from latentopt.objectives import Unit


def network() -> nn.Sequential:
    return mlp(3, 6, 2)


@pytest.fixture
def result() -> Result:
    problem = fitting(network(), (3,), randn(4, 2, seed=1))
    problem.success = lambda value, output: value < 0.1
    return solve(problem, "adr-gd", steps=9, restarts=3, seed=7)


def test_what_is_loaded_is_what_was_saved(result, tmp_path):
    result = dataclasses.replace(result, status=(Status.STOPPED, Status.NONFINITE, Status.BUDGET, Status.STALLED))
    result.save(tmp_path / "a.safetensors")
    loaded = Result.load(str(tmp_path / "a.safetensors"))
    assert result.history["loss"].isnan().any()
    assert result.history.keys() == loaded.history.keys()
    assert all(same(values, loaded.history[name]) for name, values in result.history.items())
    for field in dataclasses.fields(Result):
        a, b = getattr(result, field.name), getattr(loaded, field.name)
        if isinstance(a, Tensor):
            assert same(a, b)
    assert loaded.status == result.status
    assert all(isinstance(status, Status) for status in loaded.status)
    assert loaded.meta == result.meta
    assert loaded.meta["seed"] == 7
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_result_whose_tensors_share_memory_is_saved_too(tmp_path):
    result = solve(Problem(nn.Identity(), Unit(), (1,), 3), GD(), steps=1)
    result.save(tmp_path / "a")
    assert torch.equal(Result.load(tmp_path / "a").x, result.x)


def test_a_file_is_overwritten_only_if_asked(result, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"mine")
    with refuses(str(path)):
        result.save(path)
    assert path.read_bytes() == b"mine"
    result.save(path, overwrite=True)
    assert same(Result.load(path).x, result.x)
    with refuses(str(tmp_path / "no")):
        result.save(tmp_path / "no" / "a")


@pytest.mark.parametrize("kept", [0, 1, 8, 100, -1])
@pytest.mark.parametrize("content", [None, b"garbage", b"\xff" * 4096, b'{"x": 1}'])
def test_truncated_files_and_garbage_are_refused(result, tmp_path, content, kept):
    path = tmp_path / "a"
    result.save(path)
    path.write_bytes(path.read_bytes()[:kept] if content is None else content)
    for wrong in (path, tmp_path / "missing", tmp_path):
        with refuses(str(wrong)):
            Result.load(wrong)


@pytest.mark.parametrize("metadata", [None, {}, {"meta": "{"}, {"meta": "{}"}])
def test_a_file_of_other_tensors_is_refused(tmp_path, metadata):
    save_file({"x": torch.zeros(2), "status": torch.tensor([0, 1])}, tmp_path / "a", metadata)
    with refuses(str(tmp_path / "a")):
        Result.load(tmp_path / "a")


def test_a_status_that_does_not_exist_is_refused(result, tmp_path):
    result = dataclasses.replace(result, status=(9, 0, 0, 0))  # pyright: ignore[reportArgumentType]
    result.save(tmp_path / "a")
    with pytest.raises(InputError, match="9 is not a valid Status"):
        Result.load(tmp_path / "a")


def test_verify_passes_with_the_same_weights_and_fails_with_others(result, tmp_path):
    result.save(tmp_path / "a")
    loaded = Result.load(tmp_path / "a")
    training, other, broken = nn.Sequential(network(), nn.Dropout(0.9)).train(), network(), network()
    loaded.verify(training)  # in eval mode, and leaves the module as it was
    assert training.training
    assert all(p.requires_grad for p in training.parameters())
    with torch.no_grad():
        linear(other, 2).bias[1] += 1e-3
        linear(broken, 2).bias[0] = float("nan")
    with pytest.raises(LatentOptError, match=r"0\.001"):
        loaded.verify(other)
    loaded.verify(other, tolerance=1.1e-3)
    for another in (broken, mlp(3, 6, 5)):
        with pytest.raises(LatentOptError):
            loaded.verify(another)


def test_the_numbers_of_statuses_are_those_of_files_that_exist():
    names = ["SOLVED", "BUDGET", "NONFINITE", "STALLED", "STOPPED", "DROPPED"]
    assert [(status.name, int(status)) for status in Status] == [(name, number) for number, name in enumerate(names)]
