"""Operators on signals (B, C, T) and volumes (B, C, D, H, W)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import near, rand, randn, refuses
from scipy import ndimage

import latentopt as lo
from latentopt.operators import Blur, Compose, Crop, Downsample, Gaussian, Hole, KernelBlur, Mask, Operator

OPERATORS: dict[str, Operator] = {
    "crop": Crop(3),
    "hole": Hole(2),
    "downsample": Downsample(2),
    "downsample by a fraction": Downsample(4 / 3),
    "blur": Blur(0.8, radius=2),
    "mask": Mask(torch.tensor([1.0, 0, 0.5, 1])),
    "gaussian": Gaussian(4),
    "compose": Compose(Blur(0.5), Downsample(2), Gaussian(2)),
}
DIMENSIONS = (1, 3)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("axes", DIMENSIONS)
@settings(max_examples=10)
@given(batch=st.integers(1, 2), channels=st.integers(1, 2), seed=st.integers(0, 99), data=st.data())
def test_the_adjoint_is_the_one_of_the_inner_product(operator, axes, batch, channels, seed, data):
    sides = [data.draw(st.sampled_from([4, 8])) for _ in range(axes - 1)] + [4]
    x = randn(batch, channels, *sides, seed=seed)
    measured = operator(x)
    y = randn(*measured.shape, seed=seed + 100)
    back = operator.adjoint(y, x.shape[1:])
    assert back.shape == x.shape
    near((measured * y).flatten(1).sum(1), (x * back).flatten(1).sum(1), 1e-11)


@pytest.mark.parametrize("name", ["crop", "hole", "downsample", "downsample by a fraction"])
def test_along_one_axis_a_volume_is_measured_as_a_signal(name):
    """What is constant along two axes stays so, and is measured along the third as the signal is."""
    operator, signal = OPERATORS[name], randn(2, 3, 8)
    measured = operator(signal)
    if name == "hole":
        volume = operator(signal[:, :, None, None].expand(2, 3, 8, 8, 8))
        assert torch.equal(volume[:, :, 3, 3], measured)
        assert torch.equal(volume[:, :, 0, 3], signal)
    else:
        volume = operator(signal[:, :, None, None].expand(2, 3, 8, 8, 8))
        near(volume, measured[:, :, None, None].expand(volume.shape), 1e-14)


@pytest.mark.parametrize("axes", DIMENSIONS)
def test_blur_is_that_of_scipy(axes):
    x = rand(1, 1, *[9] * axes)
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), 1.2, mode="mirror", radius=3)
    near(Blur(1.2, radius=3)(x)[0, 0], torch.tensor(expected), 1e-14)


@pytest.mark.parametrize("shape", [(5,), (3, 1, 5), (1, 3, 3)])
def test_a_kernel_blurs_signals_and_volumes(shape):
    kernel, axes = np.random.default_rng(0).random(shape), len(shape)
    x = rand(2, 2, *[7] * axes)
    if shape == (1, 3, 3):  # an image's
        with refuses("kernel", "3 dimensions"):
            KernelBlur(kernel)(x)
        return
    expected = ndimage.convolve(x[1, 0].numpy(), kernel / kernel.sum(), mode="mirror")
    near(KernelBlur(kernel)(x)[1, 0], torch.tensor(expected), 1e-14)
    with refuses("kernel", f"{axes % 3 + 1} dimensions"):
        KernelBlur(kernel)(rand(1, 1, *[7] * (axes % 3 + 1)))


@pytest.mark.parametrize("shape", [(1, 8), (1, 4, 4, 4)], ids=str)
def test_a_signal_and_a_volume_are_found_by_their_measurements(shape):
    n = int(np.prod(shape))
    layers = torch.nn.Sequential(torch.nn.Linear(2, n), torch.nn.Unflatten(1, shape)).double()
    layers[0].weight.data, layers[0].bias.data = 0.1 * randn(n, 2), torch.full((n,), 0.5, dtype=torch.float64)
    generator = lo.Generator(layers, latent_shape=2, output_range=(0, 1))
    truth = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    operator = Compose(Blur(0.6, radius=1), Downsample(2))
    found = lo.reconstruct(generator, operator(generator(truth)), operator=operator, start="random", restarts=1)
    near(found.x, truth, 1e-5)
