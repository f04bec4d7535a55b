from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import near, rand, randn, refuses
from torch.nn import functional as F

from latentopt.operators import Compose, Crop, Downsample, Hole, Identity, Mask, Operator

OPERATORS: dict[str, Operator] = {
    "identity": Identity(),
    "mask": Mask((rand(20, 20) > 0.5).double()),
    "hole": Hole(7),
    "crop": Crop(9),
    "downsample": Downsample(4),
    "downsample by a fraction": Downsample(2.5),
    "compose": Compose([Hole(4), Downsample(5), Crop(2)]),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@every_operator
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), seed=st.integers(0, 99))
def test_operators_are_linear(operator, a, b, seed):
    u, v = randn(2, 3, 20, 20, seed=seed), randn(2, 3, 20, 20, seed=seed + 100)
    near(operator(a * u + b * v), a * operator(u) + b * operator(v), 1e-12)


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_keep_the_dtype_and_treat_each_image_by_itself(operator, dtype):
    images = rand(3, 2, 20, 20, dtype=dtype)
    measured = operator(images)
    assert measured.dtype == dtype
    assert torch.equal(measured[1:2], operator(images[1:2]))


def test_whole_downsampling_takes_the_mean_of_blocks():
    image = torch.tensor([[[[1.0, 3.0, 0.0, 4.0], [5.0, 7.0, 8.0, 0.0]]]])
    assert torch.equal(Downsample(2)(image), torch.tensor([[[[4.0, 3.0]]]]))
    assert torch.equal(Downsample(2.0)(image), Downsample(2)(image))
    assert torch.equal(Downsample(1)(image), image)


def test_fractional_downsampling_weighs_pixels_by_area():
    near(Downsample(1.5)(torch.tensor([[[[3.0, 6.0, 9.0]] * 3]])), torch.tensor([[[[4.0, 8.0]] * 2]]), 1e-6)
    images = rand(2, 3, 20, 30)
    fine = F.interpolate(images, scale_factor=2, mode="nearest")
    near(Downsample(2.5)(images), F.avg_pool2d(fine, 5), 1e-14)


@pytest.mark.parametrize(("factor", "size"), [(1, 7), (4, 28), (2.5, 20), (1.75, 28), (28 / 3, 28), (28, 28)])
def test_downsampling_keeps_a_constant(factor, size):
    blocks = round(size / factor)
    expected = torch.full((1, 1, blocks, blocks), 0.3, dtype=torch.float64)
    near(Downsample(factor)(torch.full((1, 1, size, size), 0.3, dtype=torch.float64)), expected, 1e-14)


@pytest.mark.parametrize("factor", [0, 0.5, -2, float("nan"), float("inf")])
def test_a_factor_under_one_is_refused(factor):
    with refuses("Downsample.factor"):
        Downsample(factor)


@pytest.mark.parametrize(("factor", "shape"), [(3, (28, 28)), (4, (28, 30)), (2.5, (20, 21)), (64, (28, 28))])
def test_a_factor_that_does_not_divide_the_sides_is_refused(factor, shape):
    with refuses("Downsample.factor"):
        Downsample(factor)(torch.zeros(1, 1, *shape))


def test_a_hole_hides_the_middle_square_only():
    image = torch.arange(1.0, 31).reshape(1, 1, 5, 6)
    holed = Hole(3)(image)
    hidden = torch.zeros(5, 6, dtype=torch.bool)
    hidden[1:4, 1:4] = True
    assert torch.equal(holed[0, 0] == 0, hidden)
    assert torch.equal(holed[0, 0][~hidden], image[0, 0][~hidden])


def test_a_crop_is_the_middle_square():
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    assert torch.equal(Crop(3)(image), image[..., 1:4, 1:4])
    assert torch.equal(Crop(5)(image), image[..., :, 0:5])


@pytest.mark.parametrize(("operator", "name"), [(Hole, "Hole.size"), (Crop, "Crop.size")])
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_sizes_that_are_not_whole_and_positive_are_refused(operator, name, size):
    with refuses(name):
        operator(size)


def test_a_hole_or_crop_that_does_not_fit_is_refused():
    with refuses("Hole.size"):
        Hole(5)(torch.zeros(1, 1, 5, 6))
    with refuses("Crop.size"):
        Crop(6)(torch.zeros(1, 1, 5, 6))


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (3, 4, 4), (4,), (3, 1, 1)])
def test_a_mask_multiplies_and_broadcasts(shape):
    mask, images = (rand(*shape) > 0.3).double(), rand(2, 3, 4, 4, seed=1)
    assert torch.equal(Mask(mask)(images), images * mask.expand(3, 4, 4))
    assert torch.equal(Mask(mask.bool())(images), images * mask.expand(3, 4, 4))


@pytest.mark.parametrize(("mask", "image"), [((5, 4), (1, 4, 4)), ((2, 4, 4), (3, 4, 4)), ((3, 4, 4), (1, 4, 4))])
def test_a_mask_that_does_not_broadcast_to_the_image_is_refused(mask, image):
    with refuses("mask"):
        Mask(torch.ones(mask))(torch.zeros(2, *image))


def test_a_mask_that_hides_everything_is_refused():
    with refuses("mask"):
        Mask(torch.zeros(4, 4))


def test_composition_applies_the_first_operator_first():
    image = rand(1, 1, 8, 8)
    assert torch.equal(Compose([Crop(4), Downsample(4)])(image).flatten(), image[..., 2:6, 2:6].mean().reshape(1))
    assert torch.equal(Compose([])(image), image)
