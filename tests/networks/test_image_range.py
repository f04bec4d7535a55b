"""Images and measurements outside [0, 1]: where a generator makes them, or noise does, they are as good as others."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from files import call, table, write_model
from nets import near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, Reconstruction
from latentopt.metrics import mse, psnr, ssim
from latentopt.operators import Bicubic, Blur, Downsample, Gaussian, Hole, Identity, Mask
from latentopt.zoo import cards


def linear_at_the_end(scale: float = 1.7) -> Generator:
    """Images (B, 1, 8, 8) of which some 13 % of the values are outside [0, 1]."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(scale)
    return Generator(layers.eval(), latent_shape=(6,), output_range=(-1, 1))


def share_outside(images: Tensor) -> float:
    return ((images < 0) | (images > 1)).double().mean().item()


def squashed() -> Generator:
    layers = nn.Sequential(nn.Linear(3, 784), nn.Unflatten(1, (1, 28, 28)), nn.Sigmoid())
    torch.manual_seed(0)
    return Generator(layers.eval(), latent_shape=(3,))


def test_own_images_outside_zero_one_are_found_again_and_are_targets():
    for tolerance in (1e-4, 1e-9):
        found = lo.diagnose(linear_at_the_end(), tolerance=tolerance)
        assert share_outside(found.images) > 0.1
        assert (found.verdict, found.recovered) == ("neither", 1.0)
    generator = linear_at_the_end()
    images = generator(generator.latents(16, seed=0)).detach()
    assert share_outside(images) > 0.1
    found = lo.reconstruct(generator, images)
    assert found.value.max() < 1e-12
    near(found.output, images, 1e-5)
    assert torch.equal(Reconstruction(generator, images).measurement, images)


@pytest.mark.parametrize(
    ("make", "image", "words"),
    [
        (linear_at_the_end, 255 * rand(4, 1, 8, 8), "output_range is mapped, or in ["),
        (linear_at_the_end, 128 * rand(4, 1, 8, 8) - 64, "output_range is mapped, or in ["),
        (linear_at_the_end, 8 * rand(4, 1, 8, 8), "output_range is mapped, or in ["),
        (squashed, 2 * rand(4, 1, 28, 28) - 1, "in [0, 1], to which a generator's output_range is mapped, got"),
        (squashed, 1.01 * torch.ones(1, 1, 28, 28), "in [0, 1], to which a generator's output_range is mapped, got"),
    ],
)
def test_images_outside_what_the_generator_makes_are_refused(make, image, words):
    with refuses("target", words):
        Reconstruction(make(), image)


def test_conditions_are_looked_at_in_turn():
    class Lifted(nn.Module):
        def forward(self, z: Tensor, by: Tensor) -> Tensor:
            return z.sigmoid()[:, None, None] + by[:, None, None, None]

    generator = Generator(Lifted(), latent_shape=(4,))
    images, by = torch.full((2, 1, 1, 4), 3.5), torch.tensor([0.0, 3.0])
    with refuses("target"):
        Reconstruction(generator.given(by=by[:1]), images)
    assert Reconstruction(generator.given(by=by), images).image is not None
    with refuses("target"):
        Reconstruction(generator.given(by=by).take(torch.tensor([0])), images[:1])


def test_a_model_that_leaves_zero_one_goes_through_the_commands(tmp_path, capsys):
    folder = write_model(tmp_path / "model", output_range=[-0.2, 0.2])
    generator = cards.load_generator(folder)
    images = generator(generator.latents(3, seed=1))
    assert share_outside(images) > 0.2
    np.save(tmp_path / "own.npy", images.numpy())
    named = ["--model", folder, "--targets", tmp_path / "own.npy", "--device", "cpu", "--restarts", 4]
    said = call(capsys, "diagnose", *named, "--out", tmp_path / "d")
    assert (said.code, said.err) == (0, "")
    figures = json.loads((tmp_path / "d" / "diagnosis.json").read_text())
    assert (figures["verdict"], figures["recovered"]) == ("neither", 1.0)
    assert max(figures["error"]) < 1e-4
    assert (tmp_path / "d" / "grid.png").is_file()
    assert call(capsys, "reconstruct", *named, "--wandb", "disabled", "--out", tmp_path / "r").code == 0
    rows = table(tmp_path / "r")
    assert max(float(row["mse"]) for row in rows) < 1e-4  # not against clamped images
    assert min(float(row["psnr"]) for row in rows) > 40


BRIEF = ["--restarts", 1, "--halving", "[]", "--wandb", "disabled", "--device", "cpu"]


def test_bytes_are_an_error_of_their_image_alone_in_a_job(tmp_path, capsys):
    folder = write_model(tmp_path / "model", output_range=[-0.2, 0.2])
    images = cards.load_generator(folder)(randn(3, 3, dtype=torch.float32))
    images[1] = 255 * rand(1, 4, 4)
    np.save(tmp_path / "own.npy", images.numpy())
    named = ["--model", folder, "--targets", tmp_path / "own.npy", "--out", tmp_path / "r"]
    said = call(capsys, "reconstruct", *named, *BRIEF, "--steps", 2)
    assert said.code == 3  # some were skipped
    assert "own-000001: target: expected values in [0, 1]" in said.err
    assert [row["name"] for row in table(tmp_path / "r")] == ["own-000000", "own-000002"]


def test_figures_of_a_wider_range_are_those_of_the_images_scaled():
    image, reference = (4 * rand(3, 1, 12, 12, seed=seed) - 1 for seed in (0, 1))
    near(psnr(image, reference, 4.0), psnr(image / 4, reference / 4), 1e-12)
    near(ssim(image, reference, 4.0), ssim(image / 4, reference / 4), 1e-12)
    ranges = torch.tensor([1.0, 2.0, 4.0]).double()
    each = [psnr(image[[at]], reference[[at]], float(ranges[at])) for at in range(3)]
    near(psnr(image, reference, ranges), torch.cat(each), 1e-12)
    near(psnr(image, reference), -10 * mse(image, reference).log10(), 1e-12)


OPERATORS = [Identity(), Hole(4), Mask(torch.ones(28, 28)), Downsample(2), Blur(1.0), Bicubic(2), Gaussian(50)]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 3.0])
def test_measurements_with_noise_are_accepted(operator, sigma):
    generator = squashed()
    images = generator(generator.latents(4, seed=0)).detach()
    made = Reconstruction(generator, images, operator, noise=sigma).measurement
    again = Reconstruction(generator, made, operator, measured=True)
    assert torch.equal(again.measurement, made)
    assert again.image is None


@pytest.mark.parametrize("noise", [0.0, 10.0])
@pytest.mark.parametrize("operator", OPERATORS[:-1], ids=lambda operator: type(operator).__name__)
def test_measurements_that_are_bytes_are_refused(operator, noise):
    y = operator(255 * rand(4, 1, 28, 28)) + noise * randn(*operator(torch.ones(4, 1, 28, 28)).shape)
    with refuses("target", "(divide bytes by 255)"):
        Reconstruction(squashed(), y, operator, measured=True)
    assert Reconstruction(squashed(), 200 * rand(4, 50), Gaussian(50)).image is None  # which has no range


def test_a_measurement_with_noise_is_a_target_of_the_job(tmp_path, capsys):
    folder = write_model(tmp_path / "model")
    y = cards.load_generator(folder)(randn(2, 3, dtype=torch.float32)) + 0.3 * randn(2, 1, 4, 4, dtype=torch.float32)
    assert share_outside(y) > 0
    np.save(tmp_path / "noisy.npy", y.numpy())
    named = ["--model", folder, "--targets", tmp_path / "noisy.npy", "--measured", "true", "--out", tmp_path / "r"]
    assert call(capsys, "reconstruct", *named, *BRIEF, "--steps", 60).code == 0
    rows = table(tmp_path / "r")
    found = lo.reconstruct(cards.load_generator(folder), y, measured=True, restarts=1, steps=60, halving=())
    assert [float(row["loss"]) for row in rows] == pytest.approx(found.value.tolist(), rel=1e-3)
