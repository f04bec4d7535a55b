"""Latents that are not standard normal: those of a sample, or of a mapping network."""

from __future__ import annotations

import math

import pytest
import torch
from loops import check_alone, every_method
from nets import mlp, near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import LBFGS, Generator, Reconstruction, priors, sets, solve
from latentopt.inverse.initializers import Encoder, Nearest, Random, Regression
from latentopt.networks.latents import Around, Latents, Spheres
from latentopt.noise import Noise
from latentopt.operators import Identity

N = 5
MAPPING = mlp(3, 16, N, seed=4)


def mapped(count: int, generator: torch.Generator) -> Tensor:
    """w (count, 5), which a mapping network makes of normal numbers: neither centred, nor of scale 1."""
    with torch.no_grad():
        return 3 + 0.2 * MAPPING(torch.randn(count, 3, generator=generator).double())


def sample(count: int = 400, seed: int = 1) -> Tensor:
    return mapped(count, torch.Generator().manual_seed(seed))


def synthesis(latents=mapped, hidden: tuple[int, ...] = (9,), **settings) -> Generator:
    layers = nn.Sequential(mlp(N, *hidden, 16, seed=2), nn.Unflatten(1, (1, 4, 4)))
    return Generator(layers, latent_shape=(N,), output_range=(-40.0, 40.0), latents=latents, **settings)


def test_latents_are_what_the_function_draws_from_the_seed():
    near(synthesis().latents(7, seed=3), mapped(7, torch.Generator().manual_seed(3)), 0)
    assert not torch.equal(synthesis().latents(7, seed=3), synthesis().latents(7, seed=4))


def test_latents_of_a_sample_are_its_rows_none_twice_before_all():
    rows = sample(10)
    generator = synthesis(rows)
    z = generator.latents(10, seed=0)
    assert sorted(z.tolist()) == sorted(rows.tolist())
    assert torch.equal(z, generator.latents(10, seed=0))
    assert not torch.equal(z, generator.latents(10, seed=1))
    often = generator.latents(25, seed=0)
    assert {row.tolist().__str__() for row in often} == {row.tolist().__str__() for row in rows}
    assert often.unique(dim=0, return_counts=True)[1].max() == 3


def test_without_them_all_is_as_it_was():
    plain = synthesis(None)
    expected = torch.randn(4, N, generator=torch.Generator().manual_seed(6)).double()
    assert torch.equal(plain.latents(4, seed=6), expected)
    assert priors.Unconstrained().feasible(plain) == sets.Free(1.0)
    assert priors.GaussianPrior(0.1).penalty_of(plain) == priors.SquaredNorm(0.1)
    assert plain.hold_out(4, 6)[1] is plain


@pytest.mark.parametrize("latents", [mapped, sample()], ids=["function", "sample"])
def test_the_gaussian_prior_pulls_to_the_mean_in_units_of_the_scale(latents):
    generator = synthesis(latents, hidden=())
    many = latents if isinstance(latents, Tensor) else mapped(2048, torch.Generator().manual_seed(0))
    mean, scale = many.mean(0), many.std(0, correction=0)
    target, weight = rand(3, 1, 4, 4), 0.02
    result = solve(Reconstruction(generator, target, prior=priors.GaussianPrior(weight)), LBFGS(memory=10), steps=80)
    zero = generator(torch.zeros(1, N).double()).flatten()
    a = (generator(torch.eye(N).double()).flatten(1) - zero).T
    pull = 16 * weight * torch.diag(scale**-2)
    y = (target.flatten(1) - zero) @ a + (pull @ mean)
    near(result.x, torch.linalg.solve(a.T @ a + pull, y.T).T, 1e-4)
    strong = solve(Reconstruction(generator, target, prior=priors.GaussianPrior(1e6)), LBFGS(memory=10), steps=80)
    near(strong.x, mean.expand(3, -1), 1e-4)


def test_random_starts_are_latents_scaled_about_their_mean():
    generator = synthesis(start_scale=0.5)
    problem = Reconstruction(generator, rand(2, 1, 4, 4))
    feasible = problem.feasible
    assert isinstance(feasible, Around)
    mean = generator.distribution.mean
    starts = feasible.sample(torch.empty(6, N).double(), Noise(0, torch.tensor([0, 0, 1, 1, 2, 3])))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    whole = Around(1.0, latents=generator.distribution).sample(starts, Noise(0, torch.tensor([0, 0, 1, 1, 2, 3])))
    near(starts - mean, 0.5 * (whole - mean), 1e-12)
    many = Around(1.0, latents=generator.distribution).sample(
        torch.empty(3000, N).double(), Noise(0, torch.arange(3000))
    )
    near(many.mean(0), mean, 0.05)
    near(many.std(0) / generator.distribution.scale, torch.ones(N).double(), 0.1)
    ours = lo.reconstruct(generator, rand(2, 1, 4, 4), start="random", steps=2, restarts=3, halving=(), seed=4)
    theirs = solve(problem, LBFGS(memory=64), steps=2, restarts=3, seed=4)
    near(ours.history["loss"], theirs.history["loss"], 1e-12)


@pytest.mark.parametrize("start", [Nearest(60), Regression(60), Random(), Random("probe")], ids=repr)
def test_starts_lie_where_latents_do(start):
    generator = synthesis(sample())
    problem = Reconstruction(generator, generator(generator.latents(20, 9)).detach())
    far = (sample(2000) - sample().mean(0)).norm(dim=1).max()
    found = start.fit(generator, Identity(), 0)(problem, 4, 0)
    assert (found - sample().mean(0)).norm(dim=2).max() < 2.5 * far
    assert found.mean() > 1.5  # of standard normal latents it would be 0
    if isinstance(start, Nearest):
        assert (found[:, :, None] == sample()).all(3).any(2).all()


@pytest.mark.parametrize("latents", [mapped, sample()], ids=["function", "sample"])
@pytest.mark.parametrize(
    "prior", [priors.Unconstrained(), priors.GaussianPrior(1e-3), priors.SpherePrior(), priors.BoxPrior(2.0)], ids=repr
)
def test_a_batch_equals_its_samples_alone(latents, prior):
    generator = synthesis(latents)
    targets = generator(generator.latents(3, 5)).detach()
    settings = {"steps": 4, "restarts": 3, "halving": [(2, 2)], "prior": prior, "start": Regression(60), "retries": 1}
    check_alone(lambda rows: lo.reconstruct(generator, targets[rows], **settings), 3, 1e-8)


class Logistic(nn.Module):
    """w about 5 to pixels in (0, 1)."""

    def forward(self, w: Tensor) -> Tensor:
        return (w - 5).sigmoid()[:, None, None]


class Logit(nn.Module):
    """What `Logistic` was given, where that is no further than 3 from 5."""

    def forward(self, image: Tensor) -> Tensor:
        return 5 + image.flatten(1).logit().clamp(-3, 3)


def about_five(count: int, generator: torch.Generator) -> Tensor:
    return 5 + torch.randn(count, 4, generator=generator)


def test_an_encoder_is_tried_on_the_generators_own_latents():
    given = {"latent_shape": (4,), "encoder": Logit()}
    image = Logistic()(about_five(2, torch.Generator().manual_seed(8)))
    with refuses("encoder"):
        lo.reconstruct(Generator(Logistic(), **given), image, start="encoder", steps=1)
    generator = Generator(Logistic(), **given, latents=about_five)
    found = lo.reconstruct(generator, image, start="encoder", restarts=1, steps=1)
    assert found.value.max() < 1e-6
    guess = Encoder(0.5).fit(generator, Identity(), 0)
    spread = (guess(Reconstruction(generator, image), 400, 0)[1:] - found.x).std((0, 1))
    near(spread.double(), 0.5 * generator.distribution.scale, 0.08)


def test_diagnose_tries_own_latents_that_no_pool_has():
    rows = sample(40)
    generator = synthesis(rows)
    found = lo.diagnose(generator, samples=16, start=Nearest(500), steps=1, restarts=1, tolerance=1e-12)
    assert found.recovered < 0.5  # the pool has every other row, and the nearest of them is not the target
    z, rest = generator.hold_out(16, 0)
    assert not (z[:, None] == rest.latents(500, 0)).all(2).any()
    assert sorted([*z.tolist(), *rest.latents(24, 3).tolist()]) == sorted(rows.tolist())
    assert rest(z).equal(generator(z))
    searched = lo.diagnose(generator, samples=16, steps=150)
    assert (searched.verdict, searched.recovered) == ("neither", 1.0)
    with refuses("samples"):
        lo.diagnose(generator, samples=39)


def test_a_later_round_starts_at_the_mirror_image_in_the_mean():
    seen: list[Tensor] = []
    generator = synthesis()
    target = rand(1, 1, 4, 4)
    first = lo.reconstruct(generator, target, steps=1, restarts=2, halving=(), start="random")
    watch = lambda progress: seen.append(progress.x)  # noqa: E731
    lo.reconstruct(generator, target, steps=1, restarts=4, halving=(), start="random", retries=1, callbacks=[watch])
    assert len(seen) == 2
    starts = seen[1].reshape(4, N)
    mean = generator.distribution.mean
    near(starts[0] + starts[1], 2 * mean, 1e-9)
    assert first.x.shape == (1, N)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(12, 8, 6, seed=5)

    def forward(self, w: Tensor, noise: Tensor) -> Tensor:
        return (self.layers(w.flatten(1))[:, None] + noise)[:, None].relu()


PARTS = {"w": (3, 4), "noise": (1, 6)}


def several(latents=None) -> Generator:
    return Generator(Several(), latent_shape=PARTS, output_range=(-20, 20), latents=latents)


def norms(x: Tensor, generator: Generator) -> dict[str, Tensor]:
    return {name: part.flatten(1).norm(dim=1) for name, part in generator.parts(x).items()}


@every_method
def test_each_named_part_has_a_sphere_of_its_own_all_along(method):
    generator = several()

    def check(progress) -> None:
        for x in (progress.x, progress.best_x):
            near(norms(x, generator)["w"], torch.full((len(x),), math.sqrt(12)).double(), 1e-5)
            near(norms(x, generator)["noise"], torch.full((len(x),), math.sqrt(6)).double(), 1e-5)

    problem = Reconstruction(generator, rand(2, 1, 1, 6), prior=priors.SpherePrior())
    solve(problem, method, steps=5, restarts=2, callbacks=[check])


def test_projection_on_spheres_is_that_of_each_part():
    generator = several(lambda count, source: 2 + 3 * torch.randn(count, 18, generator=source))
    spheres = priors.SpherePrior().feasible(generator)
    assert isinstance(spheres, Spheres)
    mean, scale = generator.distribution.mean, generator.distribution.scale
    radii = scale[:12].norm(), scale[12:].norm()
    x = randn(30, 18)
    x[0] = mean.double()
    p = spheres.project(x)
    near(spheres.project(p), p, 1e-9)
    for part, radius in zip((slice(0, 12), slice(12, 18)), radii, strict=True):
        moved, was = p[1:, part] - mean[part], x[1:, part] - mean[part]
        near(moved, radius * was / was.norm(dim=1, keepdim=True), 1e-5)
    near(spheres.radius(x), torch.stack(radii).norm().double(), 1e-6)
    grad = randn(5, 18, seed=1)
    others = spheres.project(randn(2000, 18, seed=2))
    assert ((spheres.lmo(grad) * grad).sum(1) <= (others @ grad.T).amin(0)).all()
    drawn = spheres.sample(x, Noise(0, torch.arange(30)))
    near(spheres.project(drawn), drawn, 1e-9)


def test_a_box_and_a_sphere_lie_about_the_mean_in_standard_deviations():
    generator = synthesis(sample())
    box, own = priors.BoxPrior(2.0).feasible(generator), generator.distribution
    assert isinstance(box, sets.Box)
    far = 1e3 * torch.ones(2, N).double()
    for sign in (1, -1):
        near(box.project(sign * far), (own.mean + sign * 2 * own.scale).expand(2, -1), 1e-12)
    x = priors.SpherePrior().feasible(generator).project(randn(9, N))
    typical = (sample() - sample().mean(0)).square().sum(1).mean().sqrt()
    near((x - sample().mean(0)).norm(dim=1), typical.expand(9), 1e-6)


def test_a_value_that_never_varies_costs_much_but_not_all():
    still = sample()
    still[:, 2] = 7
    scale = Latents((N,), still).scale
    assert 0 < scale[2] < 0.01 * scale.max()
    assert scale[[0, 1, 3, 4]].equal(still.std(0, correction=0)[[0, 1, 3, 4]])
    with refuses("latents"):  # all are alike
        priors.GaussianPrior(0.1).penalty_of(synthesis(torch.ones(4, N)))


@pytest.mark.parametrize(
    "latents",
    [
        torch.zeros(1, N),
        torch.zeros(9, N - 1),
        torch.zeros(9, N, 1),
        torch.zeros(9, N).long(),
        torch.full((9, N), float("nan")),
        "normal",
    ],
    ids=["one", "short", "deep", "integers", "NaN", "a word"],
)
def test_a_wrong_sample_is_refused_at_once(latents):
    with refuses("latents"):
        synthesis(latents)


@pytest.mark.parametrize(
    "draw",
    [lambda count, source: torch.zeros(count, N - 1), lambda count, source: [0] * count, lambda *_: torch.ones(())],
)
def test_a_wrong_function_is_refused_when_it_draws(draw):
    with refuses("latents"):
        synthesis(draw).latents(3, 0)
    with refuses("latents"):
        lo.reconstruct(synthesis(draw), rand(1, 1, 4, 4), steps=1)
