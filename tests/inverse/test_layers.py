"""`lo.split`, and reconstruction that goes on in the activations of layers."""

from __future__ import annotations

import pytest
import torch
from nets import mlp, near, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, priors
from latentopt.inverse.layers import PAIRS, LayerSearch
from latentopt.sets import L1Ball, L2Ball
from latentopt.zoo.cards import load_generator
from latentopt.zoo.datasets import as_images, open_dataset
from latentopt.zoo.stylegan2 import StyleGAN2, in_space


def generator(seed: int = 0) -> Generator:
    """Latents (B, 3) to images (B, 1, 4, 4); layers 0 to 4, the last one affine."""
    return Generator(nn.Sequential(*mlp(3, 6, 12, 16, seed=seed), nn.Unflatten(1, (1, 4, 4))), latent_shape=3)


class Styled(nn.Module):
    """Latents that enter every layer, a condition that enters the last, and an image that goes around it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([mlp(4, 5), mlp(5, 5, seed=1), mlp(5, 9, seed=2)])

    def forward(self, z: Tensor, y: Tensor, gain: float = 1.0) -> tuple[str, Tensor]:
        below = self.blocks[0](z[:, 0])
        h = self.blocks[1](below.relu() * z[:, 1, :1])
        return "image", gain * self.blocks[2]((h + below) * z[:, 2, :1] + y).reshape(-1, 1, 3, 3)


def styled() -> Generator:
    return Generator(Styled(), latent_shape=(3, 4)).given(y=randn(2, 1), gain=0.5)


@pytest.mark.parametrize("at", [0, "1", "2", "4", "5"])
def test_the_halves_of_a_generator_are_the_generator(at):
    whole, z = generator(), randn(5, 3)
    before, after = lo.split(whole, at)
    assert torch.equal(after(before(z)), whole(z))
    near(after.latents(4, seed=1), before(whole.latents(4, seed=1)), 1e-12)
    assert after.latent_shape == before.output_shape()


def test_layers_within_modules_and_methods_are_found():
    whole = Generator(nn.Sequential(mlp(3, 6, 9), nn.Unflatten(1, (1, 3, 3))), latent_shape=3)
    before, after = lo.split(whole, "0.1")
    assert torch.equal(after(before(randn(2, 3))), whole(randn(2, 3)))
    block = lo.split(whole, "0")[0]
    assert block.latent_shape == (3,)
    assert block.output_shape() == (9,)
    method = Generator(whole.module.forward, latent_shape=3)
    assert torch.equal(lo.split(method, "0.1")[0](randn(2, 3)), before(randn(2, 3)))


def test_random_starts_of_the_second_half_are_activations_as_far_apart_as_the_generators():
    whole = generator()
    whole.start_scale = 0.2
    before, after = lo.split(whole, "0")
    own = after.distribution
    near(own.scale, before(whole.latents(2000, seed=0)).detach().std(0), 0.1)
    problem = lo.Reconstruction(after, torch.zeros(1, 1, 4, 4), measured=True)
    starts = lo.solve(problem, lo.GD(1e-12), steps=1, restarts=400).all_x[:, 0]
    near(starts.std(0) / (0.2 * own.scale), torch.ones(6).double(), 0.2)
    near(starts.mean(0), own.mean, 0.1)
    assert before.start_scale == after.start_scale == 0.2


@pytest.mark.parametrize("at", ["blocks.0", "blocks.1"])
def test_what_enters_after_the_layer_stays_an_input(at):
    whole, z = styled(), randn(4, 3, 4)
    before, after = lo.split(whole, at)
    near(after(before(z)), whole(z), 1e-12)
    assert after.part_shapes == {at: (5,), "latents": (3, 4)}
    named = Generator(lambda a, b: (a.relu() + b)[:, None, None], latent_shape={"a": 3, "b": 3})
    with refuses("at", "the name of a module"):
        lo.split(named, "a")


def test_parts_by_name_are_kept():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = mlp(2, 4)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (self.first(a) * b)[:, None, None]

    whole = Generator(Two(), latent_shape={"a": 2, "b": 4})
    before, after = lo.split(whole, "first")
    assert after.part_shapes == {"first": (4,), "b": (4,)}
    assert torch.equal(after(before(randn(3, 6))), whole(randn(3, 6)))


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_a_stylegan2_is_cut_in_every_space(space):
    whole = in_space(StyleGAN2(8, style=4, mapping=1, channels=(4, 4), colours=1).eval(), space, noise=space == "w+")
    before, after = lo.split(whole, "network.convs.0")
    z = whole.latents(3, seed=0)
    assert torch.equal(after(before(z)), whole(z))
    assert after.part_shapes["network.convs.0"] == (4, 8, 8)
    found = lo.reconstruct(
        whole, whole(z).clamp(0, 1).flip(3), start="random", steps=3, layers={"network.convs.0": 0.1}
    )
    assert found.activations["network.convs.0"].shape == (3, *after.latent_shape)


def test_least_squares_in_the_last_layer():
    whole, target = generator(), randn(4, 1, 4, 4, seed=5)
    found = lo.reconstruct(whole, target, start="random", steps=80, layers={"3": 1e3}, norm="l2", measured=True)
    last = whole.module[4]
    matrix, offset = last.weight.double(), last.bias.double()
    best = torch.linalg.lstsq(matrix, (target.flatten(1) - offset).T).solution.T
    residual = ((best @ matrix.T + offset - target.flatten(1)) ** 2).mean(1)
    near(found.value, residual, 1e-9)
    near(found.activations["3"], best, 1e-4)
    found.verify(lo.split(whole.fused(), "3")[1])


@pytest.mark.parametrize(("norm", "ball"), [("l1", L1Ball), ("l2", L2Ball)])
def test_the_optimum_in_a_ball_is_the_projection_on_it(norm, ball):
    """The last layer is the identity, so the best activations are those of the ball nearest to the target."""
    whole = Generator(nn.Sequential(mlp(2, 8), nn.Unflatten(1, (1, 2, 4)), nn.Identity()), latent_shape=2)
    target = randn(3, 1, 2, 4, seed=3)
    found = lo.reconstruct(whole, target, start="random", steps=60, layers={"1": 0.2}, norm=norm, measured=True)
    a, b = lo.split(whole, "1")[0](whole.latents(2 * PAIRS, seed=0)).flatten(1).reshape(PAIRS, 2, 8).unbind(1)
    unit = torch.linalg.vector_norm(a - b, ord=1 if norm == "l1" else 2, dim=1).mean()
    nearest = ball(whole(found.x), 0.2 * unit.item()).project(target)
    assert not torch.allclose(nearest, target)
    near(found.activations["1"], nearest, 1e-3)


def test_a_radius_of_zero_gives_the_plain_result_to_the_bit():
    whole = load_generator("mnist-dcgan")
    images = whole(whole.latents(2, seed=3)).flip(3)
    settings = {"start": "random", "steps": 3, "restarts": 1, "halving": ()}
    plain = lo.reconstruct(whole, images, **settings)
    zero = lo.reconstruct(whole, images, layers={"layers.3": 0.0, "layers.6": 0.0}, **settings)
    assert torch.equal(zero.output, plain.output)
    assert torch.equal(zero.value, plain.value)
    assert torch.equal(zero.x, plain.x)


def test_each_layer_fits_better_and_is_counted():
    whole, target = generator(), randn(2, 1, 4, 4, seed=5)
    steps = []
    settings = {"start": "random", "steps": 10, "restarts": 2, "halving": (), "measured": True}
    plain = lo.reconstruct(whole, target, **settings)
    found = lo.reconstruct(
        whole, target, layers={"1": 0.1, "3": 0.1}, callbacks=lambda p: steps.append(p.t), **settings
    )
    one = lo.reconstruct(whole, target, layers={"1": 0.1}, **settings)
    assert bool(((found.value < one.value) & (one.value < plain.value)).all())
    # Per target: the units' share, and for each layer 10 steps, the last iterate, the result, and the layers before.
    assert torch.equal(found.forwards, plain.forwards + 2 * PAIRS + 2 * (10 + 3))
    assert torch.equal(found.backwards, plain.backwards + 2 * 10)
    assert steps == list(range(1, 31))
    assert found.history["loss"].shape == (30, 2, 2)
    alone = lo.reconstruct(whole, target[1:], layers={"1": 0.1, "3": 0.1}, **settings)
    near(alone.value, found.value[1:], 1e-9)


class Gained(nn.Module):
    """A condition that scales the activations of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = mlp(3, 6), mlp(6, 16, seed=1)

    def forward(self, z: Tensor, gain: Tensor) -> Tensor:
        return self.last(self.first(gain * z).relu()).reshape(-1, 1, 4, 4)


def test_the_radius_of_a_sample_is_that_of_its_own_condition():
    gains, target = torch.tensor([[1.0], [5.0], [1.0]]).double(), randn(3, 1, 4, 4, seed=5)
    whole = Generator(Gained(), latent_shape=3)
    settings = {"start": "random", "steps": 10, "restarts": 1, "layers": {"first": 0.2}, "optimizer": "gd"}
    found = lo.reconstruct(whole.given(gain=gains), target, **settings)
    for row in range(3):
        one = slice(row, row + 1)
        alone = lo.reconstruct(whole.given(gain=gains[one]), target[one], **settings)
        near(found.value[one], alone.value, 1e-12)
        near(found.activations["first"][one], alone.activations["first"], 1e-9)
    before = lo.split(whole.given(gain=gains[1:2]), "first")[0]
    a, b = before(whole.latents(2 * PAIRS, seed=0)).detach().unflatten(0, (-1, 2)).unbind(1)
    search = LayerSearch(whole.given(gain=gains), {"first": 0.2}, "l1", seed=0)
    unit = torch.as_tensor(search.unit("first"))
    assert float(unit[1]) == pytest.approx(float((a - b).abs().sum(1).mean()))
    assert unit[0] == unit[2] < unit[1]
    assert search.forwards == 2 * 2 * PAIRS  # equal conditions share one
    assert torch.equal(torch.as_tensor(search.take(torch.tensor([2, 1])).unit("first")), unit[[2, 1]])


def test_wrong_layers_are_told_in_one_line():
    whole, image = generator(), torch.zeros(1, 1, 4, 4).double()
    with refuses("at", "did you mean"):
        lo.split(generator(), "51")
    for layers, words in [
        ({"11": 1.0}, "did you mean '1'"),
        ({"3": 1.0, "1": 1.0}, "in the order in which they are called"),
    ]:
        with refuses("layers", words):
            lo.reconstruct(whole, image, layers=layers)
    with refuses("layers: radius of 1", ">= 0"):
        lo.reconstruct(whole, image, layers={"1": -0.1})
    with refuses("at", "without nuisances"):
        lo.split(lo.with_nuisances(generator(), angle=3.0), "1")
    with refuses("norm", "l1"):
        lo.reconstruct(whole, image, layers={"1": 1.0}, norm="linf")  # pyright: ignore[reportArgumentType]
    twice = nn.ReLU()
    again = Generator(nn.Sequential(mlp(3, 4), twice, nn.Identity(), twice, nn.Unflatten(1, (1, 2, 2))), latent_shape=3)
    with refuses("layers", "called 2 times"):
        lo.reconstruct(again, torch.zeros(1, 1, 2, 2), layers={"1": 1.0})


def test_a_module_that_cannot_be_traced_is_told_in_one_line():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = mlp(3, 4)

        def forward(self, z: Tensor) -> Tensor:
            return self.layer(z if z.sum() > 0 else -z).reshape(-1, 1, 2, 2)

    with refuses("at", "torch.fx can trace"):
        lo.split(Generator(Loop(), latent_shape=3), "layer")


@pytest.mark.slow
def test_layers_cut_the_error_of_compressed_sensing():
    digits = as_images(open_dataset("mnist", limit=8), 8)
    settings = {"operator": lo.operators.Gaussian(100), "noise": 0.01, "prior": priors.GaussianPrior(0.00037)}
    settings |= {"steps": 100, "restarts": 4}
    whole, layers = load_generator("mnist-vae"), {"layers.2": 0.2, "layers.4": 0.4}
    plain, found = (lo.reconstruct(whole, digits, layers=names, **settings) for names in (None, layers))
    assert lo.metrics.mse(found.output, digits).mean() < 0.3 * lo.metrics.mse(plain.output, digits).mean()
