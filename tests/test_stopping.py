"""How samples leave a solve: solved, or met by a value that is not finite.

The objective is the input itself, a number, and gradient descent takes steps of .1: so all is known beforehand.
"""

from __future__ import annotations

import pytest
import torch
from nets import near
from torch import Tensor, nn

from latentopt import GD, Problem, Result, Status, solve
from latentopt.solve import Progress

INF, NAN = float("inf"), float("nan")
WALK = GD(lr=0.1)


def walk(*start: float, success: float = -INF, broken: float = -INF, value: float = NAN, **settings) -> Result:
    """Walk down from each start; solved below ``success``; below ``broken`` the objective is ``value``."""

    def objective(x: Tensor) -> Tensor:
        return torch.where(x < broken, value, x)[:, 0]

    problem = Problem(nn.Identity(), objective, (1,), len(start), like=torch.zeros(1).double())
    problem.success = lambda value, output: output[:, 0] < success
    return solve(problem, WALK, start=column(*start), **{"steps": 8, **settings})


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_a_solved_sample_leaves_and_the_others_go_on():
    result = walk(1.0, 9.0, success=0.75)
    assert result.status == (Status.SOLVED, Status.BUDGET)
    near(result.x, column(0.7, 8.2), 1e-12)
    expected = column(1.0, 0.9, 0.8, 0.7, *[NAN] * 4)[:, 0]
    torch.testing.assert_close(result.history["loss"][:, 0, 0], expected, rtol=0, atol=1e-12, equal_nan=True)
    assert result.history["grad_norm"][:, 0, 0].isnan().tolist() == [False] * 4 + [True] * 4
    near(result.history["loss"][:, 0, 1], 9 - 0.1 * torch.arange(8).double(), 1e-12)
    assert result.forwards.tolist() == [4 + 1, 8 + 1 + 1]  # steps, the last iterate, the check of what is returned
    assert result.backwards.tolist() == [4, 8]


def test_all_restarts_of_a_solved_sample_leave_with_it():
    result = walk(-50.0, 50.0, success=-40.0, restarts=3)
    assert result.status == (Status.SOLVED, Status.BUDGET)
    assert result.history["loss"][0].isfinite().all()
    assert result.history["loss"][1:, :, 0].isnan().all()
    assert result.history["loss"][:, :, 1].isfinite().all()
    assert result.forwards.tolist() == [3 + 1, 3 * 9 + 1]
    assert result.restart[0] == 0


def test_a_solve_ends_when_every_sample_is_solved():
    result = walk(1.0, 0.9, success=0.75)
    assert len(result.history["loss"]) == 4
    assert result.status == (Status.SOLVED, Status.SOLVED)


def test_success_on_the_last_iterate_counts():
    assert walk(1.0, success=0.25).status == (Status.SOLVED,)  # .2 is the iterate after 8 steps
    assert walk(1.0, success=0.15).status == (Status.BUDGET,)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_value_that_is_not_finite_ends_a_sample_with_the_best_before(value):
    result = walk(1.0, 9.0, broken=0.75, value=value)
    assert result.status == (Status.NONFINITE, Status.BUDGET)
    near(result.x, column(0.8, 8.2), 1e-12)
    near(result.value, result.x[:, 0], 0)
    assert result.history["loss"][:, 0, 0].isfinite().tolist() == [True] * 3 + [False] * 5
    assert result.history["loss"][4:, 0, 0].isnan().all()
    assert result.backwards.tolist() == [4, 8]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_last_iterate_without_a_finite_value_is_not_returned(value):
    result = walk(1.0, broken=0.25, value=value)
    assert result.status == (Status.BUDGET,)
    near(result.x, column(0.3), 1e-12)


def test_one_restart_that_breaks_does_not_end_its_sample():
    result = walk(-50.0, broken=-50.15, restarts=3)  # the random restarts walk about 0
    assert result.status == (Status.BUDGET,)
    assert result.history["loss"][:, 0, 0].isnan().tolist() == [False] * 2 + [True] * 6
    assert result.history["loss"][:, 1:, 0].isfinite().all()
    near(result.x, column(-50.1), 1e-12)


def test_an_infinite_next_iterate_ends_a_sample():
    problem = Problem(nn.Identity(), lambda x: x[:, 0], (1,), 1)
    result = solve(problem, GD(lr=3e38), steps=9, start=torch.zeros(1, 1))
    assert result.status == (Status.NONFINITE,)
    assert result.value.isfinite().all()
    assert len(result.history["loss"]) == 2


def test_a_stopped_row_is_shown_where_it_stopped():
    seen: list[Progress] = []
    walk(1.0, 9.0, success=0.75, callbacks=[seen.append])
    for progress in seen[3:]:
        near(progress.x[0], column(0.7)[0], 1e-12)
        near(progress.best[0], column(0.7)[0, 0], 1e-12)
    assert [p.loss[0].isnan().item() for p in seen] == [False] * 4 + [True] * 4


def test_a_solved_input_is_returned_even_if_another_one_has_a_lower_objective():
    # The objective is least at 0, near which the first restart starts; success asks for more than .5.
    def objective(x: Tensor) -> Tensor:
        return x.square()[:, 0]

    problem = Problem(nn.Identity(), objective, (1,), 1, like=torch.zeros(1).double())
    problem.success = lambda value, output: output[:, 0] > 0.5
    result = solve(problem, GD(lr=0.1), steps=5, restarts=6, start=column(0.1))
    assert result.status == (Status.SOLVED,)
    assert result.x.item() > 0.5
