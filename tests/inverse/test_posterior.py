"""Posteriors whose mean, covariance, evidence and density are known; chains of which the same holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from nets import mlp, near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, Posterior, priors
from latentopt.inverse.convergence import effective_sample_size, split_r_hat
from latentopt.inverse.laplace import LaplaceMixture
from latentopt.inverse.posterior import PosteriorProblem
from latentopt.objectives import GaussianNoise, PoissonNoise
from latentopt.operators import Gaussian
from latentopt.zoo.cards import load_generator

SIGMA = 0.5
OPERATOR = Gaussian(4)


def images(module: nn.Module, count: int, **settings) -> Generator:
    """Latents to images (B, 1, 4, 4)."""
    return Generator(nn.Sequential(module, nn.Unflatten(1, (1, 4, 4))).double(), latent_shape=count, **settings)


def linear() -> tuple[Generator, Tensor, Tensor]:
    """A linear generator of 3 latents, not standard normal; and its measurements W u + b of standard ones."""
    layer = nn.Linear(3, 16).double()
    with torch.no_grad():
        layer.weight.copy_(randn(16, 3))
        layer.bias.copy_(randn(16, seed=1))
    mean, scale = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    generator = images(layer, 3, latents=torch.distributions.Normal(mean, scale))
    matrix = OPERATOR(layer.weight.detach().T.reshape(3, 1, 4, 4)).T
    return generator, matrix * scale, OPERATOR(layer(mean).detach().reshape(1, 1, 4, 4))[0]


def measurements(W: Tensor, b: Tensor, count: int) -> Tensor:
    return randn(count, 3, seed=2) @ W.T + b + SIGMA * randn(count, len(b), seed=3)


def reconstruction(generator: Generator, y: Tensor, **settings) -> lo.Reconstruction:
    return lo.Reconstruction(generator, y, OPERATOR, **{"loss": GaussianNoise(SIGMA), **settings})


def draw(problem: lo.Reconstruction, **settings) -> Posterior:
    """The posterior, its modes from a search that is short."""
    found = lo.solve(problem, lo.LBFGS(), steps=20, restarts=3)
    return lo.posterior(problem, found, **settings)


@pytest.fixture(scope="module")
def exact() -> tuple[Posterior, Tensor, Tensor]:
    """The posterior of two targets of a linear generator, and the mean and the covariance in closed form."""
    generator, W, b = linear()
    y = measurements(W, b, 2)
    found = draw(reconstruction(generator, y), steps=72, leapfrogs=3, chains=6, temperatures=2)
    covariance = torch.linalg.inv(W.T @ W / SIGMA**2 + torch.eye(3).double())
    own = generator.distribution
    scale = own.scale
    return found, own.mean + scale * ((y - b) @ W / SIGMA**2 @ covariance), scale[:, None] * covariance * scale


def test_the_mean_and_the_covariance_of_a_linear_generator_are_those_of_the_closed_form(exact):
    found, mean, covariance = exact
    sd = covariance.diagonal().sqrt()
    assert ((found.mean - mean).abs() < 0.25 * sd).all()
    assert (found.std / sd - 1).abs().max() < 0.2
    samples = torch.cov(found.samples[:, 0].T)
    assert ((samples - covariance).abs() < 0.3 * sd[:, None] * sd).all()
    near(found.modes.x, mean, 1e-6)
    assert found.modes.weight.tolist() == [1.0, 1.0]
    assert (found.r_hat < 1.1).all()
    assert (found.effective_samples > 60).all()


def test_intervals_hold_the_probability_that_they_say(exact):
    found, mean, covariance = exact
    normal = torch.distributions.Normal(mean, covariance.diagonal().sqrt())
    for level in (0.5, 0.9):
        low, high = found.interval(level)
        assert (normal.cdf(high) - normal.cdf(low) - level).abs().max() < 0.12
    low, high = found.interval(0.9, "images")
    held = ((low <= found.images) & (found.images <= high)).double().mean()
    assert held == pytest.approx(0.9, abs=0.02)


def test_the_laplace_mixture_of_a_linear_generator_is_the_posterior():
    generator, W, b = linear()
    y = measurements(W, b, 2)
    target = PosteriorProblem(reconstruction(generator, y))
    precision = W.T @ W / SIGMA**2 + torch.eye(3).double()
    u = (y - b) @ W / SIGMA**2 @ torch.linalg.inv(precision)
    mixture = LaplaceMixture.at(target.rows(1, 0), torch.stack([u + 0.01, u, u - 9]))
    near(mixture.u[0], u, 1e-9)  # the best of three, which explains the nearest
    assert mixture.distinct.T.tolist() == [[True, False, True]] * 2
    near(mixture.curvature()[0, 0], precision, 1e-8)
    root = mixture.root(1.0, torch.zeros(2).long())[0]
    near(root @ root.T, torch.linalg.inv(precision), 1e-8)
    marginal = torch.distributions.MultivariateNormal(b, SIGMA**2 * torch.eye(4).double() + W @ W.T).log_prob(y)
    constant = 4 / 2 * math.log(2 * math.pi * SIGMA**2)  # of the likelihood, which the loss leaves out
    near(mixture.log_evidence()[0], marginal + constant, 1e-8)


def folded() -> tuple[Generator, Tensor]:
    """|u| (with a bend) of one latent, measured at 16 pixels: two modes of different weight."""
    first, second = nn.Linear(1, 2), nn.Linear(2, 16)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        first.bias.copy_(torch.tensor([0.0, 0.3]))
        second.weight.copy_(torch.ones(16, 2))
        second.bias.zero_()
    generator = images(nn.Sequential(first, nn.ReLU(), second), 1)
    return generator, generator(torch.tensor([[1.1]]).double()).detach()


def test_the_weights_of_two_modes_and_the_density_are_those_of_numerical_integration():
    generator, target = folded()
    noise = GaussianNoise(1.0)
    problem = lo.Reconstruction(generator, target, loss=noise)
    found = draw(problem, steps=150, leapfrogs=2, temperatures=5, hottest=30.0, samples=2000, chains=16)
    grid = torch.linspace(-4, 4, 4001).double()[:, None]
    with torch.no_grad():
        log_density = -noise(generator(grid), target.expand(4001, 1, 4, 4)) - grid[:, 0].square() / 2
    density = log_density.softmax(0)
    right = density[grid[:, 0] > 0.15].sum()
    assert len(found.modes.x) == 2
    weight = found.modes.weight[found.modes.x[:, 0] > 0]
    assert weight.item() == pytest.approx(right.item(), abs=0.06)
    edges = torch.tensor([-4.0, -1.3, -1.0, -0.7, 0.15, 0.9, 1.1, 1.3, 4.0]).double()
    bins = torch.histogram(grid[:, 0], edges, weight=density).hist
    shares = torch.histogram(found.samples[:, 0, 0], edges).hist / len(found.samples)
    assert (bins - shares).abs().max() < 0.05
    mean = (grid[:, 0] * density).sum()
    assert found.mean.item() == pytest.approx(mean.item(), abs=0.15)


def small(count: int = 3, **settings) -> lo.Reconstruction:
    generator = images(mlp(2, 8, 16, seed=4), 2)
    return reconstruction(generator, generator.latents(count, 5).double() @ randn(2, 4) + 1.0, **settings)


QUICK: dict[str, Any] = {"steps": 16, "samples": 20, "temperatures": 3, "chains": 2, "leapfrogs": 2}


def test_a_batch_gives_what_its_targets_give_alone():
    whole = draw(small(2), **QUICK)
    for row in range(2):
        alone = draw(small(2).take(torch.tensor([row])), **QUICK)
        near(alone.samples[:, 0], whole.samples[:, row], 1e-6)
        near(alone.modes.weight, whole.modes.weight[whole.modes.sample == row], 1e-9)
        assert alone.forwards == whole.forwards[row]
        assert alone.backwards == whole.backwards[row]


def test_the_cost_is_that_of_the_search_and_of_every_chain():
    problem = small(1)
    found = lo.solve(problem, lo.LBFGS(), steps=5, restarts=1)
    given = lo.posterior(problem, found, **QUICK)
    chains = 3 * 2 * (16 * 2 + 1)
    target = PosteriorProblem(problem)
    polish, _ = target.laplace(found, 0)
    assert given.forwards.item() == polish.forwards.item() + chains + 1 + 20 + 1  # curvature, samples, mode
    assert given.backwards.item() == polish.backwards.item() + chains + 3


def test_results_are_saved_and_drawn(exact, tmp_path):
    found, *_ = exact
    found.save(tmp_path / "posterior.safetensors")
    loaded = Posterior.load(tmp_path / "posterior.safetensors")
    assert torch.equal(loaded.samples, found.samples)
    assert torch.equal(loaded.modes.x, found.modes.x)
    assert loaded.meta == found.meta
    found.plot(tmp_path / "posterior.png")
    assert found.summary()["targets"] == 2


def test_other_noise_is_sampled_too():
    generator = images(nn.Sequential(mlp(2, 8, 16, seed=4), nn.Softplus()), 2)
    counts = PoissonNoise(20).draw(generator(torch.zeros(1, 2).double()).detach(), 0)
    problem = lo.Reconstruction(generator, counts, loss=PoissonNoise(20), measured=True)
    found = draw(problem, steps=100, leapfrogs=3)
    line = torch.linspace(-3, 3, 121).double()
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        value = PoissonNoise(20)(generator(grid), counts.expand(len(grid), *counts.shape[1:]))
    density = (-value - grid.square().sum(1) / 2).softmax(0)
    mean = density @ grid
    sd = (density @ (grid - mean).square()).sqrt()
    assert ((found.mean[0] - mean).abs() < 0.3 * sd).all()
    assert (found.std[0] / sd - 1).abs().max() < 0.25


def test_what_has_no_posterior_is_refused():
    generator = images(mlp(2, 8, 16, seed=4), 2)
    y = rand(1, 4)
    with refuses("loss", "noise model"):
        lo.posterior(lo.Reconstruction(generator, y, OPERATOR))
    with refuses("prior", "own latents"):
        lo.posterior(reconstruction(generator, y, prior=priors.BoxPrior()))
    with refuses("steps"):
        lo.posterior(reconstruction(generator, y), steps=4)
    with refuses("hottest"):
        lo.posterior(reconstruction(generator, y), hottest=0.5)
    with refuses("found", "(1, 2)"):
        lo.posterior(reconstruction(generator, y), lo.solve(small(2), steps=1))
    found = draw(reconstruction(generator, y), **QUICK)
    with refuses("level"):
        found.interval(1.0)


def test_the_diagnostics_of_chains_are_those_of_autoregressions():
    for rho in (0.0, 0.5, 0.9):
        noise = randn(4000, 4, 8, seed=6)
        draws = [noise[0]]
        for t in range(1, 4000):
            draws.append(rho * draws[-1] + (1 - rho**2) ** 0.5 * noise[t])
        chains = torch.stack(draws)
        expected = 16000 * (1 - rho) / (1 + rho)
        assert effective_sample_size(chains).mean() == pytest.approx(expected, rel=0.1)
        assert split_r_hat(chains).max() < 1.02
    apart = chains + torch.arange(4).double()[None, :, None]
    assert (split_r_hat(apart) > 1.3).all()
    assert (effective_sample_size(apart) < 100).all()
    still = torch.ones(10, 2, 1)
    assert split_r_hat(still).item() == 1
    assert effective_sample_size(still).item() == 20
    still[:, 1] = 2
    assert split_r_hat(still).item() == math.inf


def test_calibration_counts_what_intervals_hold():
    generator, _, _ = linear()
    found = lo.calibrate(
        generator, GaussianNoise(SIGMA), operator=OPERATOR, samples=60, steps=32, temperatures=1, leapfrogs=3
    )
    chains = 2 * (32 * 3 + 1)
    assert (found.posterior.forwards - chains > 400).all()  # of the search
    assert (found.posterior.backwards - chains > 200).all()
    for row in found.rows:
        assert abs(row["latents"] - row["level"]) < max(0.1, 1.5 * row["latents_+-"])
        assert abs(row["pixels"] - row["level"]) < max(0.1, 1.5 * row["pixels_+-"])
    assert found.latents.shape == (3, 60)
    assert "| 90% |" in found.markdown()
    found.plot()
    with refuses("levels"):
        lo.calibrate(generator, GaussianNoise(SIGMA), levels=[1.5])


@pytest.mark.slow
def test_means_are_those_of_long_chains_of_hamiltonian_monte_carlo():
    generator, noise, operator = load_generator("mnist-vae"), GaussianNoise(0.1), Gaussian(25)
    with torch.no_grad():
        y = noise.draw(operator(generator(generator.latents(5, 11))), 0)
    problem = lo.Reconstruction(generator, y, operator, loss=noise)
    found = lo.posterior(problem, steps=3000, chains=4, temperatures=4)
    draws = hamiltonian(generator, operator, y, 0.1, found.modes, steps=6000)
    mean, std = draws.mean((0, 1)), draws.flatten(0, 1).std(0)
    assert split_r_hat(draws.float()).max() < 1.1
    assert ((found.mean - mean).abs() / std).max() < 0.1


def hamiltonian(generator, operator, y, sigma, modes, steps: int, leaps: int = 12, chains: int = 8) -> Tensor:
    """Draws (steps, chains, B, n) of plain HMC, written for this test: no preconditioner, no temperatures."""
    random = torch.Generator().manual_seed(1)
    network, count, n = generator.fused(), len(y), modes.x.shape[1]
    pick = [modes.x[modes.sample == b] for b in range(count)]
    share = [modes.weight[modes.sample == b] for b in range(count)]
    starts = [x[torch.multinomial(w, chains, True, generator=random)] for x, w in zip(pick, share, strict=True)]
    z, target = torch.stack(starts, 1).reshape(-1, n), y.repeat(chains, 1)

    def energy(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        value = (operator(network(z)) - target).square().sum(1) / (2 * sigma**2) + z.square().sum(1) / 2
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    value, grad = energy(z)
    size, draws = torch.full((len(z), 1), 0.02), list[Tensor]()
    for t in range(steps):
        p = torch.randn(z.shape, generator=random)
        h = size * (0.8 + 0.4 * torch.rand(1, generator=random))
        q, v, new_value, new_grad = p, z, value, grad
        for _ in range(leaps):
            q = q - h / 2 * new_grad
            v = v + h * q
            new_value, new_grad = energy(v)
            q = q - h / 2 * new_grad
        gain = value - new_value + (p.square() - q.square()).sum(1) / 2
        accepted = torch.rand(len(z), generator=random).log() < gain
        if t < steps // 5:
            size = size * torch.exp(0.1 * (gain.clamp_max(0).exp() - 0.75))[:, None]
        else:
            draws.append(torch.where(accepted[:, None], v, z).unflatten(0, (chains, count)))
        z = torch.where(accepted[:, None], v, z)
        value, grad = torch.where(accepted, new_value, value), torch.where(accepted[:, None], new_grad, grad)
    return torch.stack(draws)
