from __future__ import annotations

import pytest
import torch
from nets import near, randn, refill, refuses
from torch import nn

import latentopt as lo
from latentopt.gates import count_sites, soft_backward
from latentopt.networks.checkpointing import checkpointed
from latentopt.networks.memory import available_memory, saved_bytes
from latentopt.networks.scaling import GradientScaling
from latentopt.networks.tiles import Tiled
from latentopt.zoo.cards import load_generator
from latentopt.zoo.tiny_autoencoders import TinyDecoder


@pytest.fixture(scope="module")
def decoder() -> nn.Module:
    return refill(TinyDecoder(3, (4, 4), (1, 1), group_norm=True), 0).requires_grad_(False)


def _gradient(network, z, tau=None):
    z = z.clone().requires_grad_()
    if tau is None:
        output = network(z)
    else:
        with soft_backward(tau, len(z)):
            output = network(z)
    return output.detach(), torch.autograd.grad(output.square().sum(), z)[0]


@pytest.mark.parametrize("tau", [None, 0.3])
def test_checkpointed_blocks_give_the_same_images_and_gradients_with_gates_too(decoder, tau):
    z = randn(2, 3, 5, 4)
    copied = checkpointed(decoder)
    for ours, expected in zip(_gradient(copied, z, tau), _gradient(decoder, z, tau), strict=True):
        assert torch.equal(ours, expected)
    assert count_sites(copied, z) == count_sites(decoder, z)
    assert all(a is b for a, b in zip(copied.parameters(), decoder.parameters(), strict=True))


def test_tiles_give_the_same_images_and_gradients_as_the_whole(decoder):
    generator = lo.Generator(decoder, latent_shape=(3, 26, 33), output_range=(-9, 9))
    tiled = generator.economical(tile=28)
    assert isinstance(tiled.module, Tiled)
    assert 0 < tiled.module.core < 13
    z = randn(2, 3, 26, 33)
    for ours, expected in zip(_gradient(tiled, z), _gradient(generator, z), strict=True):
        near(ours, expected, 1e-12)


def test_a_tile_is_larger_than_the_receptive_field_which_is_less_than_the_whole_image(decoder):
    generator = lo.Generator(decoder, latent_shape=(3, 26, 33), output_range=(-9, 9))
    with refuses("tile", "receptive field"):
        generator.economical(tile=8)
    normalised = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(1, 4), nn.Conv2d(4, 3, 1)).double()
    normalised.any_size = True  # pyright: ignore[reportArgumentType]
    with refuses("tile", "group norm"):
        lo.Generator(normalised, latent_shape=(3, 9, 9), output_range=(-9, 9)).economical(tile=9)
    with refuses("tile", "one size"):
        load_generator("mnist-vae").economical(tile=9)


def test_the_network_alone_runs_in_lower_precision():
    generator = lo.load("mnist-vae")
    assert isinstance(generator, lo.Generator)
    lower = generator.economical(precision="bfloat16")
    z = generator.latents(2, seed=0)
    (image, grad), (expected, slope) = _gradient(lower, z), _gradient(generator, z)
    assert image.dtype == grad.dtype == torch.float32
    assert 0 < (image - expected).abs().max() < 0.05
    assert (grad - slope).norm() < 0.1 * slope.norm()
    found = lo.reconstruct(lower, expected, start=z + 0.1, restarts=1, steps=20)
    assert found.x.dtype == torch.float32
    assert lower.economical(precision="float32").precision is None
    with refuses("precision", "on the CPU"):
        generator.economical(precision="float16")


def test_small_gradients_pass_through_half_precision():
    x, weight = randn(3, 4, dtype=torch.float32).requires_grad_(), 1e-9 * torch.tensor([[1.0], [1e-3], [0.0]])
    plain = torch.autograd.grad(((2 * x.half()).float() * weight).sum(), x)[0]
    assert not plain.any()
    scaling = GradientScaling()
    output = scaling.last((2 * scaling.first(x.clone()).half()).float())
    (grad,) = torch.autograd.grad((output * weight).sum(), x)
    torch.testing.assert_close(grad, (2 * weight).expand(3, 4), rtol=1e-3, atol=0)


def test_the_bytes_that_a_forward_saves_are_counted():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).requires_grad_(False)
    x = torch.zeros(5, 4, requires_grad=True)
    with saved_bytes(network) as saved:
        network(x)
    assert (saved.total, saved.largest) == (5 * 8 * 4, 5 * 8 * 4)  # the output of the ReLU


def test_rows_are_evaluated_so_many_at_once_as_fit(monkeypatch):
    generator = lo.load("mnist-vae")
    assert isinstance(generator, lo.Generator)
    target = generator(generator.latents(3, seed=1))
    settings = {"start": "random", "restarts": 2, "steps": 6}
    whole = [lo.reconstruct(generator, target, optimizer=name, **settings) for name in ("adam", "adr-gd-soft")]
    generator.output_shape()
    monkeypatch.setenv("LATENTOPT_MEMORY", str(int(2.5 * generator.row_bytes[0] / 0.8)))
    assert generator.within_memory().rows_at_once == 2
    largest = []
    generator.module.register_forward_hook(lambda module, inputs, output: largest.append(len(output)))
    for name, expected in zip(("adam", "adr-gd-soft"), whole, strict=True):
        largest.clear()
        found = lo.reconstruct(generator, target, optimizer=name, fast=False, **settings)
        near(found.value, expected.value, 1e-5)
        assert torch.equal(found.forwards, expected.forwards)
        assert max(largest) <= 3  # of the checks


def test_too_little_memory_is_told_before_work_begins(monkeypatch, decoder):
    generator = lo.Generator(decoder, latent_shape=(3, 400, 400), output_range=(-9, 9))
    generator.output_shape()
    monkeypatch.setenv("LATENTOPT_MEMORY", f"{generator.row_bytes[0] / 2e6:.6f} MB")
    tiled = generator.within_memory()
    assert tiled.module is not generator.module
    assert tiled.row_bytes[0] <= generator.row_bytes[0] / 2
    monkeypatch.setenv("LATENTOPT_MEMORY", "1KB")
    with refuses("memory", "one image of shape (3, 800, 800)"):
        generator.within_memory()
    with refuses("memory"):
        lo.reconstruct(load_generator("mnist-vae"), torch.rand(1, 1, 28, 28))
    monkeypatch.setenv("LATENTOPT_MEMORY", "much")
    with refuses("LATENTOPT_MEMORY", "such as 6GB"):
        available_memory(torch.device("cpu"))
    monkeypatch.delenv("LATENTOPT_MEMORY")
    assert available_memory(torch.device("mps")) is None
