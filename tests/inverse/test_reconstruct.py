"""`lo.reconstruct`: generators inverted, with retries."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from nets import Counted, mlp, near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import GD, Generator, Result, Status, priors
from latentopt.inverse.initializers import Nearest, Random, Regression
from latentopt.inverse.reconstruct import invert
from latentopt.operators import Downsample, Identity

LATENTS = 3


def expansive(seed: int = 0) -> Generator:
    """A random ReLU generator, (B, 3) to images (B, 1, 8, 8), each layer larger than the one before."""
    layers = nn.Sequential(mlp(LATENTS, 20, 64, seed=seed), nn.Unflatten(1, (1, 8, 8)))
    return Generator(layers, latent_shape=(LATENTS,), output_range=(-40.0, 40.0))


def own(generator: Generator, count: int = 6, seed: int = 3) -> tuple[Tensor, Tensor]:
    z = generator.latents(count, seed)
    return z, generator(z).detach()


def own_images() -> tuple[Generator, Tensor]:
    generator = expansive()
    return generator, own(generator)[1]


@pytest.mark.parametrize("start", ["random", "nearest", "regression"])
@pytest.mark.parametrize("seed", [0, 1])
def test_own_images_of_an_expansive_generator_are_recovered(start, seed):
    generator = expansive(seed)
    z, images = own(generator)
    result = lo.reconstruct(generator, images, start=start, steps=150)
    assert result.value.max() < 1e-8
    near(result.x, z, 1e-2)


def test_own_images_are_recovered_from_what_is_measured_of_them():
    generator = expansive()
    z, images = own(generator)
    result = lo.reconstruct(generator, images, operator=Downsample(2), steps=150)
    assert result.value.max() < 1e-8
    near(result.x, z, 1e-2)
    measured = lo.reconstruct(generator, Downsample(2)(images), operator=Downsample(2), steps=150)
    near(measured.x, result.x, 1e-9)


def test_the_fast_form_gives_the_same_up_to_rounding():
    generator, images = own_images()
    fast, plain = (lo.reconstruct(generator, images, steps=5, fast=fast) for fast in (True, False))
    near(fast.x, plain.x, 1e-9)


class Valleys(nn.Module):
    """Latents (B, 1) to images (relu(z), |z + 1/2|): a valley that leads to z = 1, and one with its bottom near -2."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([z.relu(), (z + 0.5).abs()], 2)[:, :, None]


def valleys(count: int) -> tuple[Generator, Tensor]:
    """The generator, and the image of z = 1."""
    generator = Generator(Valleys(), latent_shape=(1,), output_range=(0.0, 10.0))
    return generator, generator(torch.ones(count, 1).double()).detach()


TRIED = {"optimizer": GD(lr=20.0, schedule="constant"), "steps": 60, "restarts": 1, "tolerance": 1e-8}


def test_an_unsolved_target_is_tried_from_its_mirror_image():
    generator, images = valleys(3)
    start = torch.tensor([[-1.7], [1.2], [-2.4]]).double()
    once = lo.reconstruct(generator, images, start=start, **TRIED)
    assert once.status == (Status.BUDGET, Status.SOLVED, Status.BUDGET)
    near(once.x[[0, 2]], torch.tensor([[-2.0], [-2.0]]).double(), 1e-2)
    twice = lo.reconstruct(generator, images, start=start, retries=1, **TRIED)
    assert twice.status == (Status.SOLVED,) * 3
    near(twice.x, torch.ones(3, 1).double(), 1e-2)
    assert twice.restart.tolist() == [2, 0, 2]  # after the first attempt's one: the latent found, its mirror image
    for name in ("x", "value", "output", "forwards", "backwards"):
        assert torch.equal(getattr(twice, name)[1], getattr(once, name)[1])
    assert (twice.forwards[[0, 2]] > once.forwards[[0, 2]]).all()
    history = twice.history["loss"]
    assert history.shape == (60, 3, 3)
    near(history[: len(once.history["loss"]), :1].nan_to_num(9), once.history["loss"].nan_to_num(9), 0)
    assert history[:, 1:, 1].isnan().all()
    near(history[0, 2, 0], (generator(-once.x[:1]) - images[:1]).square().mean().detach(), 1e-12)
    near(history.nan_to_num(9).amin((0, 1)), twice.value, 1e-8)
    solved, again = (lo.reconstruct(generator, images, start=1.2 + 0 * start, retries=n, **TRIED) for n in (0, 2))
    assert solved.status == again.status == (Status.SOLVED,) * 3
    assert solved.history["loss"].shape == again.history["loss"].shape


def test_a_retry_that_finds_nothing_better_changes_nothing():
    generator, images = expansive(), rand(4, 1, 8, 8)
    settings = {"steps": 40, "restarts": 3, "tolerance": 1e-9, "start": Random()}
    results = [lo.reconstruct(generator, images, retries=n, **settings) for n in (0, 1, 2)]
    for before, after in pairwise(results):
        assert (after.value <= before.value).all()
        same = after.value == before.value
        assert torch.equal(after.x[same], before.x[same])
        assert torch.equal(after.restart[same], before.restart[same])
        assert (after.restart[~same] >= before.history["loss"].shape[1]).all()
    final = results[-1]
    assert final.history["loss"].shape[1] == 9
    chosen = final.history["loss"].nan_to_num(torch.inf).amin(0).gather(0, final.restart[None])[0]
    assert (final.value <= chosen + 1e-12).all()
    near(generator(final.x), final.output, 1e-9)


@pytest.mark.parametrize("start", [Random(), Nearest(31), Regression(31), "start"], ids=repr)
@pytest.mark.parametrize("retries", [0, 2])
def test_what_is_reported_is_what_passed_through_the_network(start, retries):
    network = Counted(expansive().module)
    generator = Generator(network, latent_shape=(LATENTS,), output_range=(-40.0, 40.0))
    images = torch.cat([own(expansive(), 2)[1], rand(2, 1, 8, 8)])
    if start == "start":
        start = randn(4, LATENTS)
    settings = {"steps": 30, "restarts": 3, "tolerance": 1e-4, "halving": [(4, 2)], "fast": False}
    result = lo.reconstruct(generator, images, start=start, retries=retries, **settings)
    assert int(result.forwards.sum()) == network.forwards - 1  # the problem looks at the shape of an image
    assert int(result.backwards.sum()) == network.backwards
    assert result.forwards.max() > 0


def test_a_fitted_start_costs_nothing():
    generator, images = own_images()
    settings = {"steps": 5, "restarts": 2, "fast": False}
    fitted = Regression(60).fit(generator, Identity(), 0)
    ours = lo.reconstruct(generator, images, start=fitted, **settings)
    theirs = lo.reconstruct(generator, images, start=Regression(60), **settings)
    near(ours.x, theirs.x, 0)
    assert int((theirs.forwards - ours.forwards).sum()) == 60


def test_a_result_or_latents_of_every_restart_can_be_the_start(tmp_path):
    generator, images = own_images()
    starts = randn(3, 6, LATENTS, seed=4)
    result = lo.reconstruct(generator, images, start=starts, steps=1, restarts=3)
    for restart in range(3):
        expected = (generator(starts[restart]) - images).square().flatten(1).mean(1)
        near(result.history["loss"][0, restart], expected.detach(), 1e-9)
    first = lo.reconstruct(generator, images, steps=4, restarts=3)
    first.save(tmp_path / "r")
    settings = {"steps": 100, "restarts": 2, "retries": 1, "tolerance": 1e-9}
    again = lo.reconstruct(generator, images, start=Result.load(tmp_path / "r"), **settings)
    near(again.history["loss"][0, 0], first.value, 1e-12)
    assert (again.value <= first.value).all()
    assert again.value.max() < 1e-8


@pytest.mark.parametrize("prior", [priors.SpherePrior(), priors.BoxPrior(0.8)], ids=repr)
def test_starts_and_their_mirror_images_are_projected_onto_the_priors_set(prior):
    generator, images = own_images()
    settings = {"steps": 5, "restarts": 4, "retries": 2, "tolerance": 1e-12, "start": Regression(60), "prior": prior}
    result = lo.reconstruct(generator, images, **settings)
    if isinstance(prior, priors.BoxPrior):
        assert result.x.abs().max() <= 0.8
    else:
        near(result.x.norm(dim=1), torch.full((6,), math.sqrt(LATENTS), dtype=torch.float64), 1e-9)
    assert result.history["loss"].shape[1] == 12


def test_noise_is_added_to_what_is_measured_and_differs_by_target():
    generator = expansive()
    images = own(generator, 2)[1].clamp(0, 1)
    settings = {"operator": Downsample(2), "steps": 1, "restarts": 1, "start": torch.zeros(2, LATENTS).double()}
    clean, noisy = (lo.reconstruct(generator, images, noise=noise, **settings) for noise in (0.0, 0.2))
    problem = lo.Reconstruction(generator, images, Downsample(2), noise=0.2)
    change = problem.measurement - Downsample(2)(images)
    assert 0.1 < change.std() < 0.3
    assert not torch.isclose(change[0], change[1]).any()
    assert (clean.value != noisy.value).all()


def test_short_searches_are_not_halved_and_stopped_ones_not_tried_again():
    generator, images = expansive(), rand(2, 1, 8, 8)
    result = lo.reconstruct(generator, images, steps=8, restarts=5)
    assert not result.history["loss"].isnan().any()
    long = lo.reconstruct(generator, images, steps=25, restarts=5, patience=None)
    assert (~long.history["loss"][-1].isnan()).sum(0).tolist() == [4, 4]
    stop = lambda progress: progress.t == 2  # noqa: E731
    result = lo.reconstruct(generator, images, steps=9, retries=2, tolerance=1e-9, callbacks=[stop])
    assert result.status == (Status.STOPPED,) * 2  # and not tried again
    assert result.history["loss"].shape == (2, 8, 2)


def test_invert_leaves_its_settings():
    generator, images = expansive(), rand(2, 1, 8, 8)
    settings = {"steps": 5, "restarts": 1, "halving": ((2, 1), (9, 1))}
    problem = lo.Reconstruction(generator, images, tolerance=1e-9)
    result = invert(problem, "adam", None, 1, 0, [], **settings)
    assert settings == {"steps": 5, "restarts": 1, "halving": ((2, 1), (9, 1))}
    assert result.history["loss"].shape == (5, 3, 2)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[("retries", {"retries": retries, "tolerance": 1.0}) for retries in (-1, 1.5)],
        *[("halving", {"halving": halving}) for halving in ([(3, 2), (3, 1)], [(0, 1)], (5, 2), 5)],
        *[("start", {"start": start}) for start in ("nowhere", 3, torch.zeros(2, 4), torch.zeros(9, 2, LATENTS))],
        *[("tolerance", {"tolerance": value}) for value in (0.0, -1.0, math.nan)],
        ("noise", {"noise": -1.0}),
        ("noise", {"noise": 0.1, "measured": True}),
        ("noise", {"noise": 0.1, "operator": lambda image: image}),
        ("steps", {"steps": 0}),
        ("restarts", {"restarts": 0}),
        ("optimizer", {"optimizer": "sgd"}),
    ],
)
def test_wrong_arguments_are_refused(name, settings):
    with refuses(name):
        lo.reconstruct(expansive(), rand(2, 1, 8, 8), **{"start": Random(), **settings})
