from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import mlp, near, rand, randn, refuses

import latentopt as lo
from latentopt.operators import Compose, Crop, Fourier, FourierMagnitude, Gaussian, Identity, Magnitude, Physics, Radon


@pytest.mark.parametrize("side", [2, 3, 7, 8])
def test_a_sinogram_is_that_of_scikit_image(side):
    from skimage.transform import radon

    image, angles = rand(1, 1, side, side), [0.0, 17.0, 45.0, 90.0, 133.3, 200.0]
    sinogram = radon(image[0, 0].numpy(), angles, circle=False)
    near(Radon(angles)(image)[0, 0], torch.from_numpy(sinogram).T, 1e-11)


def test_a_sinogram_keeps_the_mass_of_an_image_that_is_not_square():
    image = torch.zeros(2, 1, 5, 9, dtype=torch.float64)
    image[0, 0, 2, 4], image[1, 0, 0, 8] = 1, 3
    sums = Radon([0.0, 90.0])(image).sum(-1).squeeze(1)
    near(sums, torch.tensor([[1.0, 1], [3, 3]], dtype=torch.float64), 1e-12)


def test_a_number_of_angles_is_spread_evenly():
    assert Radon(4).degrees() == (0, 45, 90, 135)
    assert Radon([1, 2]) == Radon((1.0, 2.0))


@given(height=st.integers(2, 7), width=st.integers(2, 7), seed=st.integers(0, 99))
def test_the_fourier_transform_is_the_sum_of_its_definition(height, width, seed):
    image = randn(1, 2, height, width, seed=seed)
    rows, columns = (torch.arange(side, dtype=torch.float64) - side // 2 for side in (height, width))
    basis = [torch.exp(-2j * torch.pi * axis[:, None] * axis / len(axis)) for axis in (rows, columns)]
    expected = basis[0] @ image.to(torch.complex128) @ basis[1].T / (height * width) ** 0.5
    near(Fourier()(image), torch.stack([expected.real, expected.imag], 1), 1e-12)


def test_coils_measure_the_image_times_their_maps_where_the_mask_is():
    image, maps = rand(3, 1, 4, 6), torch.complex(randn(2, 4, 6), randn(2, 4, 6, seed=1))
    mask = torch.tensor([0.0, 1, 1, 0, 1, 0])
    measured = Fourier(mask, maps)(image)
    assert measured.shape == (3, 2, 2, 4, 6)
    for coil in range(2):
        weighted = image * maps[coil]
        real, imaginary = Fourier(mask)(weighted.real), Fourier(mask)(weighted.imag)
        near(measured[:, 0, coil], real[:, 0, 0] - imaginary[:, 1, 0], 1e-12)
        near(measured[:, 1, coil], real[:, 1, 0] + imaginary[:, 0, 0], 1e-12)
    near(Fourier(mask, torch.stack([maps.real, maps.imag]))(image), measured, 0)
    noisy = Fourier(mask, maps).add_noise(measured, 0.1, 0)
    assert bool(((noisy == 0) == (mask == 0)).all())


@given(height=st.integers(2, 6), width=st.integers(2, 6), seed=st.integers(0, 99))
def test_magnitudes_know_neither_shift_nor_turn(height, width, seed):
    image, operator = rand(1, 1, height, width, seed=seed), FourierMagnitude()
    framed = torch.nn.functional.pad(image, (0, 1, 0, 1))
    moved = torch.nn.functional.pad(image, (1, 0, 1, 0))
    near(operator(framed), operator(moved), 1e-12)
    near(operator(image), operator(image.flip(2, 3)), 1e-12)
    assert operator(image).shape == (1, 1, 2 * height, 2 * width)


def test_magnitudes_of_real_and_complex_measurements():
    image = randn(2, 1, 4, 4)
    near(Magnitude(Gaussian(5))(image), Gaussian(5)(image).abs(), 0)
    parts = Gaussian(5, is_complex=True)(image)
    assert parts.shape == (2, 2, 5)
    near(Magnitude(Gaussian(5, is_complex=True))(image), torch.complex(parts[:, 0], parts[:, 1]).abs(), 1e-14)
    near(Magnitude(Fourier())(image), FourierMagnitude(1)(image), 1e-12)
    near(Magnitude(Compose(Crop(3), Fourier()))(image), FourierMagnitude(1)(Crop(3)(image)), 1e-12)


def test_complex_projections_have_entries_of_variance_one_in_m():
    rows = Gaussian(50, is_complex=True).adjoint(torch.eye(100, dtype=torch.float64).reshape(100, 2, 50), (1, 10, 10))
    assert abs(rows.square().mean().item() * 2 * 50 - 1) < 0.05


@pytest.mark.parametrize("operator", [FourierMagnitude(), Magnitude(Fourier()), Magnitude(Gaussian(3))])
def test_the_gradient_at_zero_is_zero(operator):
    image = torch.zeros(1, 1, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(operator(image).sum(), image)
    assert not bool(gradient.any())


@pytest.mark.parametrize("operator", [FourierMagnitude(1.5), Magnitude(Gaussian(3)), Magnitude(Fourier()), Radon(3)])
def test_gradients_are_those_of_finite_differences(operator):
    assert torch.autograd.gradcheck(operator, rand(2, 1, 4, 3).requires_grad_())


def test_an_operator_that_is_not_linear_has_no_adjoint():
    for operator in (FourierMagnitude(), Compose(Crop(3), Magnitude(Identity()))):
        with refuses("operator", "is_linear = True"):
            operator.adjoint(rand(1, 1, 3, 3), (1, 3, 3))
    assert Compose(Crop(3), Fourier()).is_linear
    assert Compose(Crop(3), Fourier()).is_complex
    assert not Compose(Fourier(), Identity()).is_complex


class Theirs:
    def A(self, image):  # noqa: N802
        return torch.fft.fft2(image).square()


def test_a_physics_that_is_not_linear_measures_complex_numbers_as_two_parts():
    image, operator = rand(2, 1, 3, 3), Physics(Theirs(), is_complex=True)
    near(operator(image)[:, 0], Theirs().A(image).real, 1e-12)
    near(operator(image)[:, 1], Theirs().A(image).imag, 1e-12)
    with refuses("operator"):
        operator.adjoint(operator(image), (1, 3, 3))
    with refuses("Physics.is_complex", "True"):
        Physics(Theirs())(image)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Radon(0), "Radon.angles"),
        (lambda: Radon([]), "Radon.angles"),
        (lambda: Radon([float("nan")]), "Radon.angles"),
        (lambda: FourierMagnitude(0.5), "FourierMagnitude.oversampling"),
        (lambda: Fourier([0.0, 0.0]), "Fourier.mask"),
        (lambda: Fourier([0.0, 2.0]), "Fourier.mask"),
        (lambda: Fourier([1.0, 0.0])(rand(1, 1, 3, 3)), "Fourier.mask"),
        (lambda: Fourier(coils=rand(4, 4)), "Fourier.coils"),
        (lambda: Fourier(coils=rand(2, 4, 4))(rand(1, 3, 4, 4)), "Fourier.coils"),
        (lambda: Fourier(coils=torch.full((1, 2, 2), float("nan"))), "Fourier.coils"),
        (lambda: Gaussian(0, is_complex=True), "Gaussian.measurements"),
        (lambda: Magnitude("no-such"), "Magnitude.operator"),  # pyright: ignore[reportArgumentType]
        (lambda: Radon(2)(rand(1, 4, 4)), "image"),
    ],
)
def test_wrong_arguments_are_named(make, name):
    with refuses(name):
        make()


def generator() -> lo.Generator:
    layers = torch.nn.Sequential(mlp(3, 16, dtype=torch.float32), torch.nn.Unflatten(1, (1, 4, 4)), torch.nn.Sigmoid())
    return lo.Generator(layers, latent_shape=(3,))


def test_complex_targets_are_taken_where_the_operator_is_complex():
    g = generator()
    parts = Fourier()(g(g.latents(2, 0)).detach())
    values = torch.complex(parts[:, 0], parts[:, 1])
    for target in (values, values.numpy(), parts):
        near(lo.Reconstruction(g, target, Fourier()).measurement, parts, 0)
    for operator in (Identity(), Radon(3), lambda image: image):
        for target in (values, values.numpy().astype(np.complex128)):
            with refuses("target", "real numbers"):
                lo.Reconstruction(g, target, operator)
    with refuses("operator", "view_as_real"):
        lo.Reconstruction(g, parts, torch.fft.fft2)


@pytest.mark.parametrize("operator", [Magnitude(Gaussian(12)), Radon(4)], ids=repr)
def test_an_image_of_the_generator_is_found_again(operator):
    g = generator()
    images = g(g.latents(2, 1)).detach()
    found = lo.reconstruct(g, images, operator=operator, start="random", steps=60, restarts=4)
    near(found.output, images, 1e-2)
