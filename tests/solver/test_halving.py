"""Successive halving: which restarts go on, what they cost, and starts of several restarts."""

from __future__ import annotations

import pytest
import torch
from loops import METHODS, check_alone, column, identity, posed, rough
from nets import Counted, mlp, near, randn
from torch import Tensor

from latentopt import GD, LBFGS, Adam, Status, solve
from latentopt.solver.loop import Progress

SOME = pytest.mark.parametrize("name", ["gd", "adam", "lbfgs", "adr-gd", "cma-es"])


def alone(restart: Tensor, **settings):
    """A solve from one start (B, *shape)."""
    return solve(posed(), start=restart, restarts=1, **settings)


@SOME
def test_the_restarts_that_lie_behind_are_dropped(name):
    starts, steps, pairs = randn(6, 3, 3).clamp(-2, 2), 12, ((3, 4), (7, 2))
    if name == "cma-es":  # its draws are a restart's own
        starts = starts[:1].expand(6, 3, 3).contiguous()
    every = solve(posed(), METHODS[name], steps=steps, restarts=6, start=starts)
    kept = solve(posed(), METHODS[name], steps=steps, restarts=6, start=starts, halving=pairs)
    expected = every.history["loss"].clone()
    for step, count in pairs:
        best = expected[:step].nan_to_num(torch.inf).amin(0)
        best[expected[step - 1].isnan()] = torch.inf
        gone = best.argsort(0).argsort(0) >= count
        expected[step:] = expected[step:].masked_fill(gone, torch.nan)
    torch.testing.assert_close(kept.history["loss"], expected, rtol=0, atol=1e-9, equal_nan=True)
    assert (~expected[-1].isnan()).sum(0).tolist() == [2, 2, 2]
    assert kept.status == (Status.BUDGET,) * 3
    assert (kept.value >= every.value - 1e-12).all()


def test_the_order_of_separate_solves_decides():
    starts = randn(5, 3, 3, seed=2).clamp(-2, 2)
    each = torch.stack([alone(start, optimizer=GD(lr=0.1), steps=4).history["loss"][:, 0] for start in starts])
    kept = solve(posed(), GD(lr=0.1), steps=5, restarts=5, start=starts, halving=[(4, 2)])
    stayed = ~kept.history["loss"][-1].isnan()  # (restarts, B)
    order = each.amin(1).argsort(0)[:2]
    assert torch.equal(stayed, torch.zeros(5, 3).bool().scatter(0, order, True))


@pytest.mark.parametrize("method", [GD(lr=0.1), Adam(), LBFGS(memory=3)])
def test_costs_are_what_passes_through_the_network(method):
    network = Counted(mlp(3, 8, 5, 2))
    result = solve(posed(network=network), method, steps=9, restarts=5, halving=[(2, 3), (5, 1)])
    assert (int(result.forwards.sum()), int(result.backwards.sum())) == (network.forwards, network.backwards)
    if isinstance(method, GD):  # a forward and a backward for each step that was taken
        assert result.backwards.tolist() == [2 * 2 + 2 * 5 + 9] * 3
        assert result.forwards.tolist() == [2 * 2 + 2 * 5 + (9 + 1) + 1] * 3


def test_evaluations_that_dropped_restarts_save_are_spent_by_the_others():
    plain = solve(posed(), GD(lr=0.1), steps=100, restarts=4, evaluations=80)
    kept = solve(posed(), GD(lr=0.1), steps=100, restarts=4, evaluations=80, halving=[(3, 1)])
    assert len(kept.history["loss"]) > 2 * len(plain.history["loss"])
    assert ((kept.forwards + kept.backwards) <= 80).all()


def test_dropped_is_never_the_status_of_a_sample():
    problem = identity(lambda x: torch.where(x[:, 0] < 1, -x[:, 0], torch.nan))  # falls up to x = 1
    start = column(0.5, 0.0)[..., None]
    result = solve(problem, GD(lr=0.3), steps=40, restarts=2, start=start, halving=[(1, 1)])
    assert result.status == (Status.NONFINITE,)
    problem, first = rough()
    result = solve(problem, GD(lr=0.3), steps=14, restarts=4, seed=3, start=first, halving=[(2, 3), (5, 1)], patience=4)
    assert Status.DROPPED not in result.status


def test_solved_samples_and_those_that_go_on_keep_their_own_restarts():
    settings = {"steps": 40, "restarts": 5, "halving": [(3, 2)]}
    run = lambda rows: solve(posed(rows.tolist(), tolerance=0.15), Adam(lr=0.2), **settings)  # noqa: E731
    check_alone(run, 3, equal=("forwards", "status"))


def test_each_restart_begins_at_its_start_and_the_others_at_random():
    seen: list[Progress] = []
    starts = randn(2, 3, 3, seed=5).clamp(-2, 2)
    solve(posed(), GD(lr=0.1), steps=1, restarts=4, callbacks=[seen.append])
    solve(posed(), GD(lr=0.1), steps=1, restarts=4, start=starts, callbacks=[seen.append])
    assert torch.equal(seen[1].x[:6], starts.flatten(0, 1))
    assert torch.equal(seen[1].x[6:], seen[0].x[6:])
    for restart in range(2):
        alone(starts[restart], optimizer=GD(lr=0.1), steps=1, callbacks=[seen.append])
        near(seen[-1].loss, seen[1].loss[3 * restart : 3 * restart + 3], 1e-12)
