from __future__ import annotations

import pytest
import torch
from nets import near, rand, refuses

from latentopt.operators import Compose, Crop, Downsample, Hole, Identity, Mask


def test_noise_has_the_deviation_asked():
    measurement = rand(20, 3, 50, 50)
    noise = Identity().add_noise(measurement, 0.3, seed=0) - measurement
    near(noise.std() / 0.3, torch.tensor(1.0, dtype=torch.float64), 0.01)
    near(noise.mean(), torch.tensor(0.0, dtype=torch.float64), 0.3 * 4 / noise.numel() ** 0.5)


@pytest.mark.parametrize("operator", [Identity(), Downsample(2), Hole(3), Mask(rand(9, 9) > 0.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_batch_gets_the_noise_of_its_samples_alone(operator, dtype):
    measurement = rand(4, 2, 9, 9, dtype=torch.float32).to(dtype)
    noisy = operator.add_noise(measurement, 0.1, seed=3)
    assert noisy.dtype == dtype
    alone = [operator.add_noise(measurement[i : i + 1], 0.1, seed=3) for i in (2, 0)]
    assert torch.equal(noisy[[2, 0]], torch.cat(alone))


def test_samples_and_seeds_differ_in_their_noise():
    measurement = rand(2, 5)
    one, other, again, composed = (
        operator.add_noise(measurement, 1.0, seed) - measurement
        for operator, seed in ((Identity(), 0), (Identity(), 1), (Identity(), 0), (Compose([]), 0))
    )
    assert not torch.isclose(one, other).any()
    assert not torch.isclose(one[0], one[1]).any()
    assert torch.equal(one, again)
    assert torch.equal(one, composed)
    assert torch.equal(Identity().add_noise(measurement, 0, seed=0), measurement)


@pytest.mark.parametrize("operator", [Hole(3), Mask(torch.tensor([0.0, 1, 0.5, 0, 1, 1, 1])), Mask(rand(7, 7) > 0.5)])
@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: Compose([Crop(7), Compose([it])])])
def test_noise_does_not_leak_into_what_is_hidden(operator, wrap):
    hidden = operator(torch.ones(1, 1, 7, 7)) == 0
    image = rand(3, 1, 7, 7)
    measurement = wrap(operator)(image)
    noisy = wrap(operator).add_noise(measurement, 0.2, seed=0)
    assert hidden.any()
    assert (noisy[hidden.expand(noisy.shape)] == 0).all()
    seen = ~hidden.expand(noisy.shape)
    assert torch.equal(noisy[seen], Identity().add_noise(measurement, 0.2, seed=0)[seen])


@pytest.mark.parametrize(
    ("name", "measurement", "sigma", "seed"),
    [
        ("sigma", rand(1, 2), -0.1, 0),
        ("sigma", rand(1, 2), float("nan"), 0),
        ("seed", rand(1, 2), 0.1, -1),
        ("seed", rand(1, 2), 0.1, 0.5),
        ("measurement", torch.ones(1, 2, dtype=torch.long), 0.1, 0),
    ],
)
def test_noise_that_makes_no_sense_is_refused(name, measurement, sigma, seed):
    with refuses(name):
        Identity().add_noise(measurement, sigma, seed)
