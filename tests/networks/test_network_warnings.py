"""What is said of networks that make a result doubtful: a forgotten range, and random numbers in the forward."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from files import call, write_model
from nets import Counted, mlp, near, rand, refill
from torch import Tensor, nn
from torch.nn import functional as F

import latentopt as lo
from latentopt import Generator, NetworkWarning, Problem, Reconstruction, solve
from latentopt.inverse.initializers import Nearest, Random, Regression
from latentopt.jobs.diagnose import diagnose
from latentopt.jobs.reconstruct import reconstruct
from latentopt.objectives import Unit
from latentopt.zoo import cards

DRAWN = "its {} differ from one call to the next; is it randomised?"
QUICK = {"steps": 15, "restarts": 2, "halving": ()}


class Emits(nn.Module):
    """Images (B, 1, 4, 4) of the values that ``end`` makes of normal-like numbers."""

    def __init__(self, end: Callable[[Tensor], Tensor], seed: int = 0) -> None:
        super().__init__()
        self.layers, self.end = mlp(5, 12, 16, seed=seed), end

    def forward(self, z: Tensor) -> Tensor:
        return self.end(self.layers(z)).unflatten(1, (1, 4, 4))


def emitting(end: Callable[[Tensor], Tensor], **settings) -> Generator:
    return Generator(Emits(end).eval(), latent_shape=(5,), **settings)


def said(act: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    assert all(warning.category is NetworkWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)  # the line that called the package
    return [str(warning.message) for warning in caught]


ENTRIES: dict[str, Callable[[Generator], object]] = {
    "reconstruct": lambda g: lo.reconstruct(g, rand(2, 1, 4, 4), **QUICK, start=Regression(40)),
    "nearest": lambda g: lo.reconstruct(g, rand(2, 1, 4, 4), **QUICK, start=Nearest(40)),
    "random": lambda g: lo.reconstruct(g, rand(2, 1, 4, 4), **QUICK, start="random"),
    "not fast": lambda g: lo.reconstruct(g, rand(2, 1, 4, 4), **QUICK, start="random", fast=False),
    "solve": lambda g: solve(Reconstruction(g, rand(2, 1, 4, 4)), "adam", steps=15),
    "problem": lambda g: solve(Problem(g, Unit(3), (5,), 2, like=torch.empty(0).double()), "adam", steps=15),
    "diagnose": lambda g: lo.diagnose(g, samples=3, **QUICK, start="random"),
}
every_entry = pytest.mark.parametrize("enter", ENTRIES.values(), ids=ENTRIES)


@every_entry
@pytest.mark.parametrize("scale", [0.6, 3.0])
def test_a_forgotten_range_is_said_once_by_every_entry(enter, scale):
    generator = emitting(lambda y: (scale * y).tanh())
    (words,) = said(lambda: enter(generator))
    assert words.startswith("generator: it emits values from about -")
    assert "outside its output_range=(0, 1); is it output_range=(-1, 1)?" in words
    assert said(lambda: enter(generator)) == []
    assert said(lambda: enter(generator.given())) == []


@every_entry
def test_a_range_that_was_said_is_not_asked_about(enter):
    assert said(lambda: enter(emitting(torch.tanh, output_range=(-1, 1)))) == []


@pytest.mark.parametrize(
    ("end", "declared", "likely"),
    [
        (lambda y: 255 * y.sigmoid(), (0, 1), "(0, 255)"),
        (lambda y: 255 * y.sigmoid(), (-1, 1), "(0, 255)"),
        (lambda y: 127.5 * y.tanh(), (0, 1), "(-127.5, 127.5)"),
        (torch.tanh, (0, 255), "(-1, 1)"),
        (lambda y: (3 * y).sigmoid(), (0, 255), "(0, 1)"),
        (lambda y: y.tanh() + 0.1 * y.clamp(-0.8, 0.8), (0, 1), "(-1, 1)"),
    ],
    ids=["bytes", "bytes for tanh", "centred bytes", "tanh for bytes", "sigmoid for bytes", "a little beyond tanh"],
)
def test_the_range_that_is_meant_is_named(end, declared, likely):
    (words,) = said(lambda: emitting(end, output_range=declared).output_shape())
    assert f"is it output_range={likely}?" in words


@pytest.mark.parametrize(
    ("end", "declared"),
    [
        (torch.sigmoid, (0, 1)),
        (torch.sigmoid, (-1, 1)),
        (lambda y: 0.2 * y.sigmoid() + 0.4, (0, 255)),
        (lambda y: 1.1 * (9 * y).sigmoid() - 0.05, (0, 1)),
        (lambda y: 0.5 + 0.3 * y, (0, 1)),
        (lambda y: y, (0, 1)),
        (torch.tanh, (-1, 1)),
    ],
    ids=["right", "narrower", "much narrower", "a little outside, often", "no bounds", "standardised", "right tanh"],
)
def test_other_generators_are_left_alone(end, declared):
    assert said(lambda: ENTRIES["reconstruct"](emitting(end, output_range=declared))) == []


def test_the_look_costs_nothing_where_there_is_nothing_to_see():
    network = Counted(Emits(torch.sigmoid))
    Generator(network, latent_shape=(5,)).output_shape()
    assert network.forwards == 1


def test_the_job_says_it_too(tmp_path):
    spec = {"class_path": "latentopt.zoo.architectures.ConvGenerator", "init_args": {"latent": 4, "channels": [6, 4]}}
    settings = {"latent_shape": [4], "output_range": (0.0, 1.0), "start_scale": 1.0}
    card = cards.GeneratorCard(name="t", summary="for tests", architecture={"generator": spec}, **settings)
    module = refill(cards.build(spec), seed=0, dtype=torch.float32)
    with torch.no_grad():
        module.layers[-2].weight.mul_(9)  # pyright: ignore
    folder = tmp_path / "model"
    cards.save_model(folder, card, {"generator": module})
    np.save(tmp_path / "a.npy", rand(2, 28, 28).numpy())
    with pytest.warns(NetworkWarning, match=r"is it output_range=\(-1, 1\)"):
        diagnose(str(folder), steps=1, restarts=1, samples=2, device="cpu", start=Random())
    where: dict[str, Any] = {"device": "cpu", "wandb": "disabled", "out": str(tmp_path / "out")}
    with pytest.warns(NetworkWarning, match=r"is it output_range=\(-1, 1\)"):
        reconstruct(str(folder), [str(tmp_path / "a.npy")], steps=1, restarts=1, halving=(), **where)


def noise(y: Tensor) -> Tensor:
    return (y + 0.3 * torch.randn_like(y)).sigmoid()


def dropout(y: Tensor) -> Tensor:
    return F.dropout(y.sigmoid(), 0.2, training=True)


@every_entry
@pytest.mark.parametrize("end", [noise, dropout])
def test_random_numbers_in_the_forward_are_said_once_by_every_entry(enter, end):
    torch.manual_seed(0)
    generator = emitting(end)
    call = "randn_like" if end is noise else "dropout"
    (words,) = said(lambda: enter(generator))
    assert words.startswith(f"generator: {DRAWN.format('images')} It calls {call}; ")
    assert said(lambda: enter(generator)) == []


def test_what_is_reported_is_of_what_is_returned():
    torch.manual_seed(0)
    target = rand(3, 1, 4, 4)
    with pytest.warns(NetworkWarning):
        found = lo.reconstruct(emitting(noise), target, **QUICK)
    near(found.value, (found.output - target).square().mean((1, 2, 3)), 1e-12)
    luckiest = found.history["loss"].nan_to_num(torch.inf).amin((0, 1))
    assert (found.value > luckiest).all()


def test_a_randomised_generator_is_not_the_optimisers_fault():
    torch.manual_seed(0)
    with pytest.warns(NetworkWarning):
        found = lo.diagnose(emitting(noise), rand(2, 1, 4, 4), **QUICK)
    assert (found.verdict, found.recovered) == ("generator", 0.0)
    assert "fix its noise" in str(found)
    with pytest.warns(NetworkWarning):
        found = lo.diagnose(emitting(noise), tolerance=10.0, **QUICK)
    assert (found.verdict, found.recovered) == ("neither", 1.0)


def test_maximize_and_attack_say_it_in_the_same_words():
    torch.manual_seed(0)
    network = mlp(3, 8, 2, dtype=torch.float32)
    settings: dict[str, Any] = {"low": -1.0, "high": 1.0, "shape": (3,), "steps": 30}
    drawn = lambda x: network(x) + 0.3 * torch.randn(len(x), 2)  # noqa: E731
    assert said(lambda: lo.maximize(drawn, **settings)) == ["network: " + DRAWN.format("outputs")]
    assert said(lambda: lo.maximize(network, **settings)) == []
    with pytest.warns() as caught:
        lo.attack(drawn, rand(4, 3).float(), torch.zeros(4).long(), 0.1, optimizer="pgd", steps=5)
    advice = "; attack its mean over fixed draws, as the guide shows"
    assert [str(warning.message) for warning in caught] == ["model: " + DRAWN.format("logits") + advice]


@pytest.mark.parametrize(
    ("dtype", "method"),
    [
        *[
            (dtype, method)
            for dtype in (torch.float32, torch.float64)
            for method in ("lbfgs", "adam", "adr-gd", "cma-es")
        ],
        (torch.bfloat16, "adam"),
    ],
)
def test_rounding_is_not_taken_for_random_numbers(dtype, method):
    for steps in (2, 60):
        generator = emitting(torch.sigmoid).to(dtype)
        target = generator(generator.latents(5, 1)).detach()
        assert said(lambda: solve(Reconstruction(generator, target), method, steps=steps, restarts=3)) == []  # noqa: B023


def test_a_model_with_a_sound_range_passes_the_command_silently(tmp_path, capsys):
    np.save(tmp_path / "a.npy", rand(2, 4, 4).numpy())
    named = ["--model", write_model(tmp_path / "model"), "--targets", tmp_path / "a.npy", "--device", "cpu"]
    assert call(capsys, "diagnose", *named, "--steps", 2, "--restarts", 1).err == ""


class Layer(nn.Module):
    """Adds noise, as a layer of a generator does."""

    def forward(self, x: Tensor, noise_mode: str = "random") -> Tensor:
        return x + torch.randn_like(x) if noise_mode == "random" else x


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.noise1 = mlp(5, 12, 16, seed=0), Layer()

    def forward(self, z: Tensor) -> Tensor:
        return self.noise1(self.first(z)).unflatten(1, (1, 4, 4))


class Above(Layer):
    def forward(self, x: Tensor, noise_mode: str = "random") -> Tensor:
        return super().forward(x, noise_mode)[:, None, None]


def by_numpy(z: Tensor) -> Tensor:
    return z[:, None, None] + np.random.default_rng().normal()


NOISY: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a layer's": (Inside(), " It calls randn_like in noise1 (Layer); fix it in the module"),
    "a forward's": (Above(), " It calls randn_like; fix it by generator.given(noise_mode=...)"),
    "a function's": (
        lambda z: F.dropout(z, 0.5)[:, None, None] + torch.rand(1, device=z.device),
        " It calls dropout and 1 more; fix it in the module",
    ),
    "of another library": (by_numpy, ""),
}


@pytest.mark.parametrize("case", NOISY)
def test_the_noise_is_named(case):
    network, where = NOISY[case]
    generator = Generator(network, latent_shape=(5,))
    (words,) = said(generator.is_deterministic)
    advice = f"{where}, or make the noise a latent." if where else ""
    assert words == f"generator: {DRAWN.format('images')}{advice}"
    if case == "a forward's":
        assert generator.given(noise_mode="const").is_deterministic()
    assert not [layer for layer in generator.modules() if layer._forward_hooks or layer._forward_pre_hooks]
