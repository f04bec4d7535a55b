"""Unknown parameters of operators are found with the latents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nets import mlp, near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator
from latentopt import operators as ops
from latentopt.inverse.initializers import Regression
from latentopt.inverse.priors import GaussianPrior
from latentopt.inverse.unknowns import with_unknowns

WIDTHS = torch.tensor([0.7, 1.1, 1.6]).double()
BLUR = ops.BlindBlur((0.5, 2.0))


class Linear(nn.Module):
    """Latents (B, 3) to images (B, 1, 12, 12), with or without an offset."""

    maps: Tensor
    offset: Tensor

    def __init__(self, offset: bool = True) -> None:
        super().__init__()
        self.register_buffer("maps", rand(3, 1, 12, 12))
        self.register_buffer("offset", rand(1, 12, 12, seed=9) * offset)

    def forward(self, z: Tensor) -> Tensor:
        return torch.einsum("bk,kchw->bchw", z, self.maps) + self.offset


def linear(offset: bool = True) -> Generator:
    return Generator(Linear(offset), latent_shape=3)


def measured(generator: Generator, z: Tensor) -> Tensor:
    return BLUR.at(sigma=WIDTHS)(generator(z))


def grid_optimum(generator: Generator, y: Tensor) -> tuple[float, float]:
    """Return the width of a fine grid with the least mean squared error, for the best latents, and this error."""
    widths = torch.linspace(0.5, 2.0, 151).double()
    images = generator(torch.cat([torch.zeros(1, 3), torch.eye(3)]).double())
    blurred = BLUR.at(sigma=widths.repeat_interleave(4))(images.repeat(151, 1, 1, 1)).reshape(151, 4, -1)
    columns = (blurred[:, 1:] - blurred[:, :1]).mT
    rest = y.flatten()[:, None] - blurred[:, 0, :, None]
    z = torch.linalg.lstsq(columns, rest).solution
    errors = (columns @ z - rest).square().mean((1, 2))
    return float(widths[errors.argmin()]), float(errors.min())


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [(lo.LBFGS(), 40), pytest.param(lo.LevenbergMarquardt(), 12, marks=pytest.mark.slow)],
    ids=["lbfgs", "lm"],
)
def test_noisy_measurements_give_the_optimum_of_a_grid(optimizer, steps):
    generator = linear()
    y = measured(generator, randn(3, 3)) + 0.05 * randn(3, 1, 12, 12)
    found = lo.reconstruct(
        generator, y, operator=BLUR, measured=True, optimizer=optimizer, start="random", steps=steps, restarts=2
    )
    for b in range(3):
        width, error = grid_optimum(generator, y[b])
        assert abs(float(found.unknowns["sigma"][b]) - width) < 0.011  # the grid's spacing is .01
        assert float(found.value[b]) <= error * (1 + 1e-6)


def test_the_output_stays_the_image_and_the_start_predicts_the_parameters():
    generator, z = linear(), randn(3, 3)
    y = measured(generator, z)
    found = lo.reconstruct(generator, y, operator=BLUR, measured=True, steps=40, restarts=2, start="random")
    near(found.output, generator(z), 1e-4)
    near(found.unknowns["sigma"], WIDTHS, 1e-4)
    assert found.x.shape == (3, 4)
    start = Regression(pool=300)
    learnt = lo.reconstruct(generator, y, operator=BLUR, measured=True, steps=1, restarts=1, start=start)
    near(learnt.unknowns["sigma"], WIDTHS, 0.3)


def test_a_target_alone_is_found_as_in_a_batch():
    generator = linear()
    y = measured(generator, randn(3, 3))
    settings: dict[str, Any] = {"operator": BLUR, "measured": True, "start": "random", "steps": 10, "restarts": 2}
    whole, alone = (lo.reconstruct(generator, part, **settings) for part in (y, y[1:2]))
    near(alone.x, whole.x[1:2], 1e-8)
    near(alone.unknowns["sigma"], whole.unknowns["sigma"][1:2], 1e-8)


def test_images_are_measured_by_drawn_parameters():
    generator, z = linear(), randn(3, 3)
    images = generator(z)
    images = (images - images.amin()) / (images.amax() - images.amin())
    problem = lo.Reconstruction(generator, images, BLUR)
    near(problem.measurement, BLUR.at(**BLUR.draw(images))(images), 1e-12)
    assert problem.generator.part_shapes == {"latents": (3,), "operator.sigma": (1,)}
    assert with_unknowns(problem.generator, BLUR) is problem.generator
    z = randn(1, 4)
    near(problem.generator(z), generator(z[:, :3]), 1e-12)


def test_a_parameter_of_a_module_of_ones_own_is_found():
    conv = nn.Conv2d(1, 1, 3, bias=False).double()
    operator = lo.unknown(conv, weight=ops.Normal(0.0, 1.0))
    generator, z = linear(), randn(2, 3)
    kernels = randn(2, 1, 1, 3, 3)
    y = operator.at(weight=kernels)(generator(z))
    found = lo.reconstruct(generator, y, operator=operator, start="random", steps=150, restarts=4, halving=())
    assert found.value.max() < 1e-12
    near(found.unknowns["weight"], kernels, 1e-4)


@pytest.mark.parametrize("optimizer", [lo.ADRGD(), lo.RandomShooting()], ids=["adr-gd", "random"])
def test_other_methods_take_unknowns(optimizer):
    generator = Generator(mlp(3, 8, 36), latent_shape=3)
    operator = lo.unknown(lambda image, power: (image.square() + 0.1) ** power, power=(0.5, 2.0))
    y = operator.at(power=1.2)(generator(randn(2, 3)))
    settings: dict[str, Any] = {"operator": operator, "measured": True, "start": "random", "steps": 40}
    found = lo.reconstruct(generator, y, optimizer=optimizer, **settings)
    assert (found.value < found.history["loss"][0].amax(0)).all()
    assert ((found.unknowns["power"] > 0.5) & (found.unknowns["power"] < 2)).all()


def test_a_scale_that_the_latents_undo_is_told_before_work():
    y = rand(1, 1, 12, 12)
    with refuses("operator", "rank"):
        lo.reconstruct(linear(offset=False), y, operator=ops.BlindExposure(), measured=True)
    settings: dict[str, Any] = {"operator": ops.BlindExposure(), "measured": True, "steps": 2, "start": "random"}
    lo.reconstruct(linear(), y, **settings)
    lo.reconstruct(linear(offset=False), y, prior=GaussianPrior(0.01), **settings)


def test_layers_and_tuning_want_known_parameters():
    generator = Generator(nn.Sequential(nn.Linear(3, 8), nn.Sigmoid(), nn.Unflatten(1, (1, 2, 4))), latent_shape=3)
    y = rand(1, 1, 2, 4)
    operator = ops.BlindExposure()
    with refuses("layers", "unknowns"):
        lo.reconstruct(generator, y, operator=operator, measured=True, layers={"0": 0.1})


def test_unknowns_are_kept_in_a_file(tmp_path):
    generator = linear()
    y = measured(generator, randn(3, 3))
    found = lo.reconstruct(generator, y, operator=BLUR, measured=True, start="random", steps=2)
    found.save(tmp_path / "found.safetensors")
    near(lo.Result.load(tmp_path / "found.safetensors").unknowns["sigma"], found.unknowns["sigma"], 0)


def test_a_posterior_with_unknowns_names_them():
    problem = lo.Reconstruction(linear(), rand(1, 1, 12, 12), BLUR, loss=lo.objectives.GaussianNoise(0.1))
    with refuses("operator", "BlindBlur of sigma"):
        lo.posterior(problem)
