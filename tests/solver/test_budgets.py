"""What a solve may cost, and that it costs what it says."""

from __future__ import annotations

import time

import pytest
import torch
from loops import METHODS, ROUGH, Holed, column, every_method, identity, posed, rough, same
from nets import Counted, mlp, pays
from torch import Tensor

from latentopt import GD, Batch, Status, solve
from latentopt.optimizers import Optimizer
from latentopt.optimizers.base import Cost, Step
from latentopt.solver.callbacks import Progress


@every_method
@pytest.mark.parametrize("evaluations", [1, 30, 101])
def test_only_a_step_dearer_than_any_before_exceeds_the_evaluations(method, evaluations):
    network, restarts = Counted(mlp(3, 8, 5, 2)), 3
    paid: list[int] = []  # by a row, after each step

    def watch(progress: Progress) -> None:
        paid.append((progress.forwards + progress.backwards) // (3 * restarts))

    problem = posed(network=network)
    result = solve(problem, method, steps=60, restarts=restarts, evaluations=evaluations, callbacks=[watch])
    total = result.forwards + result.backwards
    assert pays(method, int(result.forwards.sum()), int(result.backwards.sum()), network)
    assert total.tolist() == [restarts * (paid[-1] + 1) + 1] * 3
    assert result.status == (Status.BUDGET,) * 3
    steps = [after - before for before, after in zip([0, *paid], paid, strict=False)]
    dearer = len(steps) == 1 or steps[-1] > max(steps[:-1])
    assert bool((total <= evaluations).all()) or dearer
    if len(paid) < 60:  # another step could have been too much
        assert restarts * (paid[-1] + max(steps) + 1) + 1 > evaluations


class Dear(GD):
    """Gradient descent whose steps cost what is listed."""

    costs = (1, 3, 1, 1, 9, 1)

    def step(self, batch: Batch, x: Tensor, state) -> Step:
        return super().step(batch, x, state)._replace(cost=Cost(self.costs[state.t], 0))


@pytest.mark.parametrize(("evaluations", "steps"), [(1, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 3), (22, 10), (23, 10)])
def test_evaluations_buy_the_steps_that_can_be_paid_with_the_closing_looks(evaluations, steps):
    result = solve(posed([0]), GD(lr=0.1), steps=10, evaluations=evaluations)
    assert len(result.history["loss"]) == steps
    assert (int(result.forwards), int(result.backwards)) == (steps + 2, steps)


@pytest.mark.parametrize(("evaluations", "steps"), [(3, 1), (4, 2), (8, 2), (9, 3), (10, 4), (11, 5), (25, 5), (26, 6)])
def test_a_step_is_taken_if_the_dearest_so_far_can_be_paid_again(evaluations, steps):
    result = solve(posed([0]), Dear(lr=0.1), steps=6, evaluations=evaluations)
    assert len(result.history["loss"]) == steps
    assert int(result.forwards) == sum(Dear.costs[:steps]) + 2


def test_what_restarts_that_leave_do_not_spend_goes_to_the_others():
    def objective(x: Tensor) -> Tensor:  # the random restarts are within, where nothing is finite
        return torch.where(x.abs() < 5, torch.nan, x)[:, 0]

    result = solve(identity(objective, 2), GD(lr=0.01), steps=99, start=column(9.0, 8.0), restarts=3, evaluations=40)
    # 3 rows pay 2 for the first step; 40 - 6 - 1 - 1 is left for steps of one row.
    assert result.backwards.tolist() == [3 + 16] * 2
    assert (result.forwards + result.backwards).tolist() == [40] * 2


def test_seconds_end_a_solve_between_two_steps():
    result = solve(posed(), "gd", steps=1000, seconds=0.2, callbacks=[lambda progress: time.sleep(0.07)])
    assert 1 <= len(result.history["loss"]) <= 3
    assert result.meta["seconds"] >= 0.2
    assert result.status == (Status.BUDGET,) * 3
    assert len(solve(posed(), "gd", steps=5, seconds=1e-9).history["loss"]) == 1
    assert len(solve(posed(), "gd", steps=5, seconds=1000).history["loss"]) == 5


@every_method
def test_schedules_follow_the_steps_whatever_ends_the_solve(method):
    whole = solve(posed(), method, steps=12)
    part = solve(posed(), method, steps=12, evaluations=10)
    count = len(part.history["loss"])
    assert 1 <= count < 12
    for name, values in part.history.items():
        assert same(values, whole.history[name][:count])


def test_the_budget_that_ends_first_ends_the_solve():
    settings = {"steps": 8, "evaluations": 1000, "seconds": 1000.0, "patience": 1000}
    for changes, count in [({}, 8), ({"steps": 3}, 3), ({"evaluations": 8}, 3), ({"seconds": 1e-9}, 1)]:
        result = solve(posed([0]), "adam", **{**settings, **changes})
        assert len(result.history["loss"]) == count
        kept = {"steps": result.meta["steps"], **result.meta["budgets"]}
        assert kept == {**settings, "min_delta": 1e-4, **changes}


@every_method
def test_costs_are_what_passes_through_the_network_whatever_becomes_of_the_rows(method):
    network = Counted(Holed())

    def check(progress: Progress) -> None:
        assert pays(method, progress.forwards, progress.backwards, network)

    problem, start = rough(network=network)
    result = solve(problem, method, start=start, callbacks=[check], **ROUGH)
    assert pays(method, int(result.forwards.sum()), int(result.backwards.sum()), network)
    assert (result.value <= result.history["loss"].nan_to_num(torch.inf).amin((0, 1)) + 1e-9).all()


@pytest.mark.parametrize("method", [METHODS["adam"], METHODS["gd"]])
def test_the_rough_problem_is_rough(method: Optimizer):
    problem, start = rough()
    result = solve(problem, method, start=start, **ROUGH)
    loss = result.history["loss"]  # (steps, restarts, B)
    broken = loss.isnan() & loss.roll(-1, 0).isfinite()
    broken[-1] = False
    assert broken.any()  # rows went back to their best
    assert len(set(result.status)) >= 2
    lengths = loss.isfinite().sum(0)
    assert len(lengths.unique()) >= 4
