"""Priors: their penalties, their sets, and the optimum of a linear generator in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from loops import every_method
from nets import mlp, near, rand, randn, ready, refuses
from torch import Tensor, nn

from latentopt import LBFGS, Adam, Generator, Reconstruction, priors, solve
from latentopt.noise import Noise
from latentopt.operators import Downsample
from latentopt.sets import Sphere
from latentopt.solver.loop import Progress

LATENTS, SIDE = 3, 4


def imaging(*hidden: int, seed: int = 0) -> Generator:
    """(B, 3) to images (B, 1, 4, 4)."""
    layers = nn.Sequential(mlp(LATENTS, *hidden, SIDE * SIDE, seed=seed), nn.Unflatten(1, (1, SIDE, SIDE)))
    return Generator(layers, latent_shape=(LATENTS,), start_scale=0.7)


def targets(count: int = 4) -> Tensor:
    return rand(count, 1, SIDE, SIDE, seed=7)


def test_a_penalty_is_added_to_value_and_gradient():
    problem = Reconstruction(imaging(9), targets(), prior=priors.GaussianPrior(0.3))
    x = randn(4, LATENTS, seed=2)
    at = x.clone().requires_grad_()
    loss = (problem.generator(at) - targets()).square().flatten(1).mean(1) + 0.3 * at.square().sum(1)
    expected = torch.autograd.grad(loss.sum(), at)[0]
    seen, grad = ready(problem).gradient(x)
    near(seen.value, loss.detach(), 1e-12)
    near(grad, expected, 1e-12)
    near(problem.evaluate(x).value, loss.detach(), 1e-12)
    x = randn(4, 2, 3)
    penalty, squares = priors.SquaredNorm(0.3), 0.3 * x.square().flatten(1).sum(1)
    near(penalty(x), squares, 1e-12)
    near(penalty.residual(x).square().sum(1), squares, 1e-12)
    plain, free = (
        solve(Reconstruction(imaging(9), targets(), prior=prior), "adam", steps=9)
        for prior in (priors.Unconstrained(), priors.GaussianPrior(0.0))
    )
    near(free.x, plain.x, 1e-12)


def ridge(generator: Generator, measurement: Tensor, weight: float, operator=lambda image: image) -> Tensor:
    """The minimiser (B, n) of mean((A z + b - y)^2) + weight ||z||^2, of an affine generator."""
    zero = operator(generator(torch.zeros(1, LATENTS).double())).flatten(1)
    a = (operator(generator(torch.eye(LATENTS).double())).flatten(1) - zero).T  # (m, n)
    m, y = len(a), measurement.flatten(1) - zero
    return torch.linalg.solve(a.T @ a + m * weight * torch.eye(LATENTS).double(), a.T @ y.T).T


@pytest.mark.parametrize("method", [LBFGS(memory=10), Adam(lr=0.05)], ids=["lbfgs", "adam"])
@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_a_linear_generators_optimum_is_ridge_regression(method, weight):
    generator = imaging()
    problem = Reconstruction(generator, targets(), prior=priors.GaussianPrior(weight))
    best = ridge(generator, targets(), weight)
    result = solve(problem, method, steps=40 if isinstance(method, LBFGS) else 500)
    optimum = problem.evaluate(best).value
    assert ((result.value - optimum) / optimum).abs().max() < 1e-6
    near(result.x, best, 1e-3)


def test_the_weight_of_the_docstring_gives_the_most_probable_latent():
    generator, operator, s = imaging(), Downsample(2), 0.05
    measurement = operator(targets())
    m = measurement[0].numel()
    weight = s**2 / m
    result = solve(
        Reconstruction(generator, measurement, operator, measured=True, prior=priors.GaussianPrior(weight)),
        LBFGS(memory=10),
        steps=60,
    )
    z = result.x.clone().requires_grad_()
    # minus the logarithm of normal(y; A z + b, s^2) normal(z; 0, 1)
    error = (operator(generator(z)) - measurement).square().flatten(1).sum(1)
    grad = torch.autograd.grad((error / (2 * s**2) + z.square().sum(1) / 2).sum(), z)[0]
    assert grad.abs().max() < 1e-4
    near(result.x, ridge(generator, measurement, weight, operator), 1e-6)


PRIORS = {"sphere": priors.SpherePrior(), "box": priors.BoxPrior(0.4)}


@every_method
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_what_is_seen_and_returned_is_feasible_all_along(method, prior):
    def check(progress: Progress) -> None:
        for x in (progress.x, progress.best_x):
            if isinstance(prior, priors.SpherePrior):
                near(x.norm(dim=1), torch.full((len(x),), math.sqrt(LATENTS), dtype=torch.float64), 1e-9)
            else:
                assert x.abs().max() <= 0.4

    problem = Reconstruction(imaging(9), targets(), prior=prior)
    result = solve(problem, method, steps=12, restarts=2, callbacks=[check])
    assert (result.value < result.history["loss"][0].amin(0) + 1e-12).all()


def test_the_sphere_of_two_latents_by_enumeration():
    layers = nn.Sequential(mlp(2, SIDE * SIDE, seed=3), nn.Unflatten(1, (1, SIDE, SIDE)))
    problem = Reconstruction(Generator(layers, latent_shape=(2,)), targets(1), prior=priors.SpherePrior())
    angles = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    circle = math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], 1)
    least = (layers(circle) - targets(1)).square().flatten(1).mean(1).min()
    result = solve(problem, LBFGS(memory=5), steps=100, restarts=4)
    assert abs(result.value.item() - least.item()) < 1e-6


def test_projection_on_a_sphere_is_nearest_idempotent_and_takes_zero():
    sphere, x = Sphere(2.5), randn(50, 2, 3)
    x[0], x[1], x[2] = 0, 1e-300, 1e200
    p = sphere.project(x)
    near(p.flatten(1).norm(dim=1), torch.full((50,), 2.5).double(), 1e-12)
    near(sphere.project(p), p, 1e-12)
    direction = x[3:].flatten(1) / x[3:].flatten(1).norm(dim=1, keepdim=True)
    near(p[3:].flatten(1), 2.5 * direction, 1e-12)
    others = sphere.project(randn(1000, 2, 3, seed=1)).flatten(1)
    assert (torch.cdist(x[3:].flatten(1), others) >= (x[3:] - p[3:]).flatten(1).norm(dim=1)[:, None]).all()
    grad = randn(5, 3)
    near((sphere.lmo(grad) * grad).sum(1), -2.5 * grad.norm(dim=1), 1e-12)
    for shape in ((3,), (2, 3)):  # of a prior it has the length of normal latents
        feasible = priors.SpherePrior().feasible(Generator(nn.Flatten(), latent_shape=shape))
        assert isinstance(feasible, Sphere)
        assert feasible.size == pytest.approx(math.prod(shape) ** 0.5)


def test_points_of_a_sphere_are_uniform_and_those_of_their_restart():
    sphere, like = Sphere(2.0), torch.empty(4000, 3, dtype=torch.float64)
    x = sphere.sample(like, Noise(0, torch.arange(4000)))
    near(x.norm(dim=1), torch.full((4000,), 2.0).double(), 1e-12)
    # each coordinate of a uniform point on a sphere in three dimensions is uniform
    near(x.mean(0), torch.zeros(3).double(), 0.1)
    near(x.square().mean(0), torch.full((3,), 4 / 3).double(), 0.1)
    near((x > 1).double().mean(0), torch.full((3,), 0.25).double(), 0.03)
    assert torch.equal(sphere.sample(like[:2], Noise(0, torch.tensor([7, 7]))), x[[7, 7]])
    assert sphere.take(torch.tensor([0])) is sphere


@pytest.mark.parametrize(
    ("name", "make", "values"),
    [
        ("GaussianPrior.weight", priors.GaussianPrior, (-1.0, math.nan, math.inf)),
        ("BoxPrior.width", priors.BoxPrior, (0.0, -1.0, math.nan)),
        ("Sphere.size", Sphere, (0.0, -1.0, math.inf)),
    ],
)
def test_wrong_priors_are_refused(name, make, values):
    for value in values:
        with refuses(name):
            make(value)


@pytest.mark.parametrize("penalty", [lambda x: x.sum(), lambda x: x, lambda x: 1.0])
def test_a_wrong_penalty_is_refused(penalty):
    problem = Reconstruction(imaging(), targets())
    problem.penalty = penalty
    with refuses("penalty"):
        solve(problem, "adam", steps=1)
