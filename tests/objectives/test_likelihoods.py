"""Noise models against scipy's distributions, autograd, and their own draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import near, rand, randn, refuses
from scipy import stats
from torch import Tensor

from latentopt.objectives import (
    GaussianNoise,
    MultiplicativeNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    StudentNoise,
)
from latentopt.objectives.counts import LEAST_RATE
from latentopt.operators import Hole

MODELS = [
    GaussianNoise(0.3),
    PoissonNoise(5.0),
    PoissonGaussianNoise(5.0, 0.2),
    StudentNoise(0.2, dof=3.0),
    MultiplicativeNoise(4.0),
]
EVERY = pytest.mark.parametrize("noise", MODELS, ids=lambda noise: type(noise).__name__)


def log_density(noise: NoiseModel, mean: Tensor, y: Tensor) -> Tensor:
    """The logarithm of scipy's density or probability of each measurement."""
    m, y_ = mean.numpy(), y.numpy()
    match noise:
        case GaussianNoise(sigma):
            values = stats.norm.logpdf(y_, m, sigma)
        case PoissonNoise(photons):
            values = stats.poisson.logpmf((photons * y_).round(), photons * m)
        case StudentNoise(scale, dof):
            values = stats.t.logpdf(y_, dof, m, scale)
        case MultiplicativeNoise(looks):
            values = stats.gamma.logpdf(y_, looks, scale=m / looks)
        case _:
            raise ValueError(noise)
    return torch.from_numpy(values)


def positive_means(*shape: int, seed: int = 0) -> Tensor:
    return 0.05 + 0.95 * rand(*shape, seed=seed)


@pytest.mark.parametrize("noise", [*MODELS[:2], *MODELS[3:]], ids=lambda noise: type(noise).__name__)
def test_a_loss_is_the_negative_log_likelihood_less_that_of_the_best_prediction(noise):
    a, b = positive_means(3, 2, 4), positive_means(3, 2, 4, seed=1)
    y = noise.draw(positive_means(3, 2, 4, seed=2), 0)
    expected = (log_density(noise, b, y) - log_density(noise, a, y)).flatten(1).sum(1)
    near(noise(a, y) - noise(b, y), expected, 1e-10)
    bright = y.clamp_min(0.1)
    near(noise(bright, bright), torch.zeros(3).double(), 1e-12)


def test_read_noise_is_a_shifted_poisson_likelihood():
    noise, plain = PoissonGaussianNoise(5.0, 0.2), PoissonNoise(5.0)
    mean, y = positive_means(3, 4), PoissonNoise(5.0).draw(positive_means(3, 4), 0)
    near(noise(mean, y), plain(mean + 5 * 0.04, y + 5 * 0.04), 1e-12)
    near(PoissonGaussianNoise(5.0, 0.0)(mean, y), plain(mean, y), 1e-14)


@EVERY
def test_scores_are_gradients_and_information_is_the_mean_curvature(noise):
    mean = positive_means(3, 1).requires_grad_()
    y = noise.draw(mean.detach().expand(3, 50_000), 0)
    (gradient,) = torch.autograd.grad(noise(mean.expand_as(y), y).sum(), mean)
    score = noise.score(mean.detach().expand_as(y), y)
    near(score.sum(1, keepdim=True), gradient, 1e-9 * float(score.abs().sum()))
    information = noise.information(mean.detach(), y[:, :1])
    near(score.square().mean(1, keepdim=True) / information, torch.ones(3, 1).double(), 0.06)
    near(score.mean(1, keepdim=True) / information.sqrt(), torch.zeros(3, 1).double(), 0.02)


@EVERY
def test_the_discrepancy_is_the_mean_loss_at_the_truth(noise):
    mean = positive_means(1, 200) if not isinstance(noise, PoissonNoise) else 2 * rand(1, 200).square()
    draws = torch.cat([noise.draw(mean, seed) for seed in range(100)])
    losses = noise(mean.expand_as(draws), draws)
    exact = not isinstance(noise, PoissonGaussianNoise)  # whose likelihood is an approximation
    tolerance = 4 * float(losses.std()) / 100**0.5 if exact else 0.05 * float(losses.mean())
    near(losses.mean(), noise.discrepancy(mean, draws[:1])[0], tolerance)


@given(rate=st.floats(1e-5, 300.0))
@settings(max_examples=40, deadline=None)
def test_the_expected_deviance_of_counts_is_its_sum(rate):
    count = np.arange(1, 1000)
    expected = (stats.poisson.pmf(count, rate) * count * np.log(count / rate)).sum()
    value = PoissonNoise(1.0).discrepancy(torch.tensor([[rate]], dtype=torch.float64), torch.zeros(1, 1))
    assert abs(float(value) - expected) < 1e-3 * expected


@given(rate=st.floats(-1.0, 3.0), count=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_counts_where_none_are_expected_cost_a_finite_number_of_nats(rate, count):
    noise, y = PoissonNoise(1.0), torch.tensor([[float(count)]]).double()
    mean = torch.tensor([[rate]], dtype=torch.float64).requires_grad_()
    loss = noise(mean, y)
    (slope,) = torch.autograd.grad(loss.sum(), mean)
    assert loss.isfinite()
    assert loss >= 0
    near(slope, noise.score(mean.detach(), y), 1e-9 * float(1 + slope.abs()))
    if rate > LEAST_RATE:
        expected = rate - count + (count * np.log(count / rate) if count else 0.0)
        near(loss.detach(), torch.tensor([expected], dtype=torch.float64), 1e-12)


def test_counts_are_precise_in_single_precision():
    mean = torch.full((1, 4), 1e6) + torch.arange(4.0) * 300
    y = torch.full((1, 4), 1e6)
    exact = PoissonNoise(1.0)(mean.double(), y.double())
    near(PoissonNoise(1.0)(mean, y).double(), exact, 1e-4 * float(exact))


@EVERY
def test_noise_of_a_sample_depends_on_its_values_and_the_seed_alone(noise):
    mean = rand(4, 1, 3, 3)
    drawn = noise.draw(mean, 3)
    assert torch.equal(noise.draw(mean[2:3], 3), drawn[2:3])
    assert not torch.equal(noise.draw(mean, 4), drawn)
    assert drawn.dtype == mean.dtype
    assert noise.draw(mean.float(), 3).dtype == torch.float32


def test_an_operator_draws_the_noise_and_keeps_hidden_pixels_hidden():
    images = rand(2, 1, 6, 6)
    operator = Hole(2)
    for noise in (GaussianNoise(0.1), PoissonGaussianNoise(5.0, 0.1), StudentNoise(0.1)):
        noisy = operator.add_noise(operator(images), noise, 0)
        assert (noisy[:, :, 2:4, 2:4] == 0).all()
        assert (noisy != operator(images)).sum() >= 40
    gaussian = operator.add_noise(operator(images), GaussianNoise(0.1), 5)
    assert torch.equal(gaussian, operator.add_noise(operator(images), 0.1, 5))
    assert GaussianNoise(0.1).discrepancy(operator(images), gaussian).tolist() == [16.0, 16.0]  # 32 of 36 pixels


def test_an_unknown_level_is_profiled_out():
    noise, mean, y = GaussianNoise(), randn(2, 5), randn(2, 5, seed=1)
    level = (mean - y).square().mean(1).sqrt()
    known = [GaussianNoise(float(s)) for s in level]
    for row, each in enumerate(known):
        part = slice(row, row + 1)
        near(noise.score(mean, y)[part], each.score(mean[part], y[part]), 1e-9)
        near(noise.information(mean, y)[part], each.information(mean[part], y[part]), 1e-9)
    other = randn(2, 5, seed=2)
    ratio = (mean - y).square().sum(1) / (other - y).square().sum(1)
    near(noise(mean, y) - noise(other, y), 2.5 * ratio.log(), 1e-9)
    near(noise(y, y), torch.zeros(2).double(), 0)
    with refuses("GaussianNoise.sigma", "stop by discrepancy"):
        noise.discrepancy(mean, y)
    with refuses("GaussianNoise.sigma", "draw noise"):
        noise.draw(mean, 0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_arguments_that_are_not_positive_are_refused(value):
    for name, make in {
        "GaussianNoise.sigma": lambda: GaussianNoise(value),
        "PoissonNoise.photons": lambda: PoissonNoise(value),
        "PoissonGaussianNoise.photons": lambda: PoissonGaussianNoise(value, 1.0),
        "StudentNoise.scale": lambda: StudentNoise(value),
        "StudentNoise.dof": lambda: StudentNoise(1.0, value),
        "MultiplicativeNoise.looks": lambda: MultiplicativeNoise(value),
        "MultiplicativeNoise.floor": lambda: MultiplicativeNoise(1.0, value),
    }.items():
        with refuses(name):
            make()
    with refuses("PoissonGaussianNoise.sigma"):
        PoissonGaussianNoise(1.0, -0.1)


def test_negative_intensities_have_no_counts():
    for noise in (PoissonNoise(5.0), PoissonGaussianNoise(5.0, 0.1), MultiplicativeNoise(2.0)):
        with refuses("noise", ">= 0"):
            noise.draw(torch.full((1, 2), -0.1), 0)
    for noise in (PoissonNoise(5.0), MultiplicativeNoise(2.0)):
        with refuses("target", ">= 0"):
            noise.require(torch.full((1, 2), -0.1))
    with refuses("prediction", "(1, 3)"):
        PoissonNoise(5.0)(rand(1, 2), rand(1, 3))
