"""Clipping, quantisation, gamma and exposure, and the loss of what contradicts their measurements."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import near, rand, randn, refuses

import latentopt as lo
from latentopt.objectives import L1, MSE, Consistent, Fit, Huber
from latentopt.operators import Blur, Clip, Compose, Exposure, Gamma, Mask, PerImage, Quantize

SHAPES = [(2, 3, 4, 4), (2, 5), (2, 1, 7), (2, 1, 3, 4, 5)]
POINTWISE = [Clip(-0.1, 0.6), Quantize(4), Gamma(2.2), Gamma(0.5), Exposure(1.5)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@every_shape
@pytest.mark.parametrize("operator", POINTWISE, ids=repr)
def test_single_values_are_measured_in_every_shape(operator, shape):
    x = randn(*shape)
    assert torch.equal(operator(x), operator(x.flatten()).reshape(shape))


@given(low=st.floats(-2, 1), span=st.floats(0.01, 2), seed=st.integers(0, 99))
def test_clipping_is_idempotent_and_has_the_gradient_of_what_is_not_saturated(low, span, seed):
    clip, x = Clip(low, low + span), randn(1, 50, seed=seed).requires_grad_()
    y = clip(x)
    assert torch.equal(clip(y), y)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient.bool(), (x >= low) & (x <= low + span))


@settings(max_examples=20)
@given(levels=st.integers(2, 300), seed=st.integers(0, 99))
def test_quantisation_rounds_to_the_nearest_level_and_passes_gradients(levels, seed):
    quantize, x = Quantize(levels), rand(1, 50, seed=seed).requires_grad_()
    y = quantize(x)
    grid = torch.linspace(0, 1, levels, dtype=torch.float64)
    near(y, grid[(x.detach().flatten()[:, None] - grid).abs().argmin(1)][None], 1e-12)
    assert torch.equal(quantize(y), y)
    assert torch.equal(torch.autograd.grad((3 * y).sum(), x)[0], torch.full_like(x, 3))


@pytest.mark.parametrize("gamma", [0.3, 1 / 2.2, 1.0, 2.0])
def test_gamma_is_a_power_with_a_gradient_everywhere(gamma):
    x = torch.tensor([[-1.0, -0.2, 0.0, 1e-6, 1e-3, 0.5, 2.0]], dtype=torch.float64).requires_grad_()
    near(Gamma(gamma)(x), x.sign() * x.abs() ** gamma, 0.04)  # largest in the straight line near 0
    near(Gamma(gamma)(x)[:, 4:], x[:, 4:] ** gamma, 1e-15)
    gradient = torch.autograd.grad(Gamma(gamma)(x).sum(), x)[0]
    near(gradient[:, 4:], gamma * x[:, 4:] ** (gamma - 1), 1e-12)
    assert bool(gradient.isfinite().all())
    assert bool((gradient > 0).all())


def test_exposure_doubles_the_light_by_the_stop():
    x = rand(2, 3)
    assert torch.equal(Exposure(3)(x), 8 * x)
    near(Exposure(-0.5)(Exposure(0.5)(x)), x, 1e-15)
    near(Exposure(3).adjoint(x[:, None], (1, 3)), 8 * x[:, None], 1e-15)
    assert [operator.is_linear for operator in POINTWISE] == [False, False, False, False, True]


@given(seed=st.integers(0, 99))
def test_images_that_may_have_given_the_measurement_cost_nothing(seed):
    """Consistent is 0 if and only if the operator measures alike, up to the ends of cells."""
    x, other = randn(2, 40, seed=seed), randn(2, 40, seed=seed + 100)
    for operator in (Clip(-0.3, 0.5), Quantize(3), PerImage(Clip(high=0.4), Quantize(5))):
        y = operator(x)
        near(operator.consistent(x, y), y, 1e-15)
        alike = (operator(other) - y).abs() < 1e-12
        near(operator.consistent(other, y)[alike], y[alike], 1e-12)
        assert ((operator.consistent(other, y) - y)[~alike].abs() > 0).all()


def test_consistency_is_the_distance_to_the_set_of_images_that_measure_alike():
    y = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    low = torch.tensor([[-3.0, -3.0, -3.0]], dtype=torch.float64)
    near(Clip().consistent(low, y) - y, torch.tensor([[0.0, -3.5, -4.0]], dtype=torch.float64), 0)
    near(Clip().consistent(-low, y) - y, torch.tensor([[3.0, 2.5, 0.0]], dtype=torch.float64), 0)
    near(Quantize(3).consistent(low, y) - y, torch.tensor([[0.0, -3.25, -3.75]], dtype=torch.float64), 1e-15)
    near(Quantize(3).consistent(-low, y) - y, torch.tensor([[2.75, 2.25, 0.0]], dtype=torch.float64), 1e-15)


@pytest.mark.parametrize("operator", [Clip(0.2, 0.6), Quantize(4), Compose(Blur(0.5), Exposure(1), Clip())], ids=repr)
@pytest.mark.parametrize("loss", [Consistent(), Consistent(L1()), Consistent(Huber())], ids=repr)
def test_its_gradient_is_exact(operator, loss):
    x = (0.6 * randn(2, 1, 3, 4)).requires_grad_()
    fit = Fit(loss, operator, operator(rand(2, 1, 3, 4, seed=1)))
    assert torch.autograd.gradcheck(fit, x)
    if loss == Consistent():
        near(fit.residual(x).square().sum(1), fit(x), 1e-15)
    part = fit.take(torch.tensor([1]))
    near(part(x[1:]), fit(x)[1:], 1e-15)


def test_operators_that_lose_nothing_are_compared_as_usual():
    x, y = rand(2, 1, 4, 4), rand(2, 1, 4, 4, seed=1)
    for operator in (
        Mask(torch.eye(4)),
        Compose([]),
        Compose(Clip(), Blur(0.5)),
        torch.tanh,
        PerImage(torch.tanh, torch.exp),  # pyright: ignore[reportArgumentType]
    ):
        assert torch.equal(Fit(Consistent(), operator, y)(x), Fit(MSE(), operator, y)(x))


def test_a_saturated_start_finds_back_only_by_consistency():
    module = torch.nn.Linear(2, 6, bias=False).double()
    module.weight.data = randn(6, 2, seed=3)
    decoder = lo.Generator(module, latent_shape=2, output_range=(0, 1))
    truth, far = torch.tensor([[0.4, -0.3]], dtype=torch.float64), torch.tensor([[60.0, 40.0]], dtype=torch.float64)
    clip = Clip(-0.4, 0.4)
    y = clip(decoder(truth)).detach()
    inside = (y.abs() < 0.4)[0]
    assert 2 <= int(inside.sum()) < 6
    answers = [
        lo.reconstruct(decoder, y, operator=clip, loss=loss, start=far, steps=50, restarts=1, measured=True).x
        for loss in ("consistent", "mse")
    ]
    near(answers[0], truth, 1e-5)
    assert torch.equal(answers[1], far)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Clip(1.0, 0.5), "Clip.low"),
        (lambda: Clip(0.5, 0.5), "Clip.low"),
        (lambda: Clip(high=float("nan")), "Clip.low"),
        *[(lambda levels=levels: Quantize(levels), "Quantize.levels") for levels in (1, 0, -2)],
        *[(lambda gamma=gamma: Gamma(gamma), "Gamma.gamma") for gamma in (0, -1, float("inf"), float("nan"))],
        *[(lambda stops=stops: Exposure(stops), "Exposure.stops") for stops in (float("inf"), float("nan"), 1e6)],
        (lambda: Fit(Consistent(L1()), Clip(), rand(1, 2)).residual(rand(1, 2)), "Consistent.loss"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, name):
    with refuses(name):
        make()
