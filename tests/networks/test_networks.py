from __future__ import annotations

import pytest
import torch
from nets import conv, mlp, near, randn, refuses
from torch import nn

from latentopt.networks.checks import empty_like_parameters, output_shape
from latentopt.networks.classifier import Classifier
from latentopt.networks.freezing import frozen, require_eval
from latentopt.networks.generator import Generator


def images(bias: float = 0.0) -> nn.Module:
    """(B, 3) to images (B, 1, 2, 2)."""
    return nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2)))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0), (0.0, 1.0), (-3, 5)])
def test_a_generator_maps_its_output_range_to_zero_one(low, high):
    generator = Generator(nn.Identity(), latent_shape=(1, 1, 3), output_range=(low, high))
    z = torch.tensor([low, high, (low + high) / 2]).reshape(1, 1, 1, 3)
    near(generator(z).flatten(), torch.tensor([0.0, 1.0, 0.5]), 1e-7)


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        (Generator, "output_range", {"latent_shape": (3,), "output_range": (1.0, 1.0)}),
        (Generator, "output_range", {"latent_shape": (3,), "output_range": (0.0, float("nan"))}),
        (Generator, "start_scale", {"latent_shape": (3,), "start_scale": 0.0}),
        (Generator, "latent_shape", {"latent_shape": (3, 0)}),
        (Generator, "latent_shape", {"latent_shape": (2.5,)}),
        (Classifier, "input_range", {"input_range": (1.0, 0.0)}),
        (Classifier, "mean", {"mean": float("nan")}),
        (Classifier, "mean", {"mean": [[0.0]]}),
        (Classifier, "std", {"std": 0.0}),
        (Classifier, "std", {"std": (1.0, -1.0)}),
        (Classifier, "std", {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0)}),
        (Classifier, "input_shape", {"input_shape": (3, 0)}),
    ],
)
def test_wrong_settings_are_refused(kind, name, settings):
    with refuses(name):
        kind(images(), **settings)


def test_the_output_shape_is_that_of_one_image_and_wrong_latents_are_refused():
    generator = Generator(images(), latent_shape=(3,))
    assert generator.output_shape() == (1, 2, 2)
    for shape in [(2, 4), (3,), (2, 3, 1)]:
        with refuses("latents"):
            generator(torch.zeros(shape))
    with refuses("latent_shape"):
        Generator(images(), latent_shape=(4,)).output_shape()


def test_latents_are_standard_normal_in_the_generators_dtype_and_repeat_with_their_seed():
    generator = Generator(mlp(64, 8), latent_shape=(64,))
    z = generator.latents(500, seed=0)
    assert z.dtype == torch.float64
    assert z.shape == (500, 64)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(generator.latents(500, seed=0), z)
    assert not torch.equal(generator.latents(500, seed=1), z)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4)])
def test_a_classifier_normalises_by_channel(shape):
    x = randn(5, *shape)
    logits = Classifier(nn.Flatten().double(), mean=(0.2, -0.5), std=(0.5, 2.0))(x)
    near(logits[:, : logits.shape[1] // 2], (x[:, 0].reshape(5, -1) - 0.2) / 0.5, 1e-6)
    near(logits[:, logits.shape[1] // 2 :], (x[:, 1].reshape(5, -1) + 0.5) / 2, 1e-6)
    near(Classifier(nn.Flatten(), mean=1.0, std=4.0)(x), (x.reshape(5, -1) - 1) / 4, 1e-12)


def test_like_is_empty_in_the_dtype_of_the_first_floating_tensor():
    counter = nn.Module()
    counter.register_buffer("steps", torch.zeros(1, dtype=torch.long))
    assert empty_like_parameters(nn.Sequential(counter, nn.Linear(2, 2).double())).dtype == torch.float64
    assert empty_like_parameters(counter).dtype == torch.float32
    assert empty_like_parameters(nn.Linear(2, 2)).numel() == 0


def mixed() -> nn.Sequential:
    """Some modules in training mode, some not; some parameters frozen, some not."""
    network = conv()
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    return network


def flags(network: nn.Module) -> list[bool]:
    return [m.training for m in network.modules()] + [p.requires_grad for p in network.parameters()]


@pytest.mark.parametrize("fails", [False, True])
def test_frozen_is_eval_without_gradients_and_ends_as_it_began(fails):
    network, x = mixed(), randn(4, 1, 5, 5)
    before, statistics = flags(network), [b.clone() for b in network.buffers()]
    try:
        with frozen(network):
            assert not any(flags(network))
            network(x)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert flags(network) == before
    assert True in before
    assert False in before
    assert all(torch.equal(b, s) for b, s in zip(network.buffers(), statistics, strict=True))


@pytest.mark.parametrize("x", [torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, 3, 2)])
def test_an_output_shape_is_found_or_the_argument_is_named(x):
    network = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)))
    assert output_shape(network, torch.zeros(1, 3), "shape") == (2, 2)
    assert network.training
    with refuses("shape"):
        output_shape(network, x, "shape")


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), nn.LazyBatchNorm1d()]
)
def test_batch_norm_must_be_in_eval_mode(layer):
    network = nn.Sequential(nn.ReLU(), nn.Sequential(layer)).train()
    with refuses("network", "1.0 (BatchNorm)"):
        require_eval(network)
    network.eval()
    require_eval(network)
    layer.train()  # one alone
    with refuses("network", ".eval()"):
        require_eval(network)
    with refuses("network", "running statistics"):
        require_eval(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)).eval())


def test_other_layers_may_be_in_any_mode_and_functions_are_let_pass():
    require_eval(nn.Sequential(nn.Dropout(), nn.InstanceNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3)).train())
    require_eval(torch.relu)
    with frozen(torch.relu):
        assert torch.relu(torch.tensor(-1.0)) == 0
