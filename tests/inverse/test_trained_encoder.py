"""Encoders trained on a generator's own samples: the training, its file, and the start that it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from files import call
from nets import mlp, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, NetworkWarning
from latentopt.inverse.initializers import Encoder, Regression, default_initializer
from latentopt.inverse.initializers.trained_encoder import ConvEncoder, TrainedEncoder, take_probe
from latentopt.jobs.encoder_training import EncoderTraining
from latentopt.jobs.train_encoder import TrainEncoderSettings, prepare, train_encoder
from latentopt.operators import Downsample, Hole, Identity, Mask
from latentopt.zoo import cards
from latentopt.zoo.architectures import MLP
from latentopt.zoo.cards import load_generator

LATENTS = 3
SIZES: dict[str, Any] = {"sizes": [LATENTS, 64], "shape": [1, 8, 8]}


def write_model(folder: Path, seed: int = 0) -> Path:
    """Write a linear generator of 8 x 8 images with its card."""
    torch.manual_seed(seed)
    card = cards.GeneratorCard(
        name="linear",
        summary="a test",
        architecture={"generator": {"class_path": "latentopt.zoo.architectures.MLP", "init_args": SIZES}},
        latent_shape=[LATENTS],
        output_range=(-6.0, 6.0),
        start_scale=1.0,
    )
    cards.save_model(folder, card, {"generator": MLP(**SIZES).eval()})
    return folder


SMALL = {"epochs": 2, "batches": 40, "batch_size": 32, "width": 4, "hidden": 32, "lr": 0.01, "device": "cpu"}


def trained(folder: Path, **settings) -> Path:
    changed = {**SMALL, "wandb": "disabled", "log": str(folder / "log"), **settings}
    return train_encoder(model=str(folder), **changed)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model with an encoder beside its card."""
    folder = write_model(tmp_path_factory.mktemp("linear"))
    assert trained(folder) == folder / "encoder.safetensors"
    return folder


def test_a_trained_encoder_finds_the_latents_of_samples_and_is_the_default_start(model):
    generator = load_generator(model)
    z = generator.latents(64, 5)
    images = generator(z).detach().clamp(0, 1)
    problem = lo.Reconstruction(generator, images)
    start = default_initializer(generator, Identity())
    assert start == Encoder()
    fitted = start.fit(generator, Identity(), 0)
    found = fitted(problem, 3, 1)
    assert (found[0] - z).square().mean() < 0.1
    assert 0.1 < (found[1:] - found[0]).std() < 0.5
    one = fitted(problem.take(torch.tensor([7])), 3, 1)
    torch.testing.assert_close(found[:, 7:8], one)
    solved = lo.reconstruct(generator, images, steps=1, restarts=2)
    named = lo.reconstruct(generator, images, steps=1, restarts=2, start="encoder")
    assert torch.equal(solved.x, named.x)
    assert int(solved.forwards.sum()) == fitted.forwards + 64 * 5  # 4 of the fit, 2 restarts and what closes them


def test_the_default_start_is_regression_for_another_operator_and_without_an_encoder(model):
    generator = load_generator(model)
    for operator in (Downsample(2), Hole(4), Mask(torch.ones(8, 8))):
        with pytest.warns(NetworkWarning, match=rf"for the operator Identity\(\), not {type(operator).__name__}"):
            assert default_initializer(load_generator(model), operator) == Regression()
    other = Generator(generator.module, latent_shape=LATENTS, output_range=(-6, 6))
    assert default_initializer(other, Identity()) == Regression()
    other.trained_encoder = model / "encoder.safetensors"
    assert default_initializer(other, Identity()) == Encoder()
    assert default_initializer(other.fused().double(), Identity()) == Encoder()
    other.module.layers[1].weight.data.mul_(1.1)
    with pytest.warns(NetworkWarning, match="for other weights or other conditions"):
        assert default_initializer(other.fused(), Identity()) == Regression()
    assert default_initializer(other, Identity()) == Regression()  # and is silent from now on
    images = other(other.latents(2, 3)).detach()
    default, regression = (lo.reconstruct(other, images, steps=2, start=start) for start in ("auto", "regression"))
    assert torch.equal(default.x, regression.x)
    with refuses(str(model / "encoder.safetensors"), "these weights"):
        lo.reconstruct(other, images, start=Encoder(path=model / "encoder.safetensors"))


def test_a_file_is_read_as_it_was_written_and_others_are_refused(model, tmp_path):
    encoder, path = TrainedEncoder.load(model / "encoder.safetensors"), tmp_path / "again.safetensors"
    encoder.save(path)
    again, images = TrainedEncoder.load(path), torch.rand(3, 1, 8, 8)
    assert torch.equal(encoder(images), again(images))
    assert again.about == encoder.about
    assert again.about["model_sha256"] == cards.read_card(model).weights_sha256
    with refuses(str(model / "weights.safetensors"), "train-encoder"):
        TrainedEncoder.load(model / "weights.safetensors")
    broken = replace(encoder, about={**encoder.about, "network": {**encoder.about["network"], "hidden": 7}})
    broken.save(path)
    with refuses(str(path), "whole file"):
        TrainedEncoder.load(path)


def test_an_encoder_learns_from_measurements_and_a_stopped_training_ends_alike(tmp_path, monkeypatch):
    folder, operator = write_model(tmp_path / "model"), {"class_path": "downsample", "init_args": {"factor": 2}}
    settings = {"operator": operator, "noise": 0.01, "epochs": 3, "batches": 4, "out": str(tmp_path / "a.safetensors")}
    whole = trained(folder, **settings)
    step, count = EncoderTraining.training_step, [0]

    def stopped(self, *args):
        count[0] += 1
        if count[0] == 6:
            raise KeyboardInterrupt
        return step(self, *args)

    settings["out"] = str(tmp_path / "b.safetensors")
    monkeypatch.setattr(EncoderTraining, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, **settings)
    monkeypatch.undo()
    one, other = TrainedEncoder.load(whole), TrainedEncoder.load(trained(folder, **settings))
    assert one.network.shape == (1, 4, 4)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    generator = load_generator(folder)
    assert Encoder(path=whole).fit(generator, Downsample(2), 0).forwards == 4
    with refuses(str(whole), "Downsample"):
        Encoder(path=whole).fit(generator, Identity(), 0)


@pytest.mark.parametrize(
    ("shape", "latent_shape"),
    [((1, 28, 28), (20,)), ((3, 33, 17), (5, 1, 1)), ((40,), (7,)), ((2, 30), (2, 3)), ((3, 32, 64), (6, 4, 8))],
)
def test_an_encoder_fits_any_shapes(shape, latent_shape):
    network = ConvEncoder(shape, latent_shape, width=4, hidden=8).eval()
    x = torch.rand(2, *shape)
    assert network(x).shape == (2, *latent_shape)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))


def test_a_probe_tells_conditions_apart():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(LATENTS, 16, dtype=torch.float32)

        def forward(self, z: Tensor, factor: float = 1.0) -> Tensor:
            return factor * self.body(z).unflatten(1, (1, 4, 4))

    generator = Generator(Scaled(), latent_shape=LATENTS)
    probe = take_probe(generator, Identity())
    assert probe.matches(generator.given(factor=1.0), Identity())
    assert not probe.matches(generator.given(factor=0.7), Identity())
    assert not probe.matches(Generator(mlp(2, 16, dtype=torch.float32), latent_shape=2), Identity())


def test_what_cannot_be_trained_is_said_before_anything_is_written(model, tmp_path):
    with refuses("out", "NAME.safetensors"):
        prepare(TrainEncoderSettings(model="mnist-vae"))
    with refuses("out", "a new file"):
        prepare(TrainEncoderSettings(model=str(model)))
    with refuses("out", "NAME.safetensors"):
        prepare(TrainEncoderSettings(model=str(model), out=str(tmp_path / "encoder.pt")))
    if Path("/proc/self").is_dir():
        with refuses("out", "can be written"):
            prepare(TrainEncoderSettings(model="mnist-vae", out="/proc/encoder.safetensors"))
        with refuses("log", "can be written"):
            prepare(TrainEncoderSettings(model="mnist-vae", out=str(tmp_path / "e.safetensors"), log="/proc/self/log"))
    with refuses("batch_size"):
        prepare(TrainEncoderSettings(model="mnist-vae", batch_size=1, out=str(tmp_path / "e.safetensors")))
    with refuses("model", "classifier"):
        prepare(TrainEncoderSettings(model="mnist-cnn", out=str(tmp_path / "e.safetensors")))
    with refuses("operator", "for all images"):
        out, log = str(tmp_path / "e.safetensors"), str(tmp_path / "log")
        train_encoder(model=str(model), out=out, log=log, operator=Mask(torch.ones(8, 8)), wandb="disabled")
    assert not list(tmp_path.iterdir())


def test_the_job_reconstructs_from_the_encoder_beside_the_card(model, tmp_path, capsys):
    with torch.no_grad():
        images = load_generator(model)(load_generator(model).latents(3, 4))
    torch.save(images, tmp_path / "images.pt")
    words = ["reconstruct", "--model", model, "--targets", tmp_path / "images.pt", "--wandb", "disabled"]
    words += ["--steps", 2, "--restarts", 1, "--out", tmp_path / "out"]
    assert call(capsys, *words).code == 0
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["start"]["class_path"] == "latentopt.inverse.initializers.Encoder"
    assert call(capsys, *words).code == 0  # shows the same again
