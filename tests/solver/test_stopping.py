"""How samples leave a solve: solved, stalled, or met by values that are not finite.

The objective is the input itself, a number, and gradient descent takes steps of .1: so all is known beforehand.
"""

from __future__ import annotations

import pytest
import torch
from loops import check_sample, column, identity
from nets import near, refuses
from torch import Tensor

from latentopt import GD, Adam, Result, Status, solve
from latentopt.optimizers import Optimizer

INF, NAN = float("inf"), float("nan")
WALK = GD(lr=0.1)


def walk(*start: float, success: float = -INF, broken: float = -INF, value: float = NAN, **settings) -> Result:
    """Walk down from each start; solved below ``success``; below ``broken`` the objective is ``value``."""

    def objective(x: Tensor) -> Tensor:
        return torch.where(x < broken, value, x)[:, 0]

    problem = identity(objective, len(start))
    problem.success = lambda value, output: output[:, 0] < success
    return solve(problem, WALK, start=column(*start), **{"steps": 8, **settings})


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
    both = walk(1.0, 0.9, success=0.75)
    assert (len(both.history["loss"]), both.status) == (4, (Status.SOLVED,) * 2)
    assert walk(1.0, success=0.25).status == (Status.SOLVED,)  # .2 is the iterate after 8 steps
    assert walk(1.0, success=0.15).status == (Status.BUDGET,)


def test_all_restarts_of_a_solved_sample_leave_with_it():
    result = walk(-50.0, 50.0, success=-40.0, restarts=3)
    assert result.status == (Status.SOLVED, Status.BUDGET)
    assert result.history["loss"][0].isfinite().all()
    assert result.history["loss"][1:, :, 0].isnan().all()
    assert result.history["loss"][:, :, 1].isfinite().all()
    assert result.forwards.tolist() == [3 + 1, 3 * 9 + 1]
    assert result.restart[0] == 0


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_row_that_breaks_goes_back_once(value):
    result = walk(1.0, 9.0, broken=0.75, value=value)  # at .8, broken at .7, back at .8, broken at .7
    assert result.status == (Status.NONFINITE, Status.BUDGET)
    near(result.x, column(0.8, 8.2), 1e-12)
    near(result.value, result.x[:, 0], 0)
    assert result.history["loss"][:, 0, 0].isfinite().tolist() == [True] * 3 + [False, True] + [False] * 3
    near(result.history["loss"][4, 0], column(0.8, 8.6)[:, 0], 1e-12)
    assert result.history["loss"][6:, 0, 0].isnan().all()
    assert result.forwards.tolist() == [6 + 1, 8 + 1 + 1]
    assert result.backwards.tolist() == [6, 8]
    last = walk(1.0, broken=0.25, value=value)  # its last iterate alone is broken, and is not returned
    assert last.status == (Status.BUDGET,)
    near(last.x, column(0.3), 1e-12)


def test_one_restart_that_breaks_does_not_end_its_sample():
    result = walk(-50.0, broken=-50.15, restarts=3)  # the random restarts walk about 0
    assert result.status == (Status.BUDGET,)
    assert result.history["loss"][:, 0, 0].isnan().tolist() == [False] * 2 + [True, False] + [True] * 4
    assert result.history["loss"][:, 1:, 0].isfinite().all()
    near(result.x, column(-50.1), 1e-12)


def test_a_next_iterate_that_is_not_finite_counts_as_breaking():
    problem = identity(dtype=torch.float32)
    result = solve(problem, GD(lr=3e38), steps=9, start=torch.zeros(1, 1))
    assert result.status == (Status.NONFINITE,)
    assert result.value.tolist() == [pytest.approx(-3e38)]
    # 0, then -3e38, whose next is not finite; -3e38 again, with the same next: not better than before
    assert result.history["loss"][:, 0, 0].tolist() == [0, result.value.item(), result.value.item()]


def breaking(*steps: int, methods: Optimizer = WALK, **settings) -> Result:
    """Walk down from 5, NaN at the ``steps``-th looks (from 1), whatever is looked at."""
    looks = iter(range(1, 10**6))

    def objective(x: Tensor) -> Tensor:
        return x[:, 0] if next(looks) not in steps else x[:, 0] * NAN

    problem = identity(objective, 1)
    return solve(problem, methods, start=column(5.0), **{"steps": 8, **settings})


def test_a_row_that_finds_a_better_point_may_break_again_and_goes_on():
    result = breaking(3, 6, 9, steps=12)
    # 5, 4.9, broken, back at 4.9, 4.8, broken, back at 4.8, 4.7, broken, ...
    expected = column(5.0, 4.9, NAN, 4.9, 4.8, NAN, 4.8, 4.7, NAN, 4.7, 4.6, 4.5)[:, 0]
    torch.testing.assert_close(result.history["loss"][:, 0, 0], expected, rtol=0, atol=1e-12, equal_nan=True)
    assert result.status == (Status.BUDGET,)
    near(result.x, column(4.4), 1e-12)


def test_a_row_that_goes_back_keeps_only_the_count_of_steps():
    result = breaking(4, methods=Adam(lr=0.1, betas=(0.5, 0.75), schedule="constant"))
    first = result.history["loss"][:3, 0, 0]
    near(first, column(5.0, 4.9, 4.8)[:, 0], 1e-9)
    # Four steps are done; gradient 1: the means are .5 and .25 at first, over 1 - .5^5 and 1 - .75^5.
    adam = 0.1 * (0.5 / (1 - 0.5**5)) / (0.25 / (1 - 0.75**5)) ** 0.5
    near(result.history["loss"][4:6, 0, 0], column(4.8, 4.8 - adam)[:, 0], 1e-9)


def test_a_row_that_breaks_where_it_starts_leaves_at_once():
    def objective(x: Tensor) -> Tensor:
        return torch.where(x.abs() < 5, NAN, x)[:, 0]  # the random restarts start within

    problem = identity(objective, 1)
    result = solve(problem, WALK, start=column(9.0), restarts=3, steps=4)
    assert result.history["loss"][:, 0].isfinite().all()
    assert result.history["loss"][:, 1:].isnan().all()
    assert result.status == (Status.BUDGET,)
    assert result.forwards.tolist() == [4 + 1 + 1 + 1 + 1]
    with refuses("objective"):  # no other start is given
        walk(1.0, 0.5, broken=0.75)


def bowl(*start: float, lr: float = 0.25, **settings) -> Result:
    """Halve the distance to the least value, 1, of ``x^2 + 1``."""
    objective = lambda x: x.square()[:, 0] + 1  # noqa: E731
    problem = identity(objective, len(start))
    return solve(problem, GD(lr=lr), start=column(*start), **{"steps": 40, **settings})


def test_a_row_whose_best_falls_too_little_leaves():
    result = bowl(8.0, 0.0, min_delta=0.1, patience=3)
    # 65, 17, 5, 2, 1.25, 1.0625, ...: 1.25 is the last that is less than 9/10 of the last such, at step 5; the best
    # at steps 6, 7, 8 is over 1.125.
    assert result.history["loss"][:, 0, 0].isfinite().sum() == 4 + 1 + 3 + 1
    assert result.history["loss"][:, 0, 1].isfinite().sum() == 1 + 3
    assert result.status == (Status.STALLED, Status.STALLED)
    assert result.forwards.tolist() == [9 + 1, 4 + 1]  # their last iterates are not looked at


def test_small_falls_add_up_to_an_improvement():
    assert walk(1.0, patience=3, min_delta=0.25).status == (Status.BUDGET,)  # no step of .1 is one, three are
    slow = walk(2.0, patience=3, min_delta=0.25)  # 1.7 is not less than 3/4 of 2
    assert slow.status == (Status.STALLED,)
    near(slow.history["loss"][:, 0, 0], column(2.0, 1.9, 1.8, 1.7)[:, 0], 1e-12)
    below = walk(-1.0, -2.0, patience=3, min_delta=0.25)  # to -1.3 within -1.25, to -2.3 not within -2.5
    assert below.history["loss"][:, 0].isfinite().sum(0).tolist() == [4 + 3, 4]


def test_any_fall_is_more_than_zero_and_by_default_no_row_stalls():
    assert walk(1.0, patience=1, min_delta=0.0).status == (Status.BUDGET,)
    still = GD(lr=1e-30)
    problem = identity(dtype=torch.float32)
    assert len(solve(problem, still, steps=50, start=torch.ones(1, 1)).history["loss"]) == 50
    stalled = solve(problem, still, steps=50, start=torch.ones(1, 1), patience=1, min_delta=0.0)
    assert len(stalled.history["loss"]) == 2


def test_a_sample_is_stalled_if_one_of_its_restarts_is_and_all_have_left():
    def objective(x: Tensor) -> Tensor:  # falls for ever from x < 0, which is NaN below -3; flat over 0
        return torch.where(x < -3, NAN, x.clamp_max(0))[:, 0]

    problem = identity(objective, 3)
    result = solve(problem, GD(lr=0.5), steps=9, start=column(1.0, -1.0, -2.5), patience=4)
    assert result.status == (Status.STALLED, Status.NONFINITE, Status.NONFINITE)
    with_others = solve(problem, GD(lr=0.5), steps=30, start=column(-1.0, 1.0, 1.0), patience=4, restarts=5, seed=1)
    assert with_others.status == (Status.STALLED,) * 3
    assert with_others.history["loss"][0].isfinite().all()
    assert len(with_others.history["loss"]) < 30


@pytest.mark.parametrize("restarts", [1, 3])
def test_what_leaves_first_does_not_change_what_stays(restarts):
    """Samples that are solved, stall, break, go back and go on: each as it is alone."""

    def objective(x: Tensor) -> Tensor:
        value = torch.where(x > 4, x.clamp_min(8), x)  # flat from 4 to 8
        return torch.where((x > 2.95) & (x < 3.05), NAN, value)[:, 0]

    def run(*start: float) -> Result:
        problem = identity(objective, len(start))
        problem.success = lambda value, output: (output[:, 0] > 0.9) & (output[:, 0] < 1.05)
        return solve(problem, WALK, start=column(*start), steps=12, restarts=restarts, patience=4, evaluations=31)

    starts = (1.3, 5.0, 3.4, 8.25, 40.0)
    together = run(*starts)
    if restarts == 1:
        order = (Status.SOLVED, Status.STALLED, Status.NONFINITE, Status.STALLED, Status.BUDGET)
        assert together.status == order
    for sample, start in enumerate(starts):
        check_sample(together, sample, run(start))


def test_an_objective_in_a_wider_type_than_the_input_is_kept_in_it():
    objective = lambda x: torch.where(x < 0.45, NAN, x).double()[:, 0] * (1 + 1e-12)  # noqa: E731
    problem = identity(objective, 4, torch.float32)
    problem.success = lambda value, output: value > 9  # the last leaves before the others break
    result = solve(problem, WALK, start=torch.tensor([[1.0], [3.0], [0.6], [10.0]]), steps=9, patience=50)
    assert result.value.dtype == torch.float64
    assert result.status == (Status.NONFINITE, Status.BUDGET, Status.NONFINITE, Status.SOLVED)
    near(result.value, problem.evaluate(result.x).value, 0)


def test_what_is_not_finite_is_never_solved():
    objective = lambda x: torch.where(x < 0.75, NAN, x)[:, 0]  # noqa: E731
    problem = identity(objective, 1, torch.float32)
    problem.success = lambda value, output: ~(value > 0.75)
    result = solve(problem, WALK, start=torch.ones(1, 1), steps=9)
    assert result.status == (Status.NONFINITE,)
    near(result.x, torch.tensor([[0.8]]), 1e-6)


def test_a_solved_iterate_is_taken_before_a_lower_one():
    problem = identity(lambda x: x.square()[:, 0], 1)
    problem.success = lambda value, output: output[:, 0] > 1.5
    result = solve(problem, GD(lr=1.05), steps=9, start=column(1.0))  # each step multiplies by -1.1
    assert result.status == (Status.SOLVED,)
    near(result.x, column(1.1**6), 1e-12)
