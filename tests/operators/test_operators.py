from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import near, rand, randn, refuses
from torch.nn import functional as F

from latentopt.operators import (
    Bicubic,
    Blur,
    Compose,
    Crop,
    Downsample,
    Gaussian,
    Grey,
    Hole,
    Identity,
    Mask,
    MotionBlur,
    Operator,
)

OPERATORS: dict[str, Operator] = {
    "identity": Identity(),
    "mask": Mask((rand(20, 20) > 0.5).double()),
    "mask of weights": Mask(rand(3, 20, 20)),
    "hole": Hole(7),
    "crop": Crop(9),
    "downsample": Downsample(4),
    "downsample by a fraction": Downsample(2.5),
    "bicubic": Bicubic(4),
    "bicubic by a fraction": Bicubic(2.5),
    "grey": Grey(),
    "blur": Blur(1.3),
    "blur of a small radius": Blur(2, radius=1),
    "motion blur": MotionBlur(5, 30),
    "motion blur of even length": MotionBlur(4, -75.5),
    "gaussian": Gaussian(30, seed=1),
    "compose": Compose([Hole(4), Downsample(5), Crop(2)]),
    "compose of all kinds": Compose([Blur(1), Grey(), Bicubic(2), MotionBlur(3), Gaussian(50)]),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@every_operator
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), seed=st.integers(0, 99))
def test_operators_are_linear(operator, a, b, seed):
    u, v = randn(2, 3, 20, 20, seed=seed), randn(2, 3, 20, 20, seed=seed + 100)
    near(operator(a * u + b * v), a * operator(u) + b * operator(v), 1e-12)


@every_operator
def test_operators_are_hashable_and_copied_and_pickled_exactly(operator):
    hash(operator)
    images = rand(1, 3, 20, 20)
    for copied in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert torch.equal(copied(images), operator(images))


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_keep_the_dtype_and_treat_each_image_by_itself(operator, dtype):
    images = rand(3, 3, 20, 20, dtype=dtype)
    measured = operator(images)
    assert measured.dtype == dtype
    near(measured[1:2], operator(images[1:2]), 100 * torch.finfo(dtype).eps)


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


def test_a_hole_hides_the_middle_square_and_a_crop_is_that_square():
    image = torch.arange(1.0, 31).reshape(1, 1, 5, 6)
    hidden = torch.zeros(5, 6, dtype=torch.bool)
    hidden[1:4, 1:4] = True
    assert torch.equal(Hole(3)(image), image.masked_fill(hidden, 0))
    assert torch.equal(Crop(3)(image), image[..., 1:4, 1:4])
    assert torch.equal(Crop(5)(image), image[..., :, 0:5])
    assert torch.equal(Compose([Crop(4), Downsample(4)])(image), image[..., 0:4, 1:5].mean().reshape(1, 1, 1, 1))
    assert torch.equal(Compose([])(image), image)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (3, 4, 4), (4,), (3, 1, 1)])
def test_a_mask_multiplies_and_broadcasts(shape):
    mask, images = (rand(*shape) > 0.3).double(), rand(2, 3, 4, 4, seed=1)
    for values in (mask, mask.bool()):
        assert torch.equal(Mask(values)(images), images * mask.expand(3, 4, 4))


@pytest.mark.parametrize("shape", [(2, 1, 4, 6, 8), (2, 3, 20)], ids=str)
def test_a_mask_and_projections_are_of_any_shape(shape):
    x, mask = rand(*shape), (rand(*shape[1:]) > 0.5).double()
    near(Mask(mask)(x), x * mask, 0)
    assert Gaussian(5)(x).shape == (2, 5)


def test_an_array_that_is_changed_later_or_runs_backwards_makes_a_mask():
    array = np.eye(4)
    operator = Mask(array[::-1])  # pyright: ignore[reportArgumentType]
    array[:] = 0
    assert torch.equal(operator(torch.ones(1, 1, 4, 4))[0, 0], torch.eye(4).flip(0))


@pytest.mark.parametrize(
    ("mask", "image", "words"),
    [
        (torch.ones(5, 4), (1, 4, 4), ""),
        (torch.ones(2, 4, 4), (3, 4, 4), "(B, 1, 4, 4)"),
        (torch.ones(3, 4, 4), (1, 4, 4), ""),
        (torch.ones(3, 1, 4, 4), (3, 4, 4), "one mask for all images or 2"),
        (torch.ones(2, 2, 4, 4), (3, 4, 4), "a shape that fits (3, 4, 4)"),
        (torch.ones(2, 1, 3, 4), (3, 4, 4), "a shape that fits"),
        (torch.zeros(2), (2,), "all zeros"),
        (torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)]), (1, 4, 4), "all zeros"),
        (torch.tensor([1.0, float("nan")]), (2,), "finite"),
        (torch.tensor([1.0, float("inf")]), (2,), "finite"),
        (torch.tensor([-0.5, 1.0]), (2,), "-0.5"),
        (torch.tensor([0, 2]), (2,), "from 0 to 2"),
        *[(mask, (2,), "") for mask in ([[1.0], []], ["a"], np.array(["a"]), torch.zeros(0), 1j * torch.ones(2), None)],
    ],
)
def test_wrong_masks_are_refused(mask, image, words):
    with refuses("mask", words):
        Mask(mask)(torch.zeros(2, *image))


def test_bicubic_downsampling_is_that_of_torch_and_keeps_constants():
    images = rand(2, 3, 20, 30)
    expected = F.interpolate(images, scale_factor=0.2, mode="bicubic", antialias=True)
    assert torch.equal(Bicubic(5)(images), expected)
    constant = torch.full((1, 1, 20, 30), 0.3, dtype=torch.float64)
    near(Bicubic(2.5)(constant), constant[..., :8, :12], 1e-15)
    near(Bicubic(1)(images), images, 1e-15)


def test_grey_is_the_luma():
    colours = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)[..., None, None]
    expected = torch.tensor([1, 0.299, 0.587, 0.114], dtype=torch.float64).reshape(4, 1, 1, 1)
    near(Grey()(colours.expand(4, 3, 2, 5)), expected.expand(4, 1, 2, 5), 1e-15)
    for shape in [(1, 1, 4, 4), (1, 4, 4, 4), (3, 4, 4)]:
        with refuses("image", "3 channels"):
            Grey()(torch.zeros(shape))


def delta(size: int) -> torch.Tensor:
    image = torch.zeros(1, 1, size, size, dtype=torch.float64)
    image[..., size // 2, size // 2] = 1
    return image


def test_blur_is_a_normalised_gaussian_with_mirrored_borders():
    offset = torch.arange(-5.0, 6, dtype=torch.float64)
    square = offset[:, None].square() + offset.square()
    density = (-square / (2 * 1.5**2)).exp()
    near(Blur(1.5)(delta(21))[0, 0, 5:-5, 5:-5], density / density.sum(), 1e-15)
    near(Blur(0.7, radius=2)(rand(2, 1, 1, 1).expand(2, 3, 6, 4)), rand(2, 1, 1, 1).expand(2, 3, 6, 4), 1e-15)
    image, weights = rand(1, 1, 1, 4).expand(1, 1, 4, 4), Blur(1, radius=1).kernel()
    mirrored = image[0, 0, 0][[1, 0, 1, 2, 3, 2]]
    near(Blur(1, radius=1)(image)[0, 0, 0], mirrored.unfold(0, 3, 1) @ weights, 1e-15)
    assert torch.equal(Blur(1e-200)(image), image)


@pytest.mark.parametrize("operator", [MotionBlur(5), MotionBlur(4, 30), MotionBlur(7, -100.5)])
def test_motion_blur_of_a_delta_is_its_kernel(operator):
    kernel = operator.kernel()
    radius = len(kernel) // 2
    expected = F.pad(kernel, (5 - radius,) * 4)
    near(operator(delta(11))[0, 0], expected, 1e-15)
    near(kernel.sum(), torch.tensor(1.0, dtype=torch.float64), 1e-15)
    constant = torch.full((1, 2, 9, 9), 0.3, dtype=torch.float64)
    near(operator(constant), constant, 1e-15)


def test_motion_blur_follows_its_angle():
    flat = torch.zeros(5, 5, dtype=torch.float64)
    flat[2] = 0.2
    near(MotionBlur(5).kernel(), flat, 1e-15)
    near(MotionBlur(5, 90).kernel(), flat.T, 1e-15)
    near(MotionBlur(5, 180).kernel(), flat, 1e-15)
    near(MotionBlur(2).kernel()[1], torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64), 1e-15)
    rising = MotionBlur(7, 45).kernel()  # counter-clockwise: from the lower left to the upper right
    assert rising[2, 4] == rising[4, 2] > 0.1 > 1e-15 > rising[2, 2]
    near(MotionBlur(1, 33).kernel(), torch.ones(1, 1, dtype=torch.float64), 1e-15)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("operator", "name", "values"),
    [
        (Downsample, "factor", (0, 0.5, -2, NAN, INF)),
        (Bicubic, "factor", (0, 0.5, NAN, INF)),
        (Hole, "size", (0, -1, 2.5)),
        (Crop, "size", (0, -1, 2.5)),
        (Blur, "sigma", (0, -1, NAN, INF)),
        (partial(Blur, 1), "radius", (0, -1, 1.5)),
        (MotionBlur, "length", (0, -1, 2.5)),
        (partial(MotionBlur, 3), "angle", (NAN,)),
        (Gaussian, "measurements", (0, -1, 2.5)),
        (partial(Gaussian, 3), "seed", (-1, 0.5, 2**63)),
    ],
)
def test_settings_that_make_no_sense_are_refused(operator, name, values):
    kind = operator.func if isinstance(operator, partial) else operator
    for value in values:
        with refuses(f"{kind.__name__}.{name}"):
            operator(**{name: value})


@pytest.mark.parametrize(
    ("operator", "shape", "name", "words"),
    [
        (Downsample(3), (1, 28, 28), "Downsample.factor", ""),
        (Downsample(4), (1, 28, 30), "Downsample.factor", ""),
        (Downsample(2.5), (1, 20, 21), "Downsample.factor", ""),
        (Downsample(64), (1, 28, 28), "Downsample.factor", ""),
        (Bicubic(3), (1, 6, 7), "Bicubic.factor", ""),
        (Hole(5), (1, 5, 6), "Hole.size", ""),
        (Crop(6), (1, 5, 6), "Crop.size", ""),
        (Compose([Grey(), Grey()]), (3, 4, 4), "image", "3 channels"),
        (Blur(2), (1, 6, 9), "Blur.radius", "under 6 pixels"),
        (Blur(1e200), (1, 4, 4), "Blur.radius", ""),
        (MotionBlur(8), (1, 9, 4), "MotionBlur.length", "under 4 pixels"),
        (MotionBlur(10**9), (1, 4, 4), "MotionBlur.length", ""),
        (Gaussian(13), (3, 2, 2), "Gaussian.measurements", "at most 12"),
    ],
)
def test_images_that_do_not_fit_are_refused(operator, shape, name, words):
    with refuses(name, words):
        operator(torch.zeros(1, *shape))
    assert Gaussian(12)(torch.zeros(1, 3, 2, 2)).shape == (1, 12)  # as many as there are values


@pytest.mark.parametrize("name", ["bicubic", "motion blur"])
@pytest.mark.parametrize("shape", [(2, 1, 20, 20, 20), (2, 3, 20), (20, 20), (2, 1, 2, 2, 20, 20)], ids=str)
def test_volumes_and_signals_are_refused_rather_than_measured_slice_by_slice(name, shape):
    with refuses("image", "images (B, C, H, W), got shape"):
        OPERATORS[name](rand(*shape))


@pytest.mark.parametrize("name", ["hole", "crop", "downsample", "downsample by a fraction", "blur"])
@pytest.mark.parametrize("shape", [(20, 20), (2, 1, 2, 2, 20, 20)], ids=str)
def test_what_is_neither_signal_nor_image_nor_volume_is_refused(name, shape):
    with refuses("image", "signals (B, C, T), images (B, C, H, W) or volumes"):
        OPERATORS[name](rand(*shape))
