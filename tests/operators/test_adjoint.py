from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import near, randn, refuses

from latentopt.operators import (
    Bicubic,
    Blur,
    Compose,
    Crop,
    Downsample,
    Fourier,
    Gaussian,
    Grey,
    Hole,
    Identity,
    Mask,
    MotionBlur,
    Operator,
    Radon,
)

sides = st.integers(1, 6).map(lambda half: 2 * half + 4)  # even: divisible by 2
OPERATORS: dict[str, Operator] = {
    "identity": Identity(),
    "mask": Mask(torch.tensor([[0.0], [1], [0.5]])[..., None]),
    "hole": Hole(2),
    "crop": Crop(3),
    "grey": Grey(),
    "downsample": Downsample(2),
    "bicubic": Bicubic(2),
    "blur": Blur(0.8, radius=2),
    "motion blur": MotionBlur(4, 20),
    "gaussian": Gaussian(40),
    "complex gaussian": Gaussian(40, is_complex=True),
    "fourier": Fourier(),
    "radon": Radon([0.0, 30.0, 75.0]),
    "compose": Compose([Blur(0.5), Hole(1), Compose([Grey(), Bicubic(2)]), Gaussian(8)]),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@every_operator
@given(height=sides, width=sides, batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_adjoint_is_the_one_of_the_inner_product(operator, height, width, batch, seed):
    x = randn(batch, 3, height, width, seed=seed)
    measured = operator(x)
    y = randn(*measured.shape, seed=seed + 100)
    back = operator.adjoint(y, (3, height, width))
    assert (back.shape, back.dtype, back.requires_grad) == (x.shape, x.dtype, False)
    near((measured * y).flatten(1).sum(1), (x * back).flatten(1).sum(1), 1e-11)


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_adjoint_follows_its_measurement_and_works_without_gradients(operator, dtype):
    y = operator(randn(2, 3, 8, 8)).to(dtype)
    expected = operator.adjoint(y, (3, 8, 8))
    assert expected.dtype == dtype
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(operator.adjoint(y, (3, 8, 8)), expected)
            assert torch.equal(operator.adjoint(y.clone(), (3, 8, 8)), expected)


@every_operator
def test_the_adjoint_is_differentiable_and_its_gradient_is_the_operator(operator):
    x = randn(2, 3, 8, 8)
    y = torch.zeros_like(operator(x)).requires_grad_()
    (gradient,) = torch.autograd.grad(operator.adjoint(y, (3, 8, 8)), y, x)
    near(gradient, operator(x), 1e-12)


@pytest.mark.parametrize(
    ("measurement", "shape", "name"),
    [
        (torch.zeros(1, 3, 3, 3), (3, 8, 8), "measurement"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.long), (3, 8, 8), "measurement"),
        (torch.zeros(()), (3, 8, 8), "measurement"),
        (torch.zeros(1, 3, 4, 4), (8,), "image_shape"),
        (torch.zeros(1, 3, 4, 4), (3, 8, 0), "image_shape"),
        (torch.zeros(1, 3, 4, 4), (3, 8, 8.5), "image_shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(measurement, shape, name):
    with refuses(name):
        Downsample(2).adjoint(measurement, shape)
