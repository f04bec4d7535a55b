from __future__ import annotations

import pytest
import torch
from files import parts
from nets import near, randn, refill
from torch import nn

from latentopt.gates import preactivations
from latentopt.zoo.architectures import MLP, ConvDiscriminator, ConvGenerator


def test_an_mlp_is_its_layers_in_turn():
    network = refill(MLP([3, 5, 4, 6], shape=[1, 2, 3]), seed=0)
    x = randn(7, 3)
    first, second, third = parts(network, nn.Linear)
    expected = third(second(first(x).relu()).relu())
    near(network(x), expected.reshape(7, 1, 2, 3), 1e-14)


def test_an_mlp_flattens_its_input_and_squashes_where_asked():
    network = refill(MLP([6, 4, 2], sigmoid=True), seed=1)
    x = randn(5, 1, 2, 3)
    first, second = parts(network, nn.Linear)
    near(network(x), torch.sigmoid(second(first(x.flatten(1)).relu())), 1e-14)
    assert network(x).shape == (5, 2)


@pytest.mark.parametrize("channels", [(8, 4), (3, 5)])
def test_the_generator_makes_images_of_28_by_28_in_range(channels):
    network = refill(ConvGenerator(6, channels), seed=0)
    images = network(randn(4, 6))
    assert images.shape == (4, 1, 28, 28)
    assert images.abs().max() < 1
    wide, narrow = channels
    shapes = [tuple(site.shape) for site in preactivations(network, randn(4, 6))]
    assert shapes == [(4, wide, 7, 7), (4, narrow, 14, 14)]


def test_the_generator_is_transposed_convolutions_with_batch_norm():
    network = refill(ConvGenerator(6, (8, 4)), seed=0)
    x = randn(2, 6)
    first, second, last = parts(network, nn.ConvTranspose2d)
    one, two = parts(network, nn.BatchNorm2d)
    expected = last(two(second(one(first(x[:, :, None, None])).relu())).relu()).tanh()
    near(network(x), expected, 1e-14)


def test_the_discriminator_gives_one_logit_an_image():
    network = refill(ConvDiscriminator((3, 5)), seed=0)
    x = randn(4, 1, 28, 28)
    logits = network(x)
    assert logits.shape == (4,)
    first, second = parts(network, nn.Conv2d)
    (norm,), (last,) = parts(network, nn.BatchNorm2d), parts(network, nn.Linear)
    leaky = nn.LeakyReLU(0.2)
    near(logits, last(leaky(norm(second(leaky(first(x))))).flatten(1))[:, 0], 1e-13)
