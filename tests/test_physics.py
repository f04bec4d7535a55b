from __future__ import annotations

import warnings

import pytest
import torch
from nets import near, rand, randn, refuses

from latentopt.operators import Physics

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what deepinv's own imports say
    physics = pytest.importorskip("deepinv.physics", reason="needs deepinv")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["blur", "inpainting", "downsampling", "sensing"])
def test_the_physics_of_deepinv_measure_and_give_back(name):
    size = (3, 8, 8)
    make = {
        "blur": lambda: physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular"),
        "inpainting": lambda: physics.Inpainting(mask=(rand(*size, dtype=torch.float32) > 0.5).float(), img_size=size),
        "downsampling": lambda: physics.Downsampling(factor=2, filter="bicubic", img_size=size),
        "sensing": lambda: physics.CompressedSensing(m=20, img_size=size),
    }
    theirs = make[name]()
    operator, x = Physics(theirs), randn(2, *size, dtype=torch.float32)
    measured = operator(x)
    assert torch.equal(measured, theirs.A(x))
    y = randn(*measured.shape, seed=1, dtype=torch.float32)
    back = operator.adjoint(y, size)
    near((measured * y).flatten(1).sum(1), (x * back).flatten(1).sum(1), 1e-4)
    near(super(Physics, operator).adjoint(y, size), back, 1e-5)


def test_an_image_shape_that_is_not_that_of_the_physics_is_refused():
    operator = Physics(physics.Downsampling(factor=2, filter=None, img_size=(1, 8, 8)))
    with refuses("image_shape"):
        operator.adjoint(torch.zeros(1, 1, 4, 4), (1, 8, 9))
