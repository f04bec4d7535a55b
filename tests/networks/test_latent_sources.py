"""Latents of mapping networks, of torch's distributions, of objects, and of several parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from nets import mlp, near, rand, refuses
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Cauchy,
    Distribution,
    Independent,
    LogNormal,
    Normal,
    TransformedDistribution,
    Uniform,
)
from torch.distributions.transforms import TanhTransform

import latentopt as lo
from latentopt import LBFGS, Generator, priors, sets
from latentopt.inverse.initializers import Nearest
from latentopt.networks.latents import Spheres
from latentopt.noise import Noise
from latentopt.operators import Identity

AFFINE = nn.Linear(3, 4)
nn.init.normal_(AFFINE.weight, generator=torch.Generator().manual_seed(1))
nn.init.constant_(AFFINE.bias, 5.0)
"""Maps z to w, whose mean is 5 and whose variances are the squared norms of the rows of the weight."""


class Layers(nn.Module):
    """Three layers of w+ (B, 3, 4), of any mean, to images (B, 1, 3, 4)."""

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        return (w / 10 if noise is None else w / 10 + noise.mean((1, 2, 3))[:, None, None])[:, None]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stylish(truncation: float = 1.0, **settings) -> Generator:
    latents = lo.MappedLatents(AFFINE, latent_shape=3, copies=3, truncation=truncation)
    return Generator(Layers(), latent_shape=(3, 4), latents=latents, **settings)


def test_mapped_latents_are_copies_of_w_truncated_towards_their_mean():
    w = AFFINE(torch.randn(6, 3, generator=seeded())).detach()
    plain = lo.MappedLatents(AFFINE, 3)
    near(plain.draw(6, seeded()), w, 0)
    near(plain.mean, torch.full((4,), 5.0).double(), 0.1)
    near(plain.scale / AFFINE.weight.detach().double().norm(dim=1), torch.ones(4).double(), 0.03)
    source = seeded()
    drawn = AFFINE(torch.cat([torch.randn(1000, 3, generator=source) for _ in range(10)])).detach().double()
    near(plain.mean, drawn.mean(0), 1e-5)
    near(plain.scale, drawn.std(0, correction=0), 1e-5)
    truncated = lo.MappedLatents(AFFINE, 3, copies=2, truncation=0.5)
    near(truncated.draw(6, seeded()), (plain.mean + 0.5 * (w - plain.mean)).float()[:, None].expand(6, 2, 4), 1e-6)
    near(truncated.mean, plain.mean.expand(2, 4), 0)
    near(truncated.scale, 0.5 * plain.scale.expand(2, 4), 1e-12)


def test_the_mapping_network_runs_once_for_the_mean_and_is_left_as_it_was():
    rows = list[int]()
    mapping = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).train()
    mapping.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    generator = Generator(Layers(), latent_shape=(3, 4), latents=lo.MappedLatents(mapping, 3, copies=3))
    assert not rows
    for prior in (priors.GaussianPrior(), priors.SpherePrior(), priors.BoxPrior()):
        prior.penalty_of(generator)
        prior.feasible(generator)
    assert sum(rows) == 10_000
    assert mapping.training
    assert mapping[0].weight.requires_grad


def test_priors_of_mapped_latents_lie_about_the_mean_w():
    generator, target = stylish(0.7), rand(2, 1, 3, 4).float()
    mean, scale = generator.distribution.mean, generator.distribution.scale
    weight = 1e-3
    found = lo.reconstruct(generator, target, prior=priors.GaussianPrior(weight), optimizer=LBFGS(10), steps=60)
    data, pull = 1 / (12 * 100), weight / scale.square()  # of w: the mean of 12 squares of w / 10
    near(found.x.double(), (data * 10 * target[:, 0] + pull * mean) / (data + pull), 1e-3)
    sphere = priors.SpherePrior().feasible(generator)
    point = sphere.project(torch.randn(5, 3, 4, generator=seeded()))
    near((point - mean).flatten(1).norm(dim=1), scale.norm().expand(5), 1e-4)
    box = priors.BoxPrior(2.0).feasible(generator)
    near(box.project(torch.full((1, 3, 4), 1e6)).double(), (mean + 2 * scale)[None], 1e-4)


@pytest.mark.parametrize("restarts", [1, 4])
def test_pools_and_random_starts_are_w_of_the_mapping(restarts):
    generator = stylish()
    problem = lo.Reconstruction(generator, rand(2, 1, 3, 4).float())
    nearest = Nearest(50).fit(generator, Identity(), 0)(problem, restarts, 0).flatten(0, 1)
    random = problem.feasible.sample(torch.empty(restarts, 3, 4), Noise(0, torch.arange(restarts)))
    drawn = torch.cat([nearest, random])
    near(drawn, drawn[:, :1].expand_as(drawn), 0)  # all layers have one w
    directions, _ = torch.linalg.qr(AFFINE.weight.detach())
    offset = drawn[:, 0] - AFFINE.bias.detach()
    near(offset @ directions @ directions.T, offset, 1e-5)  # on the image of the mapping, 3 of 4 dimensions


def test_diagnose_finds_mapped_latents_again_and_doubles_about_their_mean():
    verdict = lo.diagnose(stylish(), samples=4, steps=40, start=Nearest(20))
    assert (verdict.verdict, verdict.recovered) == ("neither", 1.0)
    low, high = stylish().emitted_range()
    w = stylish().latents(64, 0)
    mean = stylish().distribution.mean.float()
    images = torch.cat([w, mean + 2 * (w - mean)]) / 10
    near(torch.tensor([low, high]), torch.stack([images.min().clamp_max(0), images.max().clamp_min(1)]), 1e-6)


DISTRIBUTIONS: dict[str, tuple[Distribution, float, float]] = {
    "one for all values": (Normal(2.0, 3.0), 2.0, 3.0),
    "along the last axis": (Normal(torch.full((4,), 2.0), 3.0), 2.0, 3.0),
    "of whole latents": (Independent(Normal(torch.full((3, 4), 2.0), 3.0), 2), 2.0, 3.0),
    "uniform": (Uniform(-1.0, 1.0), 0.0, 3**-0.5),
    "skewed": (LogNormal(0.0, 0.5), 1.1331484, 0.6039005),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_of_torch_has_its_own_moments_and_the_seeds_draws(name):
    distribution, mean, scale = DISTRIBUTIONS[name]
    generator = Generator(Layers(), latent_shape=(3, 4), latents=distribution)
    near(generator.distribution.mean, torch.full((3, 4), mean).double(), 1e-6)
    near(generator.distribution.scale, torch.full((3, 4), scale).double(), 1e-6)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    many = generator.latents(4000, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert many.shape == (4000, 3, 4)
    near(many.mean(0), torch.full((3, 4), mean), 4 * scale / 4000**0.5 + 1e-3)
    assert torch.equal(many, generator.latents(4000, seed=1))
    assert not torch.equal(many, generator.latents(4000, seed=2))


def test_a_box_of_uniform_latents_is_their_support():
    generator = Generator(Layers(), latent_shape=(3, 4), latents=Uniform(-1.0, 1.0))
    box = priors.BoxPrior(3**0.5).feasible(generator)
    near(box.project(torch.full((1, 3, 4), 9.0)), torch.ones(1, 3, 4), 1e-6)


def test_moments_that_a_distribution_does_not_know_are_estimated():
    squashed = TransformedDistribution(Normal(torch.zeros(4), 1.0), [TanhTransform()])
    own = Generator(Layers(), latent_shape=(3, 4), latents=squashed).distribution
    near(own.mean, torch.zeros(3, 4).double(), 0.1)
    near(own.scale, torch.full((3, 4), 0.628).double(), 0.05)


@dataclass
class Shifted:
    """An object of a user's own: twos, give or take 3."""

    mean: float = 2.0
    scale: Tensor | float = 3.0

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return 2 + 3 * torch.randn(count, 3, 4, generator=generator)


def test_an_object_with_draw_mean_and_scale_is_taken_at_its_word():
    generator = Generator(Layers(), latent_shape=(3, 4), latents=Shifted(scale=torch.tensor([1.0, 2.0, 3.0, 4.0])))
    near(generator.latents(5, 3), Shifted().draw(5, seeded(3)), 0)
    near(generator.distribution.scale[1], torch.tensor([1.0, 2.0, 3.0, 4.0]).double(), 0)
    near(generator.distribution.mean, torch.full((3, 4), 2.0).double(), 0)


PARTS = {"w": (3, 4), "noise": (1, 2, 2)}


def test_parts_by_name_have_distributions_of_their_own():
    mapped = lo.MappedLatents(AFFINE, 3, copies=3)
    generator = Generator(Layers(), latent_shape=PARTS, latents={"w": mapped})
    parts = generator.parts(generator.latents(2000, seed=0))
    near(parts["w"], parts["w"][:, :1].expand(-1, 3, -1), 0)
    near(parts["noise"].flatten(1).std(0), torch.ones(4), 0.1)
    own = generator.parts(torch.stack([generator.distribution.mean, generator.distribution.scale]))
    near(own["w"][0], mapped.mean, 0)
    near(own["w"][1], mapped.scale, 0)
    near(own["noise"], torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]).double(), 0)
    spheres = priors.SpherePrior().feasible(generator)
    assert isinstance(spheres, Spheres)
    point = generator.parts(spheres.project(torch.randn(4, 16, generator=seeded(1))).double())
    near((point["w"] - mapped.mean).flatten(1).norm(dim=1), mapped.scale.norm().expand(4), 1e-5)
    near(point["noise"].flatten(1).norm(dim=1), torch.full((4,), 2.0).double(), 1e-5)
    plain = Generator(Layers(), latent_shape=PARTS, latents={})
    assert (plain.distribution.mean == 0).all()


def test_a_sample_of_a_part_lacks_what_is_held_out():
    rows = torch.arange(12.0)[:, None].expand(12, 12).reshape(12, 3, 4)
    generator = Generator(Layers(), latent_shape=PARTS, latents={"w": rows})
    held, rest = generator.hold_out(3, seed=1)
    seen, others = (generator.parts(z)["w"][:, 0, 0] for z in (held, rest.latents(9, 5)))
    assert sorted([*seen.tolist(), *others.tolist()]) == list(range(12))


def box_of(latents) -> sets.FeasibleSet:
    generator = Generator(Layers(), latent_shape=(3, 4), latents=latents)
    generator.latents(2, 0)
    return priors.BoxPrior().feasible(generator)


WRONG = {
    "a mapping network": (nn.Linear(3, 4), "latents: expected latentopt.MappedLatents"),
    "a distribution of another shape": (Normal(torch.zeros(3), 1.0), "latents: expected .*last axes.*Normal of shape"),
    "a class": (lo.MappedLatents, "latents: expected an object, not its class"),
    "no standard deviation": (Cauchy(0.0, 1.0), "latents.mean: expected finite"),
    "integers": (Categorical(torch.ones(3)), "latents: expected floating-point numbers"),
    "parts of none": ({"w": Normal(0.0, 1.0)}, "latents: expected one, as the generator has no parts, got w"),
    "a negative scale": (Shifted(scale=-1.0), "latents.scale: expected"),
    "a scale of another shape": (Shifted(scale=torch.ones(7)), "latents.scale: expected numbers of shape"),
    "mapped to another shape": (lo.MappedLatents(AFFINE, 3), "latents: expected floating-point numbers of shape"),
    "z of another shape": (lo.MappedLatents(AFFINE, 5), "mapping: expected a network that takes latents of shape"),
    "another input": (lo.MappedLatents(nn.Bilinear(3, 3, 4), 3), "mapping: expected one that needs no other input"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_latents_are_named(case):
    latents, message = WRONG[case]
    with pytest.raises(lo.InputError, match=message):
        box_of(latents)


def test_wrong_arguments_of_mapped_latents_are_named():
    for name, arguments in {
        "latent_shape": {"latent_shape": 0},
        "copies": {"latent_shape": 3, "copies": 0},
        "truncation": {"latent_shape": 3, "truncation": 0.0},
    }.items():
        with refuses(f"MappedLatents.{name}"):
            lo.MappedLatents(AFFINE, **arguments)
    with refuses("latents"):
        Generator(Layers(), latent_shape=PARTS, latents={"v": Normal(0.0, 1.0)})


def test_standard_normal_latents_have_the_plain_sets():
    plain = Generator(mlp(3, 5, 4, seed=0), latent_shape=3)
    assert priors.SpherePrior().feasible(plain) == sets.Sphere(3**0.5)


def test_a_normal_distribution_with_values_for_each_place_suits_a_decoder_of_any_size():
    class Sum(nn.Module):
        any_size = True

        def forward(self, z: Tensor) -> Tensor:
            return z.sum(1, keepdim=True).sigmoid()

    mean = rand(3, 16, 16)
    generator = Generator(Sum(), latent_shape=(3, 16, 16), latents=Normal(mean, torch.ones_like(mean)))
    assert generator.output_shape() == (1, 16, 16)
    assert torch.equal(generator.distribution.mean, mean.double())
    with refuses("latents"):
        generator.resized(32)


def test_a_distribution_without_samples_is_refused():
    class Abstract(Distribution):
        arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    with refuses("latents", "got Abstract"):
        Generator(nn.Linear(3, 4), latent_shape=3, latents=Abstract()).latents(1, 0)
