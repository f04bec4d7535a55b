"""Operators with unknown parameters: their priors, and equality with the known operators."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from nets import near, rand, randn, refuses
from scipy import stats
from torch import nn

import latentopt as lo
from latentopt import operators as ops
from latentopt.batch_math import take

IMAGES = rand(3, 2, 11, 13)
OPERATORS: dict[str, ops.BlindOperator] = {
    "blur": ops.BlindBlur((0.5, 2.0)),
    "shift": ops.BlindShift(2.5),
    "kernel": ops.BlindKernel(3),
    "motion": ops.BlindMotion((1.0, 5.0)),
    "exposure": ops.BlindExposure(),
    "function": lo.unknown(lambda image, power: image**power, power=(1.0, 2.0)),
    "module": lo.unknown(nn.Conv2d(2, 1, 3).double(), weight=ops.Normal(0.0, 1.0), bias=ops.Normal(0.0, 1.0)),
}


def test_a_known_width_is_that_of_blur():
    widths = torch.tensor([0.6, 1.0, 1.9]).double()
    blurred = ops.BlindBlur((0.5, 2.0)).at(sigma=widths)(IMAGES)
    for width, image, ours in zip(widths.tolist(), IMAGES, blurred, strict=True):
        near(ours, ops.Blur(width, radius=6)(image[None])[0], 1e-12)


def test_known_motions_and_kernels_are_those_of_the_known_operators():
    motion = ops.BlindMotion((1.0, 9.0), points=5)
    near(motion.at(length=5.0, angle=30.0)(IMAGES), ops.MotionBlur(5, 30.0)(IMAGES), 1e-6)
    kernel = rand(3, 3)
    near(ops.BlindKernel(3).at(kernel=kernel / kernel.sum())(IMAGES), ops.KernelBlur(kernel)(IMAGES), 1e-12)


def test_a_shift_moves_pixels_right_and_down():
    shifted = ops.BlindShift(3.0).at(shift=torch.tensor([2.0, -1.0]))(IMAGES)
    near(shifted[..., :-1, 2:], IMAGES[..., 1:, :-2], 1e-12)
    half = ops.BlindShift(3.0).at(shift=torch.tensor([0.5, 0.0]))(IMAGES)
    near(half[..., 1:], (IMAGES[..., 1:] + IMAGES[..., :-1]) / 2, 1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_image_alone_is_measured_as_in_a_batch(name):
    operator, z = OPERATORS[name], randn(3, 4 + OPERATORS[name].size)
    near(operator(IMAGES)[1:2], operator(IMAGES[1:2]), 1e-12)
    known = operator.at(**operator.values(z))
    rows = torch.tensor([2, 0, 2])
    near(take(known, rows)(IMAGES[rows]), known(IMAGES)[rows], 1e-12)
    for values in operator.values(z).values():
        assert values.isfinite().all()


def test_priors_are_the_distributions_they_are_named_for():
    u = torch.linspace(-3, 3, 7).double()[:, None]
    at = torch.special.ndtr(u).numpy()
    near(ops.Uniform(1.0, 4.0)(u), torch.from_numpy(stats.uniform(1, 3).ppf(at)), 1e-10)
    near(ops.LogUniform(0.5, 3.0)(u), torch.from_numpy(stats.loguniform(0.5, 3).ppf(at)), 1e-10)
    near(ops.Normal(1.0, 2.0)(u), torch.from_numpy(stats.norm(1, 2).ppf(at)), 1e-10)
    weights = ops.Simplex((3, 3))(randn(5, 3, 3))
    near(weights.sum((1, 2)), torch.ones(5).double(), 1e-12)
    near(ops.Simplex((2,), spread=0.5)(torch.tensor([[2.0, 0.0]])), torch.tensor([[1.0, 0.0]]).softmax(1), 1e-6)
    assert (weights > 0).all()


def test_the_step_is_a_unit_of_the_latents_alone():
    plain, wide = (ops.BlindBlur(ops.LogUniform(0.5, 2.0, step=step)) for step in (1.0, 4.0))
    near(wide(IMAGES), plain(IMAGES), 1e-12)  # the same widths are drawn
    near(wide.values(torch.ones(1, 1))["sigma"], plain.values(torch.full((1, 1), 4.0))["sigma"], 0)


def test_a_parameter_of_a_module_is_its_own():
    conv = nn.Conv2d(2, 1, 3).double()
    operator = lo.unknown(conv, weight=ops.Normal(0.0, 1.0))
    assert operator.size == conv.weight.numel()
    near(operator.at(weight=conv.weight.detach())(IMAGES), conv(IMAGES).detach(), 1e-12)
    two = torch.stack([conv.weight.detach(), 2 * conv.weight.detach(), conv.weight.detach()])
    doubled = operator.at(weight=two)(IMAGES)[1]
    assert conv.bias is not None
    near(doubled - conv.bias, 2 * (conv(IMAGES)[1] - conv.bias), 1e-12)


@pytest.mark.parametrize(
    ("name", "words", "build"),
    [
        ("priors", "one of each unknown parameter", lambda: lo.unknown(nn.Conv2d(1, 1, 1))),
        ("weight", "bounds", lambda: lo.unknown(nn.Conv2d(1, 1, 1), weight=None)),
        ("width", "unknown name", lambda: lo.unknown(nn.Conv2d(1, 1, 1), width=(0.0, 1.0))),
        ("Uniform", "finite bounds", lambda: lo.unknown(nn.Conv2d(1, 1, 1), weight=(0.0, math.inf))),
        ("LogUniform.low", "above 0", lambda: ops.BlindBlur((0.0, 1.0))),
        ("BlindBlur.radius", "no upper bound", lambda: ops.BlindBlur(ops.Normal(1.0, 0.1))),
        ("BlindKernel.side", "odd", lambda: ops.BlindKernel(4)),
        ("BlindMotion.length", "at least 1", lambda: ops.BlindMotion((0.5, 3.0))),
        ("values", "sigma", lambda: ops.BlindBlur().at(width=1.0)),
        ("sigma", "shape", lambda: ops.BlindBlur().at(sigma=torch.ones(2, 2))),
        ("sigma", "3 images", lambda: ops.BlindBlur().at(sigma=torch.ones(2))(IMAGES)),
        ("BlindKernel.side", "11 pixels", lambda: ops.BlindKernel(23)(IMAGES)),
        ("operator", "vmap", lambda: lo.unknown(lambda x, a: x * float(a), a=(0.0, 1.0))(IMAGES)),
    ],
)
def test_what_is_wrong_is_told_in_one_line(name: str, words: str, build: Any):
    with refuses(name, words):
        build()


def test_unknowns_within_another_operator_are_refused():
    blur = ops.BlindBlur((0.5, 2.0))
    with refuses("Compose.operators", "latentopt.unknown"):
        ops.Compose(blur, ops.Downsample(2))
    with refuses("PerImage.operators", "BlindBlur"):
        ops.PerImage([blur, blur])
    with refuses("Magnitude.operator", "BlindBlur"):
        ops.Magnitude(blur)


def test_priors_and_values_that_are_no_finite_numbers_are_refused():
    with refuses("Uniform.low"):
        ops.Uniform("a", 1)  # pyright: ignore[reportArgumentType]
    with refuses("Normal.std"):
        ops.Normal(0.0, None)  # pyright: ignore[reportArgumentType]
    blur = ops.BlindBlur((0.5, 2.0))
    for value in ("a", math.nan):
        with refuses("sigma"):
            blur.at(sigma=value)
    with refuses("z", "found.x"):
        blur.values(torch.zeros(3, 0))
