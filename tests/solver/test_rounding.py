"""How exactly a batch gives what its samples give alone: to rounding, which a search amplifies.

Convolutions and products of matrices add in another order for another number of rows, most of all for one. So a pass
differs in its last digits, and a method that decides by them may take another way.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from loops import NAMES
from nets import conv, near, rand, randn, refill
from torch import Tensor, nn

from latentopt import Problem, solve
from latentopt.classification import Misclassify
from latentopt.objectives import MSE, Fit
from latentopt.operators import Identity
from latentopt.optimizers.lbfgs import face_at
from latentopt.sets import Box, bounded_ball

B = 5
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Of inputs and values of order one after 20 steps, as the docs state it."""
DECIDING = {"adr-gd", "adr-gd-latent", "apgd", "lbfgs", "lm", "basin-cma"}
"""Methods that accept a step, or set its length, by differences of values, which in the end are rounding: their values
after 20 steps (fewer of those in `FEW`) agree to `LOOSE`; their inputs need not."""
LOOSE = 1e-2
FEW = {"basin-cma": 3, "cem": 5, "random-shooting": 5}
"""Steps of the methods that have many evaluations in each."""


def inversion(dtype: torch.dtype) -> Callable[[Tensor], Problem]:
    """Of a convolutional generator, (B, 6) to (B, 1, 16, 16)."""
    layers = [nn.Linear(6, 128), nn.ReLU(), nn.Unflatten(1, (8, 4, 4))]
    layers += [nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)]
    network = refill(nn.Sequential(*layers), 1, dtype)
    target = network(randn(B, 6, seed=3, dtype=dtype)).detach()
    target = target + 0.1 * randn(*target.shape, seed=4, dtype=dtype)
    scale = target.square().mean()

    def problem(rows: Tensor) -> Problem:
        fit = Fit(MSE(), Identity(), target[rows] / scale.sqrt())
        return Problem(lambda z: network(z) / scale.sqrt(), fit, (6,), len(rows), Box(-3.0, 3.0), like=target)

    return problem


def attack(dtype: torch.dtype) -> Callable[[Tensor], Problem]:
    """Of a convolutional classifier, in balls in L2."""
    network, x = conv(dtype=dtype), rand(B, 1, 5, 5, dtype=dtype)
    labels = network(x).argmax(1)

    def problem(rows: Tensor) -> Problem:
        ball = bounded_ball(x[rows], 0.5, "l2", 0.0, 1.0)
        return Problem(network, Misclassify("ce", labels[rows]), (1, 5, 5), len(rows), ball, like=x)

    return problem


CASES = [  # quick ones: each method on both problems and in both dtypes
    pytest.param(name, pose, dtype, marks=[pytest.mark.slow] * ((i + j + k) % 2))
    for i, name in enumerate(NAMES)
    for j, pose in enumerate([inversion, attack])
    for k, dtype in enumerate(TOLERANCE)
]


@pytest.mark.parametrize(("name", "pose", "dtype"), CASES)
def test_on_convolutions_a_batch_gives_what_its_samples_give_alone_to_the_stated_tolerance(name, pose, dtype):
    if pose is attack and name == "lm":
        pytest.skip("cross-entropy is no sum of squares")
    problem, steps = pose(dtype), FEW.get(name, 20)
    together = solve(problem(torch.arange(B)), name, steps=steps, restarts=2)
    alone = solve(problem(torch.tensor([3])), name, steps=steps, restarts=2)
    near(together.value[[3]], alone.value, LOOSE if name in DECIDING else TOLERANCE[dtype])
    if name not in DECIDING:
        near(together.x[[3]], alone.x, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_one_pass_differs_in_the_last_digits_alone(dtype):
    for problem in (inversion(dtype)(torch.arange(B)), attack(dtype)(torch.arange(B))):
        x = 0.5 * rand(B, *problem.shape, seed=7, dtype=dtype)
        whole, grad = problem.whole().gradient(x)
        for row in range(B):
            rows = torch.tensor([row])
            alone, its = problem.take(rows).whole().gradient(x[rows])
            rounding = 32 * torch.finfo(dtype).eps
            near(alone.output, whole.output[rows], rounding * float(whole.output.abs().max()))
            near(its, grad[rows], rounding * float(grad.abs().max()))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_which_coordinates_a_bound_holds_does_not_hang_on_the_last_digit(dtype):
    center, grad = rand(200, 25, dtype=dtype), randn(200, 25, seed=1, dtype=dtype)
    feasible = bounded_ball(center, 0.5, "l2", 0.0, 1.0)
    x = feasible.project(center - grad)
    held = (x == feasible.box.project(center - 100 * grad)) & (x != center)
    assert int(held.sum()) > 300
    free = face_at(feasible, x, grad).free
    for ulp in (-1, 1):
        beside = feasible.project(x * (1 + ulp * torch.finfo(dtype).eps))
        again = face_at(feasible, beside, grad).free
        assert torch.equal(again[beside == x], free[beside == x])
    assert bool((free[held] == 0).all())
