"""ADR-GD head to head with simple methods: its cases, its clock and its figures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from nets import fitting, mlp, randn
from torch import Tensor

from benchmarks.head_to_head import TraceGroup, against, head_to_head
from benchmarks.head_to_head_problems import ATTACKED, COUNT, CRITICS, FAMILIES, LATENT, NETS, BudgetedProblem
from benchmarks.head_to_head_trials import (
    CONTROL,
    METHODS,
    OURS,
    BudgetClock,
    MethodTrace,
    Trial,
    chosen_trial,
    run_trial,
)
from latentopt.optimizers import GD, PGD, Adam


def nets(seed: int = 0, tune: bool = False) -> BudgetedProblem:
    return FAMILIES["nets"][1]("nets", "A", seed, tune).shrunk(0.01)


def latents(seconds: float = 1e9, passes: int = 10**9, family: str = "restarts") -> BudgetedProblem:
    target = mlp(3, 8, 2).requires_grad_(False)(randn(4, 3, seed=1)).detach()
    problem = fitting(mlp(3, 8, 2).requires_grad_(False), (3,), target)
    problem.success = lambda value, output: value < 1e-4
    return BudgetedProblem(family, "mlp", 0, problem, None, seconds, passes, 10, scale=1.0)


def trace(values: list[list[float]], seconds: float = 3.0, passes: int = 30) -> MethodTrace:
    steps = range(1, len(values) + 1)
    return MethodTrace(
        latents(seconds, passes), GD(), [1.0 * t for t in steps], [10.0 * t for t in steps], Tensor(values)
    )


def test_tuning_and_test_share_no_network_and_no_target():
    assert len(NETS) == len(FAMILIES["nets"][0])
    test, tuning = nets(), nets(tune=True)
    weights = [case.problem.network.get_buffer("layer0") for case in (test, tuning)]  # pyright: ignore
    assert not any(torch.equal(a, b) for a in weights[0] for b in weights[1])
    assert test.problem.batch == COUNT["nets"]


def test_starts_are_those_of_the_round_whatever_the_method():
    case = nets()
    first, again, later = case.starts(3, 0), case.starts(3, 0), case.starts(3, 1)
    assert torch.equal(first, again)
    assert (first[0] == 0).all()  # the paper's start
    assert not torch.equal(first[1], later[1])
    assert torch.equal(case.starts(2, 0), first[:2])
    assert not torch.equal(*latents().starts(2, 0))


def test_values_within_a_budget():
    found = trace([[5.0, 4.0], [3.0, 1e-5], [1e-5, 1e-5]])
    assert found.at(seconds=2.5).tolist() == pytest.approx([3.0, 1e-5])
    assert found.at(passes=10).tolist() == [5.0, 4.0]
    assert found.at(seconds=0.1).tolist() == [5.0, 4.0]  # the first look is free
    assert found.recovered_at(found.times, 9.0) == 3.0
    assert found.recovered_at(found.passes, 25.0) == 25.0
    assert trace([[5.0, 4.0]]).recovered_at([1.0], 7.0) == 7.0


def test_a_method_goes_on_until_both_budgets_are_spent_and_starts_anew():
    watch = BudgetClock(latents(seconds=1.0, passes=100))
    for seconds, passes, over in ((0.9, 200, False), (1.5, 99, False), (1.5, 100, True), (2.0, 5, True)):
        watch.times, watch.passes = [seconds], [passes]
        assert watch.over() == over
    watch.best = torch.zeros(4)
    watch.times = [0.1]
    assert watch.over()  # all is solved
    slow = run_trial(latents(seconds=1e9, passes=100, family="single"), Trial(GD(lr=1e-9), 10))
    assert slow.passes[-1] == 20  # one round of single starts
    solved = run_trial(latents(), Trial(Adam(0.1), 80))
    assert len(solved.times) > 81  # more than a round, each from new starts
    assert (solved.values[-1] < 1e-4).all()  # and it ended
    assert (solved.values.diff(dim=0) <= 0).all()


def test_the_comparison_is_by_pairs():
    ours = TraceGroup("restarts", "mlp", OURS, [trace([[9.0, 9.0]] * k + [[0.0, 0.0]]) for k in (0, 1)])
    theirs = TraceGroup("restarts", "mlp", "pgd", [trace([[9.0, 9.0]] * k + [[0.0, 0.0]]) for k in (1, 3)])
    assert ours.scores("CPU s") == pytest.approx([0.0, math.log(2)])
    assert theirs.scores("passes") == pytest.approx([math.log(20), math.log(30)])  # the second at its budget's end
    assert against(theirs, ours, "CPU s").mean == pytest.approx((2 * 1.5) ** 0.5)


def test_every_method_has_eight_settings_where_there_is_something_to_set():
    case = latents()
    for name in METHODS:
        assert len(METHODS[name](case)) == 8
        assert chosen_trial(name, case) == METHODS[name](case)[0]
    on, off = (METHODS[name](nets()) for name in (OURS, CONTROL))
    assert [trial.steps for trial in on] == [trial.steps for trial in off]
    assert on != off
    assert METHODS["pgd"](nets())[4].optimizer == PGD(1.0)


BOXES = [*NETS.values(), *CRITICS.values(), *(network for *_, network in ATTACKED.values())]


@pytest.mark.parametrize("name", [OURS, CONTROL, "pgd", "apgd", "adam", "l2-pgd", "cma-es"])
def test_a_whole_round_of_falling_steps_fits_in_the_passes(name):
    for network in BOXES:
        case = replace(nets(), passes=network.passes, steps=network.steps)
        assert all(2 * trial.steps * trial.restarts <= case.passes for trial in METHODS[name](case))
    for network in LATENT.values():
        case = replace(latents(), passes=network.passes, steps=network.steps)
        assert any(2 * trial.steps * trial.restarts <= case.passes for trial in METHODS["pgd"](case))


def test_an_image_that_breaks_counts_nothing_for_what_its_last_step_adds():
    shortfalls = TraceGroup("attacks", "mlp", "pgd", [trace([[5.0, 4.0], [3.0, -2.0]])])
    assert shortfalls.scores("CPU s") == [-3.0, 0.0]


def test_a_small_duel_is_written(tmp_path):
    written = head_to_head(quick=True, out=str(tmp_path / "duel"))
    assert "**adr-gd**" in written.markdown
    assert "nets: A" in written.markdown
    pytest.importorskip("optuna")
    tuned = head_to_head(quick=True, tune=True, methods="pgd", out=str(tmp_path / "tune"))
    assert "pgd: " in tuned.markdown
