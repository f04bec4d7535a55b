"""Shift, rotation, scale, brightness and contrast found with the latents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nets import mlp, near, rand, randn, refuses
from torch import Tensor, nn
from torchvision.transforms import functional as reference
from torchvision.transforms.functional import InterpolationMode

import latentopt as lo
from latentopt import Generator
from latentopt.inverse.nuisances import Nuisances, transform

IMAGES = rand(2, 3, 9, 12)
ALL: dict[str, Any] = {"translate": 3.0, "angle": 30.0, "scale": 0.3, "brightness": 0.4, "contrast": 0.5}


def one(value: float) -> Tensor:
    return torch.full((2,), value, dtype=torch.float64)


def spots() -> Generator:
    """Latents (B, 2) to images (B, 1, 12, 12) of two spots, whose heights they are."""

    class Spots(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            grid = torch.arange(12, dtype=torch.float64)
            places = [(4, 3), (7, 8)]
            maps = [torch.exp(-((grid[:, None] - y) ** 2 + (grid - x) ** 2) / 6) for y, x in places]
            self.register_buffer("maps", torch.stack(maps))

        def forward(self, z: Tensor) -> Tensor:
            return torch.einsum("bk,khw->bhw", z.sigmoid(), self.maps)[:, None]

    return Generator(Spots(), latent_shape=2)


def test_images_stay_at_zero():
    posed = lo.with_nuisances(spots(), **ALL)
    z = randn(3, 2)
    parts = {"latents": z, **{n: torch.zeros(3, *s) for n, s in posed.part_shapes.items() if n != "latents"}}
    near(posed(posed.join(parts)), spots()(z), 1e-12)


def test_a_shift_by_whole_pixels_moves_pixels():
    moved = transform(IMAGES, translate=torch.tensor([[2.0, -1.0]] * 2).double(), padding="zeros")
    expected = torch.zeros_like(IMAGES)
    expected[..., :-1, 2:] = IMAGES[..., 1:, :-2]
    near(moved, expected, 1e-12)


def test_a_quarter_turn_is_clockwise_and_exact():
    square = IMAGES[..., :9]
    near(transform(square, angle=one(90.0)), square.rot90(-1, (2, 3)), 1e-12)


@pytest.mark.parametrize("angle", [0.0, 20.0])
@pytest.mark.parametrize("translate", [(0.0, 0.0), (1.5, -2.25)])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_affine_maps_are_those_of_torchvision(angle, translate, scale):
    ours = transform(IMAGES, torch.tensor([translate] * 2).double(), one(angle), one(scale), padding="zeros")
    theirs = [
        reference.affine(image, angle, list(translate), scale, [0.0, 0.0], InterpolationMode.BILINEAR)
        for image in IMAGES
    ]
    near(ours, torch.stack(theirs), 1e-6)


def test_light_is_that_of_torchvision():
    for name, adjust in {"brightness": reference.adjust_brightness, "contrast": reference.adjust_contrast}.items():
        for factor in (0.6, 1.0, 1.3):
            values: dict[str, Any] = {name: one(factor)}
            ours = transform(IMAGES, **values).clamp(0, 1)
            near(ours, torch.stack([adjust(image, factor) for image in IMAGES]), 1e-6)


def test_values_are_uniform_within_their_limits():
    posed = lo.with_nuisances(spots(), **ALL)
    values = posed.module.values(posed.parts(posed.latents(4000, seed=0)))
    for name in ("translate", "angle"):
        assert values[name].abs().max() <= ALL[name]
        near(values[name].mean(), torch.tensor(0.0).double(), 0.05 * ALL[name])
        near(values[name].std() / ALL[name], torch.tensor(1 / 3).sqrt().double(), 0.02)
    for name in ("scale", "brightness", "contrast"):
        assert 1 / (1 + ALL[name]) <= values[name].min() < values[name].max() <= 1 + ALL[name]


@pytest.mark.parametrize("start", ["random", pytest.param("regression", marks=pytest.mark.slow)])
def test_a_known_pose_is_found(start):
    posed = lo.with_nuisances(spots(), translate=3.0, angle=30.0, brightness=0.4)
    x = posed.latents(3, seed=4)
    found = lo.reconstruct(posed, posed(x), start=start, steps=60, restarts=4)
    assert found.value.max() < 1e-8
    true, ours = (posed.module.values(posed.parts(z)) for z in (x, found.x))
    near(ours["translate"], true["translate"], 1e-2)
    near(ours["angle"], true["angle"], 0.2)


def test_parts_conditions_and_distributions_are_kept():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(3, 16)

        def forward(self, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
            return (self.body(a) * b + y).reshape(-1, 1, 4, 4)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return 5 + torch.randn(count, 4, generator=generator)

    base = Generator(Named(), latent_shape={"a": 3, "b": 1}, latents=draw, output_range=(-127.5, 127.5)).given(
        y=randn(2, 1)
    )
    posed = lo.with_nuisances(base, translate=1.0, angle=5.0)
    assert posed.part_shapes == {"a": (3,), "b": (1,), "translate": (2,), "angle": (1,)}
    assert isinstance(posed.module, Nuisances)
    z = posed.latents(2, seed=0)
    near(z[:, :4].mean(), torch.tensor(5.0).double(), 2.0)
    near(posed.distribution.mean[4:], torch.zeros(3).double(), 0)
    z[:, 4:] = 0
    near(posed(z), base(z[:, :4]), 1e-12)
    taken = posed.take(torch.tensor([1]))(z[1:])
    near(taken, posed(z)[1:], 1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("nuisances", {}, "translate, angle"),
        ("angle", {"angle": -3.0}, "> 0"),
        ("padding", {"angle": 3.0, "padding": "wrap"}, "border"),
        ("shift", {"shift": 3.0}, "unknown name"),
    ],
)
def test_wrong_settings_are_told_in_one_line(name, settings, words):
    with refuses(name, words):
        lo.with_nuisances(spots(), **settings)
    with refuses("generator", "images"):
        lo.with_nuisances(Generator(mlp(3, 4), latent_shape=3), angle=3.0)
