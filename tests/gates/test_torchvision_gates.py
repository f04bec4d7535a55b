"""Gates of networks as others build them: torchvision's classifiers, and the decoders that are shipped."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
import torchvision.models
from nets import fitting, pattern, plain_gradient, randn, refill, switched
from torch import Tensor, nn

import latentopt as lo
from latentopt.gates import dual, sites
from latentopt.zoo import cards
from latentopt.zoo.architectures import MLP, ConvDiscriminator, ConvGenerator

CLASSIFIERS = [
    ("resnet18", 17, 17),
    pytest.param("wide_resnet50_2", 49, 49, marks=pytest.mark.slow),
    pytest.param("vgg19", 18, 18, marks=pytest.mark.slow),
    ("densenet121", 121, 121),
    ("squeezenet1_1", 26, 26),
    pytest.param("mobilenet_v2", 35, 70, marks=pytest.mark.slow),  # ReLU6 has two switches
]


def classifier(name: str) -> nn.Module:
    """In eval mode and float64, with random weights and running statistics."""
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
    return refill(network.to_empty(device="cpu"), seed=1)


def left(network: nn.Module) -> list[object]:
    """What must not change: weights (by place and count of changes in place), gradients, modes, hooks."""
    tensors = [(t.data_ptr(), t._version, t.requires_grad, t.grad) for t in network.parameters()]
    modes = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    return [tensors, [(t.data_ptr(), t._version) for t in network.buffers()], modes]


def close(actual: Tensor, expected: Tensor) -> None:
    """To 1e-10 of the largest entry."""
    assert expected.abs().max() > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def reproduces(network: nn.Module, x: Tensor, switches: int, layers: Collection[int] | None = None) -> None:
    """The true pattern gives the network and its gradient."""
    gates = pattern(network, x, layers)
    assert len(gates) == switches
    leaf, expected = x.clone().requires_grad_(), network(x).detach()
    both = dual(network, leaf, switched(gates), layers)
    close(both.real, expected)
    close(both.gated, expected)
    close(torch.autograd.grad(both.gated.square().sum() / 2, leaf)[0], plain_gradient(network, x))


@pytest.mark.parametrize(("name", "count", "switches"), CLASSIFIERS)
def test_torchvisions_classifiers_are_driven_untouched(name, count, switches):
    network, x = classifier(name), randn(2, 3, 32, 32)
    before = left(network)
    assert len(sites(network, x)) == count
    reproduces(network, x, switches)
    reproduces(network, x, 3 * switches // count, range(count - 3, count))
    assert left(network) == before


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "squeezenet1_1"])
def test_a_fork_anywhere_in_a_classifier_gives_what_two_whole_passes_give(name):
    """Skip connections, concatenations and ReLUs in place at the fork, with gates that are not the pattern."""
    network, x = classifier(name), randn(2, 3, 32, 32)
    gates = [0.5 + pattern / 2 for pattern in pattern(network, x)]
    count = len(gates)
    for first in range(1, count, 1 + count // 8):

        def late(index: int, z: Tensor, first=first) -> Tensor:
            return z.relu() if index < first else switched(gates)(index, z)

        with torch.no_grad():
            whole = dual(network, x, late)
            forked = dual(network, x, switched(gates[first:]), range(first, count))
        close(forked.real, whole.real)
        close(forked.gated, whole.gated)


DECODERS = {
    "vae": (MLP((6, 16, 16, 20), (1, 4, 5), sigmoid=True), (6,), 2),
    "dcgan": (ConvGenerator(8, (12, 6)), (8,), 2),
    "discriminator": (ConvDiscriminator((4, 6)), (1, 28, 28), 2),
    "dcgan of 64 pixels, in place": (
        nn.Sequential(
            *(nn.ConvTranspose2d(8, 12, 4, bias=False), nn.BatchNorm2d(12), nn.ReLU(True)),
            *(nn.ConvTranspose2d(12, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(0.2, True)),
            *(nn.ConvTranspose2d(6, 3, 4, 2, 1, bias=False), nn.Tanh()),
        ),
        (8, 1, 1),
        2,
    ),
}


@pytest.mark.parametrize(("network", "shape", "count"), DECODERS.values(), ids=DECODERS)
def test_decoders_are_driven_untouched(network, shape, count):
    refill(network, seed=2)
    for layers in (None, [count - 1]):
        reproduces(network, randn(3, *shape), count if layers is None else 1, layers)


@pytest.mark.parametrize("name", ["mnist-vae", "mnist-dcgan"])
def test_shipped_models_are_driven_untouched(name):
    generator = cards.load_generator(name)
    generator.to(torch.float64)
    z, before = randn(3, *generator.latent_shape), left(generator)
    found = sites(generator, z)
    assert [site.kind for site in found] == ["relu"] * 2
    reproduces(generator, z, 2)
    reproduces(generator, z, 1, [1])
    problem = fitting(generator, generator.latent_shape, generator(randn(2, *generator.latent_shape, seed=3)).detach())
    for method in (lo.ADRGD(), lo.ADRGD.paper(beta0=1e-3, a_beta=0), lo.ADRGD.reference(scale="norm")):
        result = lo.solve(problem, method, steps=4)
        close(result.output, generator(result.x).detach())
        assert (result.value < result.history["loss"][0, 0]).all()
    assert left(generator) == before
