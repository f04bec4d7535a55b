from __future__ import annotations

import pytest
import torch
from nets import conv, fitting, mlp, near, rand, randn, ready, refuses
from torch import Tensor, nn

from latentopt.noise import Noise
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.sets import Box, LinfBall


def test_evaluate_and_gradient_report_the_same_detached_values_and_leave_x_alone():
    problem, x = ready(fitting(conv(), (1, 5, 5), randn(2, 3))), randn(2, 1, 5, 5, seed=1)
    before, direction = x.clone(), randn(2, 1, 5, 5, seed=2)
    there, (here, grad) = problem.evaluate(x), problem.gradient(x)
    near(there.value, ((problem.network(x) - randn(2, 3)) ** 2).mean(1).detach(), 1e-14)
    assert torch.equal(here.value, there.value)
    assert torch.equal(here.output, there.output)
    assert not any(t.requires_grad for t in (*here, *there, grad, x))
    assert torch.equal(x, before)
    ahead, behind = (problem.evaluate(x + sign * 1e-6 * direction).value for sign in (1, -1))
    near((ahead - behind) / 2e-6, (grad * direction).sum((1, 2, 3)), 1e-7)


def test_a_batch_holds_the_rows_that_it_is_asked_for():
    network, target, center = mlp(3, 4, 2), randn(4, 2), rand(4, 3)
    problem = fitting(network, (3,), target, LinfBall(center, 0.1))
    rows = torch.tensor([3, 1, 3])
    part = problem.rows(rows, Noise(0, torch.zeros(3, dtype=torch.long)), 7)
    x = randn(3, 3, seed=1)
    assert (len(part), part.steps, problem.take(rows).batch, problem.batch) == (3, 7, 3, 4)
    assert (len(part.tiled(2)), part.with_steps(2).steps, part.steps) == (6, 2, 7)
    with pytest.warns(DeprecationWarning, match="Batch.noise"):
        assert part.draws is part.noise
    for same in (part, problem.take(rows), problem.whole().take(rows), fitting(network, (3,), target[rows])):
        assert torch.equal(part.evaluate(x).value, same.evaluate(x).value)
    assert torch.equal(part.feasible.project(x), LinfBall(center[rows], 0.1).project(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_starts_lie_in_the_set_in_the_dtype_of_like(dtype):
    problem = Problem(nn.Identity(), Unit(), (2, 5), 3, Box(0.25, 0.75), like=torch.zeros(1, dtype=dtype))
    start = ready(problem).random_start()
    assert start.shape == (3, 2, 5)
    assert start.dtype == dtype
    assert 0.25 <= start.min() < start.max() <= 0.75
    assert torch.equal(start[0], start[1])  # samples share what a restart draws


@pytest.mark.parametrize("batch", [0, -1, 2.0])
def test_a_batch_that_is_no_number_of_samples_is_refused(batch):
    with refuses("batch"):
        Problem(nn.Identity(), Unit(), (3,), batch)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (2, 3)])
def test_an_objective_that_is_not_one_value_a_sample_is_refused(shape):
    def objective(output: Tensor) -> Tensor:
        return output.sum() + torch.zeros(shape)

    problem = ready(Problem(nn.Identity(), objective, (3,), 2))
    for method in (problem.evaluate, problem.gradient):
        with refuses("objective"):
            method(torch.zeros(2, 3))
