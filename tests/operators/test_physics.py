from __future__ import annotations

import warnings

import pytest
import torch
from nets import mlp, near, rand, randn, refuses

import latentopt as lo
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["blur", "inpainting", "downsampling", "fourier blur"])
def test_the_physics_of_each_image_follow_it(name):
    size, each = (1, 8, 8), rand(3, 1, 3, 3, dtype=torch.float32)
    make = {
        "blur": lambda rows: physics.Blur(filter=each[rows], padding="circular"),
        "inpainting": lambda rows: physics.Inpainting(img_size=size, mask=(_pixels() > 0.5).float()[rows]),
        "downsampling": lambda rows: physics.Downsampling(factor=2, filter=each[rows], img_size=size),
        "fourier blur": lambda rows: physics.BlurFFT(filter=each[rows], img_size=size),
    }[name]
    whole, rows = Physics(make([0, 1, 2])), torch.tensor([2, 0, 2, 1])
    images = _pixels()
    measured = whole(images)
    taken = whole.take(rows)
    assert torch.equal(taken(images[rows]), make(rows.tolist()).A(images[rows]))
    near(taken(images[rows]), measured[rows], 1e-6)
    near(taken.adjoint(measured[rows], size), whole.adjoint(measured, size)[rows], 1e-6)
    assert torch.equal(whole(images), measured)
    g = lo.Generator(
        torch.nn.Sequential(mlp(2, 64, dtype=torch.float32), torch.nn.Unflatten(1, size)), latent_shape=(2,)
    )
    settings = {"steps": 4, "restarts": 2, "tolerance": 1e-3, "measured": True}
    together = lo.reconstruct(g, measured, operator=whole, **settings)
    for row in range(3):
        alone = lo.reconstruct(g, measured[[row]], operator=Physics(make([row])), **settings)
        near(together.value[[row]], alone.value, 1e-4)


def _pixels() -> torch.Tensor:
    return rand(3, 1, 8, 8, seed=1, dtype=torch.float32)


def test_an_image_shape_that_is_not_that_of_the_physics_is_refused():
    operator = Physics(physics.Downsampling(factor=2, filter=None, img_size=(1, 8, 8)))
    with refuses("image_shape"):
        operator.adjoint(torch.zeros(1, 1, 4, 4), (1, 8, 9))
