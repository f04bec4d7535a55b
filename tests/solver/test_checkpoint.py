"""A solve that was stopped goes on from its file and ends, bit by bit, as one that was not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import METHODS, ROUGH, posed, rough, same_results
from nets import Counted, conv, fitting, mlp, randn, refuses
from safetensors.torch import save_file
from torch import nn

from latentopt import GD, LBFGS, Adam, Batch, Problem, Result, Status, maximize, solve
from latentopt.objectives import MSE, Fit
from latentopt.operators import Identity
from latentopt.optimizers import Optimizer
from latentopt.optimizers.base import Cost, Step
from latentopt.sets import Box, Free, LinfBall
from latentopt.solver.callbacks import Progress, StopBelow


class KilledError(Exception):
    pass


def killed_at(step: int):
    def callback(progress: Progress) -> None:
        if progress.t == step:
            raise KilledError

    return callback


def stopped_and_resumed(call, at: int, **settings: Any) -> Result:
    """The result of a solve that was killed in the step ``at``, and started again."""
    with pytest.raises(KilledError):
        call(callbacks=[killed_at(at)], **settings)
    return call(**settings)


@pytest.mark.parametrize(
    ("method", "at"),
    [  # quick ones: each method once
        pytest.param(method, at, id=f"{name}-{at}", marks=[pytest.mark.slow] * ((i - j) % 3 > 0))
        for i, (name, method) in enumerate(METHODS.items())
        for j, at in enumerate((2, 5, 9))
    ],
)
def test_a_resumed_solve_is_the_uninterrupted_one_bit_by_bit(method: Optimizer, at, tmp_path):
    """Rows have left, gone back and stalled by then."""

    def call(**settings: Any) -> Result:
        problem, start = rough()
        return solve(problem, method, start=start, **{**ROUGH, "evaluations": 200}, **settings)

    whole = call()
    at = min(at, len(whole.history["loss"]))
    assert same_results(stopped_and_resumed(call, at, checkpoint=tmp_path / "a", checkpoint_every=3), whole)


@pytest.mark.parametrize("at", [3, 4, 6, 9])
def test_a_solve_with_halving_resumes_exactly(at, tmp_path):
    settings = {"steps": 9, "restarts": 5, "halving": [(3, 3), (6, 2)], "patience": 5}
    call = partial(solve, posed(), LBFGS(memory=3), **settings)
    assert same_results(stopped_and_resumed(call, at, checkpoint=tmp_path / "a", checkpoint_every=at - 1), call())


@pytest.mark.parametrize("method", [METHODS["adr-gd-paper"], METHODS["pgd"], METHODS["adam"]])
def test_a_convolutional_network_in_single_precision_resumes_exactly(method, tmp_path):
    network = conv(dtype=torch.float32).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    start = randn(2, 5, 5, 1, seed=4, dtype=torch.float32).permute(0, 3, 1, 2)

    def call(**settings: Any) -> Result:
        problem = fitting(network, (1, 5, 5), randn(2, 3, dtype=torch.float32), Box(-5.0, 5.0))
        return solve(problem, method, steps=12, restarts=2, start=start, **settings)

    assert same_results(stopped_and_resumed(call, 8, checkpoint=tmp_path / "a", checkpoint_every=3), call())


def test_a_solve_may_be_stopped_again_and_again(tmp_path):
    def call(**settings: Any) -> Result:
        return solve(posed(), "adam", steps=20, checkpoint=tmp_path / "a", checkpoint_every=2, **settings)

    seen: list[int] = []
    for at in (5, 6, 13):
        with pytest.raises(KilledError):
            call(callbacks=[lambda progress: seen.append(progress.t), killed_at(at)])
    assert seen == [1, 2, 3, 4, 5, 5, 6, 5, 6, 7, 8, 9, 10, 11, 12, 13]  # at 6 it was killed before it had written
    assert same_results(call(), solve(posed(), "adam", steps=20))


class Uneven(GD):
    """Gradient descent whose first step is the dearest."""

    def step(self, batch: Batch, x: torch.Tensor, state) -> Step:
        return super().step(batch, x, state)._replace(cost=Cost(5 if state.t == 0 else 1, 0))


def test_what_the_dearest_step_cost_is_not_forgotten(tmp_path):
    def call(**settings: Any) -> Result:
        return solve(posed(), Uneven(lr=0.1), steps=20, evaluations=17, **settings)

    whole = call()
    assert len(whole.history["loss"]) == 7  # 5 + 6 paid, and 5 + 1 + 1 to be kept for one more
    assert same_results(stopped_and_resumed(call, 4, checkpoint=tmp_path / "a", checkpoint_every=3), whole)


def test_the_same_call_after_the_end_returns_the_same_at_once(tmp_path):
    network = Counted(mlp(3, 8, 5, 2))
    settings = {"steps": 30, "restarts": 2, "checkpoint": tmp_path / "a"}
    first = solve(posed(network=network), "adam", **settings)
    network.forwards = network.backwards = 0
    assert same_results(solve(posed(network=network), "adam", **settings), first)
    assert (network.forwards, network.backwards) == (3 + 6 + 3, 0)  # is it the same problem, last and closing looks
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_solve_that_a_callback_stopped_is_at_its_end(tmp_path):
    settings = {"steps": 200, "checkpoint": tmp_path / "a"}
    stopped = solve(posed(), "adam", callbacks=[StopBelow(0.3)], **settings)
    assert set(stopped.status) == {Status.STOPPED}
    assert same_results(solve(posed(), "adam", **settings), stopped)


def test_seconds_go_on_counting(tmp_path):
    def call(**settings: Any) -> Result:
        return solve(posed(), "gd", steps=50, seconds=1000.0, checkpoint=tmp_path / "a", checkpoint_every=1, **settings)

    times: list[float] = []
    for at in (30, 31):
        with pytest.raises(KilledError):
            call(callbacks=[lambda progress: times.append(progress.seconds), killed_at(at)])
    assert times[:30] == sorted(times[:30])
    assert times[28] < times[30] < times[31]  # the 30th step again, and one more
    assert call().meta["seconds"] > times[-1]


@pytest.fixture
def stopped(tmp_path) -> Path:
    with pytest.raises(KilledError):
        solve(posed(), Adam(), steps=9, checkpoint=tmp_path / "a", checkpoint_every=2, callbacks=[killed_at(5)])
    return tmp_path / "a"


OTHER_SETTINGS = {"optimizer": Adam(lr=0.1), "steps": 10, "restarts": 2, "seed": 1, "start": torch.zeros(3, 3).double()}
OTHER_SETTINGS |= {"evaluations": 1000, "seconds": 60.0, "patience": 3, "min_delta": 0.5, "compile": True}
OTHER_SETTINGS |= {"halving": [(3, 1)]}


@pytest.mark.parametrize(
    ("differs", "settings"),
    [
        *[(name, {name: value}) for name, value in OTHER_SETTINGS.items()],
        ("batch", {"problem": posed([0, 1])}),
        ("dtype", {"problem": fitting(mlp(3, 2, dtype=torch.float32), (3,), randn(3, 2, dtype=torch.float32))}),
        ("shape", {"problem": fitting(mlp(4, 2), (4,), randn(3, 2))}),
    ],
)
def test_another_solve_does_not_go_on_from_it_and_is_told_what_differs(stopped, differs, settings):
    before = stopped.read_bytes()
    with refuses(str(stopped), f"that of a solve with {differs} "):
        solve(**{"problem": posed(), "optimizer": Adam(), "steps": 9, "checkpoint": stopped, **settings})
    assert stopped.read_bytes() == before


LIMIT = 0.0


def reached(value: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    return value < LIMIT


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.module, self.scale = mlp(3, 8, 5, 2), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.module(x)


def changed(**changes: Any) -> Problem:
    """The problem of `posed` with some attributes changed."""
    problem = posed()
    problem.success = reached
    for name, value in changes.items():
        setattr(problem, name, value)
    return problem


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("feasible set", {"feasible": Box(-0.5, 0.5)}),
        ("feasible set", {"feasible": Box(torch.tensor([-2.0, -2.0, -1.0]), 2.0)}),
        ("feasible set", {"feasible": Box(-2.0, torch.tensor([[2.0] * 3, [2.0] * 3, [1.0] * 3]))}),
        ("feasible set", {"feasible": Box(-2.0, 2.0 + 2**-20)}),
        ("feasible set", {"feasible": LinfBall(torch.zeros(3), 2.0)}),
        ("feasible set", {"feasible": Free()}),
        ("success test", {"success": None}),
        ("success test", {"success": lambda value, output: value < 0.01}),
        ("success test", {"success": partial(torch.lt)}),
        ("penalty", {"penalty": lambda x: 0 * x.sum(1)}),
        ("objective", {"objective": Fit(MSE(), Identity(), randn(3, 2, seed=1) + 1e-12)}),
        ("objective", {"objective": Fit(MSE(), Identity(), randn(3, 2, seed=1)[[0, 2, 1]])}),
        ("objective", {"objective": lambda output: output.square().sum(1)}),
        ("network", {"network": mlp(3, 8, 5, 2, seed=1)}),
        ("network", {"network": nn.Sequential(mlp(3, 8, 5, 2), nn.Identity())}),
    ],
)
def test_another_part_of_the_problem_is_refused_by_name(tmp_path, part, changes):
    file = tmp_path / "a"
    settings = {"steps": 9, "checkpoint": file}
    before = solve(changed(), Adam(), **settings)
    content = file.read_bytes()
    with refuses(str(file), f"that of a solve with another {part}"):
        solve(changed(**changes), Adam(), **settings)
    assert file.read_bytes() == content
    assert same_results(solve(changed(), Adam(), **settings), before)


def test_maximize_does_not_go_on_in_another_box_nor_with_another_unit_or_network(tmp_path):
    file, network = tmp_path / "c", nn.Linear(3, 2)
    nn.init.ones_(network.weight)  # the units have the same values
    nn.init.zeros_(network.bias)
    settings: dict[str, Any] = {"low": -1.0, "high": 1.0, "shape": (3,), "steps": 5, "checkpoint": file}
    maximize(network, **settings)
    for part, changes in (
        ("feasible set", {"low": -0.5, "high": 0.5}),
        ("feasible set", {"low": [-1.0, -1.0, -0.5]}),
        ("objective", {"unit": 1}),
    ):
        with refuses(str(file), f"another {part}"):
            maximize(network, **{**settings, **changes})
    with refuses(str(file), "another network"):
        maximize(nn.Linear(3, 2), **settings)


@dataclass(frozen=True, repr=False)
class Weighted(GD):
    """Its representation does not tell its settings, and names a place in memory."""

    weights: torch.Tensor | None = None
    __repr__ = object.__repr__


def test_what_is_hidden_is_part_of_a_solve(tmp_path, monkeypatch):
    def call(name: str, problem: Problem, method: Optimizer) -> Result:
        return solve(problem, method, steps=4, checkpoint=tmp_path / name)

    first, again = (call("method", posed(), Weighted(weights=torch.tensor(1.0))) for _ in range(2))
    assert torch.equal(first.x, again.x)
    with refuses(str(tmp_path / "method"), "another method"):
        call("method", posed(), Weighted(weights=torch.tensor(2.0)))
    call("network", posed(network=Scaled(1.0)), Adam())
    with refuses(str(tmp_path / "network"), "that of another problem"):  # no fingerprint shows it, the objective does
        call("network", posed(network=Scaled(1.5)), Adam())
    call("success", changed(), Adam())
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 0.5)  # which the success test reads
    with refuses(str(tmp_path / "success"), "another success test"):
        call("success", changed(), Adam())


def test_another_setting_or_version_of_torch_is_refused(tmp_path, stopped, monkeypatch):
    def call() -> Result:
        problem = fitting(mlp(3, 2, dtype=torch.float32), (3,), randn(3, 2, dtype=torch.float32))
        return solve(problem, "gd", steps=4, checkpoint=tmp_path / "b")

    with torch.autocast("cpu", torch.bfloat16):
        call()
    with refuses(str(tmp_path / "b"), "autocast torch.bfloat16, not None"):
        call()
    monkeypatch.setattr(torch, "__version__", "9.9")
    with refuses(str(stopped)):
        solve(posed(), Adam(), steps=9, checkpoint=stopped)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"garbage"),
        lambda file: file.write_bytes(b"\xff" * 4096),
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: save_file({"x": torch.zeros(2)}, file),
        lambda file: solve(posed(), Adam(), steps=2).save(file, overwrite=True),
    ],
    ids=["empty", "text", "bytes", "cut", "tensors", "result"],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_untouched(stopped, spoil):
    spoil(stopped)
    content = stopped.read_bytes()
    with refuses(str(stopped)):
        solve(posed(), Adam(), steps=9, checkpoint=stopped)
    assert stopped.read_bytes() == content


def test_a_solve_that_fails_at_its_start_leaves_no_file(tmp_path):
    problem = posed()
    problem.objective = lambda output: output[:, 0] * torch.nan
    with refuses("objective"):
        solve(problem, GD(), checkpoint=tmp_path / "a", checkpoint_every=1)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_no_module_and_its_objective_resume_too(tmp_path):
    def call(**settings: Any) -> Result:
        problem = posed()
        network = problem.network
        assert isinstance(network, nn.Module)
        problem.network = lambda x: network(x)
        return solve(problem, "adam", steps=8, **settings)

    assert same_results(stopped_and_resumed(call, 5, checkpoint=str(tmp_path / "a"), checkpoint_every=4), call())
