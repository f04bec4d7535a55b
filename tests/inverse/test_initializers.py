"""Initializers: where a reconstruction starts."""

from __future__ import annotations

import os
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from loops import check_alone
from nets import Counted, mlp, near, randn, refuses
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, Reconstruction, components
from latentopt.inverse.initializers import (
    Encoder,
    Initializer,
    Nearest,
    Random,
    Regression,
    cache,
    fit_cached,
    fit_initializer,
)
from latentopt.inverse.initializers.base import POOL_SEED
from latentopt.inverse.initializers.pools import (
    SKETCHED,
    WHOLE,
    FittedNearest,
    FittedRegression,
    measure_each,
    sketch,
)
from latentopt.inverse.initializers.random import SCALES, probe_scale
from latentopt.operators import Downsample, Identity

LATENTS = 3


def imaging(*hidden: int, seed: int = 0) -> Generator:
    """(B, 3) to images (B, 1, 4, 4), in [0, 1] wherever it is seen."""
    layers = nn.Sequential(mlp(LATENTS, *hidden, 16, seed=seed), nn.Unflatten(1, (1, 4, 4)))
    return Generator(layers, latent_shape=(LATENTS,), output_range=(-40.0, 40.0))


def vae() -> Generator:
    generator = lo.load("mnist-vae")
    assert isinstance(generator, Generator)
    return generator.double()


def posed(generator: Generator, z: Tensor) -> Reconstruction:
    return Reconstruction(generator, generator(z).detach().clamp(0, 1))


EVERY = [Random(), Random(0.3), Random("probe"), Nearest(60), Regression(60), Encoder()]


@pytest.mark.parametrize("start", EVERY, ids=repr)
def test_a_reconstruction_of_a_batch_is_that_of_its_samples(start):
    generator = vae() if isinstance(start, Encoder) else imaging(9)
    targets = generator(generator.latents(3, 5)).clamp(0, 1)
    settings = {"start": start, "steps": 5, "restarts": 4, "halving": [(2, 2)], "tolerance": 1e-6, "retries": 1}
    run = lambda rows: lo.reconstruct(generator, targets[rows], **settings)  # noqa: E731
    check_alone(run, 3, value=1e-9, equal=("restart", "status"))


def test_a_reconstruction_in_single_precision_starts_alike_in_a_batch():
    generator = vae().float()
    targets = generator(generator.latents(6, 0))
    together, alone = (lo.Reconstruction(generator, part, Downsample(4)) for part in (targets, targets[1:2]))
    fitted = Regression(500).fit(generator, Downsample(4), 0)
    near(fitted(together, 2, 0)[:, 1:2], fitted(alone, 2, 0), 1e-6)


@pytest.mark.parametrize("start", [Nearest(50), Regression(60, noise=0.5)], ids=repr)
def test_a_cached_fit_is_read_again_unless_what_it_depends_on_or_the_file_has_changed(tmp_path, monkeypatch, start):
    generator, problem = imaging(9), posed(imaging(9), randn(4, LATENTS, seed=8))
    fit, fits = type(start).fit, list[int]()
    monkeypatch.setattr(type(start), "fit", lambda *args: (fits.append(1), fit(*args))[1])
    fitted = fit_cached(start, generator, Identity(), 3, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    name = max(tensors, key=lambda name: tensors[name].numel())
    changed = {**tensors, name: tensors[name] + 1}
    spoilt = [
        whole[:-9],
        save(changed, metadata),  # readable, and not what was fitted
        save(tensors),  # without a key
        save(tensors, {**metadata, "key": "another's"}),
    ]
    for count, content in enumerate([whole, *spoilt], 1):
        file.write_bytes(content)
        again = fit_cached(start, generator, Identity(), 3, tmp_path)
        assert len(fits) == count
        assert fitted.forwards == again.forwards == start.pool  # also where it was read
        assert torch.equal(fitted(problem, 5, 1), again(problem, 5, 1))
    others = [
        (start, generator, Identity(), 4),
        (start, generator, Downsample(2), 3),
        (start, imaging(9, seed=1), Identity(), 3),
        (replace(start, pool=40), generator, Identity(), 3),
    ]
    for count, other in enumerate(others, 6):
        fit_cached(*other, folder=tmp_path)
        assert len(fits) == count
    assert len(list(tmp_path.iterdir())) == 5


def test_the_folder_of_fits_stays_below_its_limit_and_keeps_what_was_used_last(tmp_path, monkeypatch):
    generator, size = imaging(9), 0
    for seed in range(4):
        fit_cached(Nearest(9), generator, Identity(), seed, tmp_path)
        new = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        size = new.stat().st_size
        os.utime(new, (seed, seed))
    fit_cached(Nearest(9), generator, Identity(), 0, tmp_path)  # read, so used
    monkeypatch.setattr(cache, "LIMIT", 3 * size)
    fit_cached(Nearest(9), generator, Identity(), 4, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr(Nearest, "fit", lambda *args: pytest.fail("fitted"))
    for seed in (0, 3, 4):
        fit_cached(Nearest(9), generator, Identity(), seed, tmp_path)
    monkeypatch.setattr(cache, "LIMIT", 1)
    cache._prune(tmp_path, next(tmp_path.iterdir()))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_keeps_nothing_and_stops_nobody(tmp_path):
    (tmp_path / "file").touch()
    assert fit_cached(Nearest(9), imaging(9), Identity(), 0, tmp_path / "file" / "starts").forwards == 9
    assert fit_cached(Random(), imaging(9), Identity(), 0, tmp_path / "starts").forwards == 0
    assert not (tmp_path / "starts").exists()


def test_regression_predicts_the_latents_of_a_linear_generator():
    generator = imaging()
    z = generator.latents(50, 1)
    fitted = Regression(400, noise=0.3).fit(generator, Identity(), 0)
    found = fitted(posed(generator, z), 3, 0)
    error = (found[0] - z).square().mean() / z.square().mean()
    assert error < 0.02
    near((found[1:] - found[0]).std(1), torch.zeros(2, 3).double(), 1e-9)  # the samples share their noise
    assert 0.05 < (found[1:] - found[0]).std() < 0.6


def test_regression_of_enough_samples_is_the_kernel_formula():
    generator, operator = imaging(9), Downsample(2)
    start, problem = Regression(30, width=2.0, ridge=0.1), posed(imaging(9), randn(4, LATENTS, seed=8))
    problem = Reconstruction(generator, problem.measurement, operator)
    z = generator.latents(30, POOL_SEED + 3)
    y, seen = operator(generator(z)).flatten(1), problem.measurement.flatten(1)
    squares = (y[:, None] - y[None]).square().sum(2)
    width = 2.0 * squares.flatten().sort().values[(30 * 30 - 1) // 2]
    weights = torch.linalg.solve((-squares / width).exp() + 0.1 * torch.eye(30).double(), z)
    expected = (-(seen[:, None] - y[None]).square().sum(2) / width).exp() @ weights
    found = start.fit(generator, operator, 3)(problem, 1, 0)
    near(found[0], expected, 1e-9)


def test_nearest_of_large_measurements_compares_sketches_whose_distances_are_right_on_average():
    net = nn.Sequential(mlp(LATENTS, 9, WHOLE + 5, dtype=torch.float32), nn.Unflatten(1, (1, 1, WHOLE + 5)))
    generator = Generator(net, latent_shape=LATENTS, output_range=(-40.0, 40.0))
    pool = generator.latents(60, POOL_SEED + 3)
    values = generator(pool).flatten(1)
    exact, sketched = (torch.pdist(rows.double()) for rows in (values, sketch(values)))
    assert sketch(values).shape == (60, SKETCHED)
    assert (sketched / exact - 1).abs().max() < 0.12
    assert abs((sketched / exact).square().mean() - 1) < 0.02
    problem = Reconstruction(generator, generator(pool[7:9]).detach().clamp(0, 1))
    fitted = Nearest(60).fit(generator, Identity(), 3)
    assert isinstance(fitted, FittedNearest)
    assert fitted.measurements.shape == (60, SKETCHED)
    assert torch.equal(fitted(problem, 3, 0)[0], pool[7:9])
    assert torch.equal(sketch(values[:, :WHOLE]), values[:, :WHOLE])


def test_the_pool_runs_a_network_of_large_layers_in_smaller_chunks():
    sizes = list[int]()

    class Wide(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            sizes.append(len(z))
            return z.new_zeros(len(z), 2**19)

    net = nn.Sequential(Wide(), nn.AdaptiveAvgPool1d(4))
    generator = Generator(net, latent_shape=LATENTS)
    generator.output_shape()
    sizes.clear()
    (measured,) = measure_each(generator, [Identity()], torch.zeros(70, LATENTS))
    assert sizes == [1, 32, 32, 5]
    assert measured.shape == (70, 4)


def test_nearest_are_the_nearest_of_the_pool_in_order():
    generator, operator = imaging(9), Downsample(2)
    problem = Reconstruction(generator, posed(generator, randn(4, LATENTS, seed=8)).measurement, operator)
    pool = generator.latents(60, POOL_SEED + 3)
    distance = (problem.measurement.flatten(1)[:, None] - operator(generator(pool)).flatten(1)[None]).norm(dim=2)
    order = distance.argsort(1)
    fitted = Nearest(60).fit(generator, operator, 3)
    assert torch.equal(fitted(problem, 5, 0), pool[order[:, :5]].transpose(0, 1))
    assert torch.equal(fitted(problem, 5, 9, 2.0), pool[order[:, 5:10]].transpose(0, 1))
    assert torch.equal(fitted(problem, 5, 9, 4.0), pool[order[:, 15:20]].transpose(0, 1))
    assert torch.equal(fitted(problem, 40, 9, 2.0), pool[order[:, 20:]].transpose(0, 1))
    assert fitted(problem, 70, 0).shape == (60, 4, LATENTS)


def test_a_pool_that_holds_the_target_finds_it_and_leaves_other_restarts_to_chance():
    generator = imaging(9)
    z = generator.latents(40, POOL_SEED)[[3, 30]]
    result = lo.reconstruct(generator, generator(z), start=Nearest(40), restarts=2, steps=2, tolerance=1e-12)
    near(result.x, z, 1e-9)
    assert result.restart.tolist() == [0, 0]
    few = lo.reconstruct(generator, generator(generator.latents(2, 1)), start=Nearest(3), restarts=5, steps=3)
    assert few.history["loss"].shape == (3, 5, 2)
    assert not few.history["loss"][0].isnan().any()


def test_the_encoder_starts_lower_than_chance_on_the_generators_own_images():
    generator = vae().float()
    targets = generator(generator.latents(20, 3))
    settings: dict[str, Any] = {"restarts": 1, "steps": 1}
    encoded, chance = (
        lo.reconstruct(generator, targets, start=start, **settings).history["loss"][0, 0]
        for start in ("encoder", "random")
    )
    assert (encoded < chance).all()
    assert encoded.mean() < 0.1 * chance.mean()
    with refuses("start"):  # it needs whole images
        lo.reconstruct(generator, targets, operator=Downsample(4), start="encoder", **settings)


def test_the_first_restart_is_the_encoders_prediction_and_its_check_is_counted():
    generator = vae()
    problem = posed(generator, generator.latents(3, 0))
    generator.module = Counted(generator.module)  # pyright: ignore[reportArgumentType]
    fitted = Encoder(0.5).fit(generator, Identity(), 0)
    assert fitted.forwards == generator.module.forwards
    found = fitted(problem, 4, 0)
    assert generator.encoder is not None
    near(found[0], generator.encoder(problem.measurement)[:, :20], 1e-12)
    assert 0.3 < (found[1:] - found[0]).std() < 0.7


def test_random_starts_are_those_of_solve():
    generator = imaging(9)
    targets = generator(generator.latents(2, 1))
    ours = lo.reconstruct(generator, targets, start="random", steps=3, restarts=3, seed=4)
    theirs = lo.solve(Reconstruction(generator, targets), lo.LBFGS(memory=10), steps=3, restarts=3, seed=4)
    near(ours.history["loss"], theirs.history["loss"], 1e-9)


@pytest.mark.parametrize("scale", [0.1, 2.0, None])
def test_random_starts_have_their_scale_or_the_generators(scale):
    generator = Generator(mlp(500, 4), latent_shape=(500,), start_scale=0.4, output_range=(-40.0, 40.0))
    problem = Reconstruction(generator, torch.rand(1, 4).double())
    fitted = Random(scale).fit(generator, Identity(), 0)
    found = fitted(problem, 6, 0)
    assert found.std().item() == pytest.approx(scale or 0.4, rel=0.05)
    assert fitted.forwards == 0


class Flat(nn.Module):
    """Fits from small latents only: beyond 0.5 nothing changes."""

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.hardtanh(z, -0.5, 0.5)[:, :, None, None].repeat(1, 1, 2, 2)


def test_the_probe_picks_the_scale_from_which_own_samples_are_best_fitted():
    network = Counted(Flat())
    generator = Generator(network, latent_shape=(4,), output_range=(-0.5, 0.5))
    scale, forwards = probe_scale(generator, Identity(), 0)
    assert scale in (0.1, 0.2)
    assert forwards == network.forwards - 1  # the problem looks at the shape of an image
    assert Random("probe").fit(generator, Identity(), 0).forwards == forwards
    assert probe_scale(imaging(9), Identity(), 0)[0] in SCALES


@pytest.mark.parametrize("start", [Random(0.5), Regression(60), Encoder()], ids=repr)
def test_wider_starts_lie_further_from_each_other(start):
    generator = vae() if isinstance(start, Encoder) else imaging(9)
    problem = posed(generator, generator.latents(2, 0))
    fitted = start.fit(generator, Identity(), 0)
    near_by, wide = fitted(problem, 6, 3), fitted(problem, 6, 3, 2.0)
    near(wide[1:] - wide[2:3], 2 * (near_by[1:] - near_by[2:3]), 1e-9)
    assert (wide[0] - near_by[0]).abs().min() > 0  # the first is not what was tried before


@pytest.mark.parametrize(
    ("name", "make"),
    [
        *[("Random.scale", lambda scale=scale: Random(scale)) for scale in (0, -1.0, float("nan"), "other")],
        *[("Nearest.pool", lambda pool=pool: Nearest(pool)) for pool in (0, -3)],
        *[("Regression.pool", lambda pool=pool: Regression(pool)) for pool in (1, 0)],
        *[("Regression.noise", lambda noise=noise: Regression(noise=noise)) for noise in (-0.1, float("nan"))],
        ("Regression.width", lambda: Regression(width=0.0)),
        ("Regression.ridge", lambda: Regression(ridge=0.0)),
        ("Encoder.noise", lambda: Encoder(-1.0)),
        ("start", lambda: components.build("start", "initializer", "nowhere")),
        ("start", lambda: components.build("start", "initializer", 3)),
    ],
)
def test_wrong_starts_are_refused(name, make):
    with refuses(name):
        make()


def test_a_name_stands_for_an_initializer_and_an_initializer_for_itself():
    names: dict[str, Initializer] = {"random": Random(), "nearest": Nearest(), "regression": Regression()}
    names["encoder"] = Encoder()
    assert {name: components.build("start", "initializer", name) for name in names} == names
    assert set(components.short_names("initializer")) == {*names, "saved", "mean", "auto"}
    own: Initializer = Random(0.5)
    assert components.build("start", "initializer", own) is own


class Large(nn.Module):
    """Images (B, 3, 256, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = list[int]()

    def forward(self, z: Tensor) -> Tensor:
        self.rows.append(len(z))
        return z[:, :3].sigmoid()[:, :, None, None].repeat(1, 1, 256, 256)


def test_a_pool_of_large_images_is_never_held_whole():
    network, made, alive = Large(), list[weakref.ref[Tensor]](), list[int]()

    def operator(image: Tensor) -> Tensor:
        alive.append(sum(each() is not None for each in made))
        measurement = 1.0 * image
        made.append(weakref.ref(measurement))
        return measurement

    fitted = Regression(200).fit(Generator(network, latent_shape=(8,)), operator, 0)
    assert isinstance(fitted, FittedRegression)
    assert fitted.measurements.shape == (200, 512)
    assert (sum(network.rows), max(network.rows)) == (200, 2**22 // (3 * 256 * 256))
    assert max(alive) <= 1 < len(alive)


class Shifted(nn.Module):
    def forward(self, z: Tensor, by: Tensor) -> Tensor:
        return (z + by).sigmoid()[:, None, None]


CONDITIONS = {
    "continuous, each target its own": (torch.linspace(0.1, 1, 4)[:, None], 1),
    "two, of two targets each": (torch.tensor([0.1, 0.1, 0.7, 0.7])[:, None], 2),
    "classes": (torch.arange(4)[:, None], 4),
    "classes, one-hot": (torch.eye(4)[:, :1], 2),
    "many classes": (torch.arange(21)[:, None], 1),
}


@pytest.mark.parametrize("start", [Nearest(6), Regression(6)], ids=repr)
@pytest.mark.parametrize(("by", "pools"), CONDITIONS.values(), ids=CONDITIONS)
def test_many_or_continuous_conditions_share_a_pool(start, by, pools):
    generator = Generator(Shifted(), latent_shape=(3,)).given(by=by)
    result = lo.reconstruct(generator, torch.rand(len(by), 1, 1, 3), steps=1, restarts=1, optimizer="gd", start=start)
    assert int(result.forwards.sum()) == 6 * pools + 3 * len(by)


def test_latents_of_a_shared_pool_take_the_conditions_in_turn():
    generator = Generator(Shifted(), latent_shape=(3,)).given(by=torch.linspace(0, 1, 5)[:, None])
    z = generator.latents(7, POOL_SEED)
    fitted = fit_initializer(Nearest(7), generator, Identity(), 0, batch=5)
    assert isinstance(fitted, FittedNearest)
    alone = torch.cat([generator.take(torch.tensor([row % 5]))(z[row : row + 1]) for row in range(7)])
    assert torch.allclose(fitted.measurements, alone.flatten(1))


def test_equal_samples_end_alike_unless_they_start_apart():
    generator = imaging(9)
    target = generator(generator.latents(1, 2)).detach().expand(3, -1, -1, -1)
    problem = Reconstruction(generator, target)
    alike = lo.solve(problem, "adam", steps=3)
    assert torch.equal(alike.x, alike.x[:1].expand(3, -1))
    apart = lo.solve(problem, "adam", steps=3, start=generator.latents(3, 0))
    assert len(apart.x.unique(dim=0)) == 3
