"""The methods that need no gradient: cross-entropy, random shooting, squares."""

from __future__ import annotations

import pytest
import torch
from nets import fitting, mlp, near, randn, ready

from latentopt import CEM, Problem, RandomShooting, Square, solve
from latentopt.noise import Noise
from latentopt.sets import Box, LinfBall


def test_copies_have_numbers_of_their_own_and_a_batch_shares_them():
    draws, like = Noise(3, torch.tensor([0, 0, 1])).spread(4, "key"), torch.empty(12, 2)
    drawn = draws.uniform(like, "start").reshape(4, 3, 2)
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert len(drawn[:, [0, 2]].flatten().unique()) == 16
    alone = Noise(3, torch.tensor([1])).spread(4, "key").uniform(torch.empty(4, 2), "start")
    assert torch.equal(alone, drawn[:, 2])
    other = Noise(3, torch.tensor([0])).spread(4, "other").uniform(torch.empty(4, 2), "start")
    assert not torch.equal(other, drawn[:, 0])


def test_random_shooting_returns_the_best_point_that_it_saw():
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    problem = Problem(network, lambda x: x.square().sum(1), (3,), 2, Box(-1.0, 1.0))
    result = solve(problem, RandomShooting(samples=20), steps=5)
    points = torch.cat([each.reshape(-1, 2, 3) for each in seen])[:, 0]
    near(result.value[0], points.square().sum(1).min(), 0)
    assert len(points.unique(dim=0)) >= 101  # the start, and 20 new points a step
    assert result.forwards.tolist() == [5 * 21 + 2] * 2  # the last iterate, and what is returned


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_elite_sets_the_next_distribution(smoothing):
    problem = ready(fitting(mlp(3, 8, 2), (3,), randn(2, 2), Box(-1.0, 1.0)))
    method, x = CEM(population=10, elite=0.3, sigma=0.4, smoothing=smoothing), torch.zeros(2, 3).double()
    step = method.step(problem, x, method.init(problem, x))
    normal = problem.noise.normal(x[:, None].expand(-1, 10, 3), "cem", 0)
    candidates = (0.4 * normal).clamp(-1, 1)
    for sample in range(2):
        one = problem.take(torch.tensor([sample] * 10))
        elite = candidates[sample][one.evaluate(candidates[sample]).value.argsort()[:3]]
        near(step.state.mean[sample], (1 - smoothing) * elite.mean(0), 1e-12)
        near(step.state.std[sample], (1 - smoothing) * elite.std(0, correction=0) + smoothing * 0.4, 1e-12)


def test_cem_finds_the_least_of_a_bowl():
    target = torch.tensor([[0.3, -0.6, 0.9], [-1.0, 0.1, 0.5]])

    class Bowl:
        def __init__(self, target: torch.Tensor) -> None:
            self.target = target

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return (x - self.target).square().sum(1)

        def take(self, rows: torch.Tensor) -> Bowl:
            return Bowl(self.target[rows])

    problem = Problem(lambda x: x, Bowl(target), (3,), 2, Box(-1.0, 1.0))
    near(solve(problem, CEM(sigma=1.0), steps=40).x, target, 1e-2)


def test_squares_are_stripes_first_and_then_shrink_as_published():
    center = torch.zeros(1, 2, 20, 20)
    problem = Problem(lambda x: x, lambda x: x.flatten(1).sum(1).neg(), (2, 20, 20), 1, LinfBall(center, 0.5), None)
    problem, method = ready(problem, steps=100), Square()
    step = method.step(problem, center, method.init(problem, center))
    assert torch.equal(step.x.abs(), torch.full_like(center, 0.5))
    assert torch.equal(step.x, step.x[:, :, :1].expand_as(step.x))
    for t, share in ((1, 0.2), (2, 0.2), (3, 0.1), (6, 0.05), (81, 0.8 / 2**9)):
        moved = method.step(problem, center, step.state._replace(t=t, best=center)).x[0] != 0
        side = max(round((share * 400) ** 0.5), 1)
        assert moved.sum((1, 2)).tolist() == [side**2, side**2]
        for which in (moved[0].any(0), moved[0].any(1)):
            places = which.nonzero()[:, 0]
            assert len(places) == places[-1] - places[0] + 1 == side


@pytest.mark.parametrize("shape", [(1, 6, 6), (36,)])
def test_squares_come_near_the_optimum_of_a_linear_function(shape):
    weight = randn(36, seed=3)
    ball = LinfBall(torch.zeros(1, *shape).double(), 0.5)
    problem = Problem(lambda x: x.flatten(1) @ weight, lambda value: value, shape, 1, ball, None, weight)
    result = solve(problem, Square(), steps=1500, start=torch.zeros(1, *shape).double())
    near(result.value / (-0.5 * weight.abs().sum()), torch.ones(1).double(), 0.02)
    assert result.forwards.item() == 1502
    assert result.backwards.item() == 0
