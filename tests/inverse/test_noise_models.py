"""Reconstructions with noise models: optima in closed form or by scipy, stopping by discrepancy, refusals."""

from __future__ import annotations

import pytest
import torch
from nets import mlp, near, rand, randn, refuses
from scipy.optimize import minimize
from torch import Tensor, nn

import latentopt as lo
from latentopt import LBFGS, Adam, Generator, LevenbergMarquardt, Reconstruction, Status, priors, solve
from latentopt.inverse.problem import TargetCheck
from latentopt.objectives import (
    MSE,
    Fit,
    GaussianNoise,
    MultiplicativeNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    StudentNoise,
)
from latentopt.operators import Gaussian, Hole

LATENTS, SIDE = 3, 4


def affine(seed: int = 0) -> Generator:
    """(B, 3) to images (B, 1, 4, 4), an affine map whose images are positive for likely latents."""
    network = mlp(LATENTS, SIDE * SIDE, seed=seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(0.05 * parameter if name.endswith("weight") else 0.5 + 0 * parameter)
    return Generator(nn.Sequential(network, nn.Unflatten(1, (1, SIDE, SIDE))), latent_shape=(LATENTS,))


def images(generator: Generator, count: int = 3, seed: int = 5) -> Tensor:
    return generator(randn(count, LATENTS, seed=seed)).detach()


ADAM = Adam(lr=0.1)
METHODS = pytest.mark.parametrize("method", [LBFGS(memory=10), ADAM, LevenbergMarquardt()], ids=["lbfgs", "adam", "lm"])


def found(problem: Reconstruction, method: lo.optimizers.Optimizer) -> lo.Result:
    return solve(problem, method, steps=300 if isinstance(method, Adam) else 25)


@METHODS
def test_gaussian_noise_and_the_latents_own_prior_are_ridge_regression(method):
    generator, sigma = affine(), 0.1
    y = GaussianNoise(sigma).draw(images(generator), 0)
    result = found(Reconstruction(generator, y, loss=GaussianNoise(sigma), prior="latent", measured=True), method)
    zero = generator(torch.zeros(1, LATENTS).double()).detach().flatten(1)
    a = (generator(torch.eye(LATENTS).double()).detach().flatten(1) - zero).T
    normal = a.T @ a / sigma**2 + torch.eye(LATENTS).double()
    near(result.x, torch.linalg.solve(normal, a.T @ (y.flatten(1) - zero).T / sigma**2).T, 1e-4)


def optimum(generator: Generator, y: Tensor, noise: NoiseModel) -> tuple[Tensor, Tensor]:
    """The most probable latents by scipy's Newton method in trust regions, and their negative log densities."""

    def objective(z: Tensor, row: Tensor) -> Tensor:
        return noise(generator(z[None]), row[None])[0] + z.square().sum() / 2

    generator.requires_grad_(False)
    latents, values = [], []
    for row in y:

        def value(z, row=row) -> float:
            return float(objective(torch.from_numpy(z), row))

        def slope(z, row=row):
            return torch.func.grad(objective)(torch.from_numpy(z), row).numpy()

        def curvature(z, row=row):
            return torch.func.hessian(objective)(torch.from_numpy(z), row).numpy()

        best = minimize(value, torch.zeros(LATENTS).double().numpy(), jac=slope, hess=curvature, method="trust-exact")
        latents.append(torch.from_numpy(best.x))
        values.append(best.fun)
    return torch.stack(latents), torch.tensor(values, dtype=torch.float64)


OTHERS = [PoissonNoise(20.0), PoissonGaussianNoise(20.0, 0.05), StudentNoise(0.05, 4.0), MultiplicativeNoise(10.0)]


PAIRS = [
    *((noise, method) for noise in OTHERS for method in (LBFGS(memory=10), LevenbergMarquardt())),
    (OTHERS[0], ADAM),
]


@pytest.mark.parametrize(("noise", "method"), PAIRS, ids=lambda part: type(part).__name__)
def test_optima_are_those_that_scipy_finds(noise, method):
    generator = affine()
    y = noise.draw(images(generator), 0)
    problem = Reconstruction(generator, y, noise=noise, prior="latent", measured=True)
    x, value = optimum(generator, y, noise)
    result = found(problem, method)
    near(result.value, value, 1e-6)
    near(result.x, x, 1e-3)


def test_an_unknown_level_is_the_best_one():
    generator = affine()
    y = GaussianNoise(0.1).draw(images(generator), 0)
    unknown = found(Reconstruction(generator, y, loss="gaussian", measured=True), LBFGS(memory=10))
    known = found(Reconstruction(generator, y, loss=MSE(), measured=True), LBFGS(memory=10))
    near(unknown.x, known.x, 1e-3)


def loss_of(problem: Reconstruction) -> object:
    assert isinstance(problem.objective, Fit)
    return problem.objective.loss


def test_noise_of_a_model_is_drawn_and_fitted_by_it():
    generator = affine()
    noise, target = PoissonNoise(5.0), images(generator).clamp(0, 1)
    problem = Reconstruction(generator, target, noise=noise, noise_seed=3)
    assert torch.equal(problem.measurement, noise.draw(target, 3))
    assert loss_of(problem) is noise
    other = Reconstruction(generator, target, noise=noise, loss=MSE(), noise_seed=3)
    assert torch.equal(other.measurement, problem.measurement)
    assert isinstance(loss_of(other), MSE)
    named = {"class_path": "poisson", "init_args": {"photons": 5.0}}
    assert loss_of(Reconstruction(generator, target, noise=named)) == noise
    functional = Reconstruction(generator, target, lambda image: 2 * image, noise=noise, noise_seed=3)
    assert torch.equal(functional.measurement, noise.draw(2 * target, 3))
    masked = Reconstruction(generator, target, Hole(2), noise=StudentNoise(0.1))
    assert (masked.measurement[:, :, 1:3, 1:3] == 0).all()


def test_a_target_is_solved_once_its_loss_is_that_of_noise():
    generator, sigma = affine(), 0.1
    noise = GaussianNoise(sigma)
    y = noise.draw(images(generator, 6), 0)
    problem = Reconstruction(generator, y, loss=noise, tolerance="discrepancy", prior="latent", measured=True)
    result = solve(problem, Adam(lr=0.05), steps=200, start=2 * randn(6, LATENTS, seed=1))
    fit = noise(generator(result.x).detach(), y)
    expected = SIDE * SIDE / 2
    for row, status in enumerate(result.status):
        assert (status == Status.SOLVED) == bool(fit[row] <= expected)
        losses = result.history["loss"][:, 0, row]
        assert (len(losses[~losses.isnan()]) < 200) == (status == Status.SOLVED)
    assert Status.SOLVED in result.status
    part = problem.take(torch.tensor([4, 1]))
    again = solve(part, Adam(lr=0.05), steps=200, start=2 * randn(6, LATENTS, seed=1)[[4, 1]])
    near(again.x, result.x[[4, 1]], 1e-12)


def test_reconstruct_takes_a_noise_model_and_stops_by_discrepancy():
    generator = Generator(
        nn.Sequential(mlp(LATENTS, 20, 64), nn.Unflatten(1, (1, 8, 8))),
        latent_shape=(LATENTS,),
        output_range=(-40.0, 40.0),
    )
    target, noise = generator(generator.latents(4, 3)).detach(), GaussianNoise(0.02)
    settings = {"noise": noise, "prior": "latent", "steps": 100, "restarts": 2, "halving": ()}
    result = lo.reconstruct(generator, target, tolerance="discrepancy", start="random", retries=1, **settings)
    measurement = noise.draw(target, 0)
    assert (noise(result.output, measurement) <= 32).tolist() == [s == Status.SOLVED for s in result.status]
    assert Status.SOLVED in result.status
    other = lo.reconstruct(generator, target, start="random", **settings)
    assert (result.forwards < other.forwards).any()


def test_what_does_not_fit_is_told_in_one_line():
    generator = affine()
    target = images(generator).clamp(0, 1)
    with refuses("target", "counts >= 0"):
        Reconstruction(generator, target - 1, loss=PoissonNoise(5.0), measured=True)
    with refuses("target", "counts by photons"):
        Reconstruction(generator, 40 * target, loss=PoissonNoise(5.0), measured=True)
    few = Reconstruction(generator, 40 * target, loss=PoissonNoise(0.2), measured=True)  # 1 count is 5
    near(few.measurement, 40 * target, 0)
    with refuses("target", "counts >= 0"):
        TargetCheck(generator, lambda image: image, (1, SIDE, SIDE), True, PoissonNoise(5.0))(-target[0])
    with refuses("noise", ">= 0"):
        Reconstruction(generator, target, Gaussian(5), noise=PoissonNoise(5.0))
    with refuses("prior", "GaussianPrior"):
        Reconstruction(generator, target, prior=priors.LatentPrior())
    with refuses("tolerance", "noise model"):
        Reconstruction(generator, target, tolerance="discrepancy")
    with refuses("tolerance", "known level"):
        Reconstruction(generator, target, loss=GaussianNoise(), tolerance="discrepancy")
    with refuses("GaussianNoise.sigma"):
        Reconstruction(generator, target, noise=GaussianNoise())
    with refuses("noise"):
        Reconstruction(generator, target, noise=MSE())  # pyright: ignore[reportArgumentType]
    for level in (-0.1, float("nan")):
        with refuses("noise"):
            Reconstruction(generator, target, noise=level)
    with refuses("noise", "poisson"):
        Reconstruction(generator, target, noise="poison")
    with refuses("noise", "photons"):
        Reconstruction(generator, target, noise="poisson")
    with refuses("target", "finite"):
        Reconstruction(generator, rand(2, 1, SIDE, SIDE) / 0, loss=PoissonNoise(5.0), measured=True)
