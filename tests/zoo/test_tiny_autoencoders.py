from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from local_data import local_data
from nets import near, rand, randn, refill, refuses
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

import latentopt as lo
from latentopt.cli import main
from latentopt.inverse.initializers import Encoder
from latentopt.jobs.reconstruct import reconstruct
from latentopt.zoo.cards import load_generator
from latentopt.zoo.tiny_autoencoders import TinyDecoder, TinyEncoder

SIZES = {"latent_channels": 5, "widths": (4, 6, 4), "group_norm": True}


def _block(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """A residual block, written out."""
    if f"{name}.pool.0.weight" in state:
        wide = F.conv2d(x, state[f"{name}.pool.0.weight"])
        wide = F.group_norm(wide, 4, state[f"{name}.pool.1.weight"], state[f"{name}.pool.1.bias"])
        x = x + F.conv2d(wide.relu(), state[f"{name}.pool.3.weight"])
    hidden = x
    for number in (0, 2, 4):
        hidden = F.conv2d(hidden.relu() if number else hidden, *_weights(state, f"{name}.conv.{number}"), padding=1)
    skip = state.get(f"{name}.skip.weight")
    return (hidden + (x if skip is None else F.conv2d(x, skip))).relu()


def _weights(state: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor | None]:
    return state[f"{name}.weight"], state.get(f"{name}.bias")


def test_the_decoder_is_its_stages_written_out():
    network = refill(TinyDecoder(blocks=(2, 1, 1), **SIZES), seed=0)
    state, z = dict(network.state_dict()), 2 * randn(2, 5, 3, 4)
    x = F.conv2d(3 * torch.tanh(z / 3), *_weights(state, "1"), padding=1).relu()
    x = _block(_block(x, state, "3"), state, "4")
    for convolution, block in (("6", "7"), ("9", "10")):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = _block(F.conv2d(x, state[f"{convolution}.weight"], padding=1), state, block)
    near(network(z), F.conv2d(x, *_weights(state, "11"), padding=1), 1e-12)
    assert network(z).shape == (2, 3, 12, 16)


def test_the_encoder_is_its_stages_written_out():
    network = refill(TinyEncoder(blocks=(1, 2, 1), **SIZES), seed=1)
    state, images = dict(network.state_dict()), rand(2, 3, 8, 12)
    x = _block(F.conv2d(images, *_weights(state, "0"), padding=1), state, "1")
    x = F.conv2d(x, state["2.weight"], stride=2, padding=1)
    x = _block(_block(x, state, "3"), state, "4")
    x = _block(F.conv2d(x, state["5.weight"], stride=2, padding=1), state, "6")
    near(network(images), F.conv2d(x, *_weights(state, "7"), padding=1), 1e-12)
    assert network(images).shape == (2, 5, 2, 3)


@pytest.fixture
def networks():
    decoder = refill(TinyDecoder(blocks=(1, 1, 1), **SIZES), 0, torch.float32)
    with torch.no_grad():  # images in about [0, 1]
        weight, bias = list(decoder.parameters())[-2:]
        weight.mul_(0.1)
        bias.fill_(0.5)
    return decoder, refill(TinyEncoder(blocks=(1, 1, 1), **SIZES), 1, torch.float32)


def _half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() for name, tensor in state.items()}


def _of_diffusers(decoder: dict[str, Tensor], encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names of diffusers' AutoencoderTiny, whose decoder has no layer for the clamp."""
    renamed = {}
    for name, tensor in decoder.items():
        number, rest = name.split(".", 1)
        renamed[f"decoder.layers.{int(number) - 1}.{rest}"] = tensor
    return renamed | {f"encoder.layers.{name}": tensor for name, tensor in encoder.items()}


@pytest.mark.parametrize("layout", ["two files", "torch.save", "one file", "diffusers"])
def test_files_of_every_layout_give_the_same_model(networks, layout, tmp_path):
    decoder, encoder = (_half(network.state_dict()) for network in networks)
    if layout == "two files":
        save_file(decoder, tmp_path / "taex_decoder.safetensors")
        save_file(encoder, tmp_path / "taex_encoder.safetensors")
    elif layout == "torch.save":
        torch.save(decoder, tmp_path / "taex_decoder.pth")
        torch.save(encoder, tmp_path / "taex_encoder.pth")
    elif layout == "one file":
        both = {f"decoder.{name}": t for name, t in decoder.items()} | {f"encoder.{n}": t for n, t in encoder.items()}
        save_file(both, tmp_path / "taex.safetensors")
    else:
        save_file(_of_diffusers(decoder, encoder), tmp_path / "diffusion_pytorch_model.safetensors")
        (tmp_path / "config.json").write_text("{}")
    generator = lo.load(f"taesd:{tmp_path}")
    assert isinstance(generator, lo.Generator)
    assert generator.latent_shape == (5, 64, 64)
    z = randn(1, 5, 2, 2, dtype=torch.float32)
    with torch.no_grad():
        for network, state in zip(networks, (decoder, encoder), strict=True):
            network.load_state_dict(state)
        assert torch.equal(generator.module(z), networks[0](z))
        image = rand(1, 3, 8, 8, dtype=torch.float32)
        assert generator.encoder is not None
        assert torch.equal(generator.encoder(image), networks[1](image))


def test_a_generator_of_another_size_shares_the_module(networks, tmp_path):
    save_file(networks[0].state_dict(), tmp_path / "decoder.safetensors")
    generator = lo.load(f"taesd:{tmp_path / 'decoder.safetensors'}")
    assert isinstance(generator, lo.Generator)
    small = generator.resized((8, 12))
    assert (small.latent_shape, small.output_shape(), small.encoder) == ((5, 2, 3), (3, 8, 12), None)
    assert small.module is generator.module
    assert generator.resized(8).latent_shape == (5, 2, 2)
    with refuses("image_size", "multiples of 4 and 4"):
        generator.resized((8, 9))
    with refuses("image_size"):
        generator.resized((8, 8, 8))
    with refuses("image_size", "as the module makes no others"):
        lo.Generator(nn.Sequential(nn.ConvTranspose2d(2, 1, 4), nn.Sigmoid()), latent_shape=(2, 1, 1)).resized(8)
    with refuses("latents"):
        drawn = lo.Generator(networks[0], latent_shape=(5, 2, 2), latents=torch.rand(3, 5, 2, 2))
        drawn.resized(16)


def test_other_files_are_refused_in_one_line(networks, tmp_path):
    with refuses("model", "taesd:FOLDER"):
        lo.load(f"taesd:{tmp_path / 'none'}")
    with refuses("model", "none in"):
        lo.load(f"taesd:{tmp_path}")
    save_file(networks[1].state_dict(), tmp_path / "encoder.safetensors")
    with refuses(str(tmp_path), "an encoder alone"):
        lo.load(f"taesd:{tmp_path}")
    other = tmp_path / "other.safetensors"
    save_file({"body.weight": torch.zeros(2)}, other)
    with refuses(str(other), "body.weight"):
        lo.load(f"taesd:{other}")
    changed = dict(networks[0].state_dict())
    changed.pop("3.conv.2.weight")
    save_file(changed, other)
    with refuses(f"taesd:{other}", "3.conv.2.weight"):
        lo.load(f"taesd:{other}")


def test_a_job_takes_the_size_of_the_first_picture(networks, tmp_path):
    for name, network in zip(("decoder", "encoder"), networks, strict=True):
        save_file(network.state_dict(), tmp_path / f"{name}.safetensors")
    photo = rand(8, 12, 3).mul(255).byte().numpy()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    settings = {"model": f"taesd:{tmp_path}", "steps": 2, "restarts": 1, "start": "random", "wandb": "disabled"}
    found = reconstruct(targets=[str(tmp_path / "photo.png")], out=str(tmp_path / "run"), **settings)
    assert lo.read_run(tmp_path / "run").tensor.shape == (1, 5, 2, 3)
    assert found.compared == "image"
    Image.fromarray(photo[:7, :11]).save(tmp_path / "odd.png")
    with refuses("odd.png: image_size", "such as (8, 12) (--image_size 256 --resize"):
        reconstruct(targets=[str(tmp_path / "odd.png")], out=str(tmp_path / "x"), **settings)
    with refuses("image_size", "multiples of 4"):
        reconstruct(targets=[str(tmp_path / "photo.png")], out=str(tmp_path / "x"), image_size=10, **settings)


def test_taef2_encodes_and_decodes_photographs():
    archive = zipfile.ZipFile(local_data("imagenet_samples/imagenet_even_classes_256.zip"))
    opened = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in sorted(archive.namelist())[:2]]
    photos = torch.tensor(np.stack([np.asarray(photo) for photo in opened])).permute(0, 3, 1, 2) / 255
    photos = photos[..., 64:192, 64:192]
    generator = lo.load(f"taesd:{local_data('taef2')}")
    assert isinstance(generator, lo.Generator)
    assert generator.encoder is not None
    with torch.no_grad():
        decoded = generator.resized(128)(generator.encoder(photos))
    assert lo.metrics.psnr(decoded, photos).tolist() == pytest.approx([30.75, 34.94], abs=0.01)


def test_checks_of_a_decoder_are_made_on_small_images(networks):
    decoder, encoder = networks
    sides = list[int]()
    decoder.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    generator = lo.Generator(decoder, latent_shape=(5, 20, 64), encoder=encoder)
    assert generator.output_shape() == (3, 80, 256)
    generator.is_deterministic()
    generator.fused()
    generator.emitted_range()
    with refuses("encoder", "does not find"):  # as it is random
        Encoder().check(generator.resized((96, 96)), lo.operators.Identity())
    assert max(sides) <= 32


def test_latents_of_another_size_have_the_distribution_of_the_channels(networks):
    std = torch.arange(1.0, 6.0).reshape(5, 1, 1)
    generator = lo.Generator(networks[0], latent_shape=(5, 2, 2), latents=Normal(torch.zeros(5, 1, 1), std))
    large = generator.resized((40, 48))
    assert large.latents(300, seed=0).std((0, 2, 3)).tolist() == pytest.approx([1, 2, 3, 4, 5], rel=0.02)
    assert torch.equal(large.distribution.scale, std.double().expand(5, 10, 12))
    sample = torch.arange(3 * 5 * 4 * 4.0).reshape(3, 5, 4, 4)
    cropped = lo.Generator(networks[0], latent_shape=(5, 4, 4), latents=sample).resized(8)
    assert torch.equal(cropped.latents(3, seed=0).sort(0).values, sample[..., :2, :2])
    assert torch.equal(cropped.distribution.mean, sample[1, :, :2, :2].double())


def test_the_recipe_runs_on_a_folder_of_photographs(networks, tmp_path):
    for name, network in zip(("decoder", "encoder"), networks, strict=True):
        save_file(network.state_dict(), tmp_path / f"{name}.safetensors")
    (tmp_path / "photos").mkdir()
    Image.fromarray(rand(8, 12, 3).mul(255).byte().numpy()).save(tmp_path / "photos" / "a.png")
    words = ["--model", f"taesd:{tmp_path}", "--targets", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    words += ["--steps", "2", "--wandb", "disabled"]
    assert main(["run", "reconstruct-photo", *words, "--start", "random"]) == 0
    assert lo.read_run(tmp_path / "run").tensor.shape == (1, 5, 2, 3)
    words[5] = str(tmp_path / "none")
    assert main(["run", "reconstruct-photo", *words]) == 2  # the encoder is random
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_batch_through_taef2_is_its_samples_alone_in_double_precision():
    """In single precision rounding sends L-BFGS other ways; nothing else mixes the samples."""
    generator = load_generator(f"taesd:{local_data('taef2')}").resized(32)
    generator.double()
    target, z = generator(generator.latents(2, seed=0)).detach(), generator.latents(2, seed=5)
    settings = {"steps": 20, "restarts": 1, "halving": ()}
    for method, rounding in (("adam", 0.0), ("lbfgs", 1e-9)):
        both = lo.reconstruct(generator, target, start=z, optimizer=method, **settings)
        for row in (slice(0, 1), slice(1, 2)):
            alone = lo.reconstruct(generator, target[row], start=z[row], optimizer=method, **settings)
            assert (alone.output - both.output[row]).abs().max() <= rounding
            assert (alone.x - both.x[row]).abs().max() <= rounding


LARGE = """
import resource, torch, latentopt as lo
generator = lo.load("taesd:{folder}").resized(1024)
photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
photo = torch.nn.functional.interpolate(photo, size=(1024, 1024), mode="bicubic").clamp(0, 1)
lo.reconstruct(generator, photo, restarts=1, steps=3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_an_image_of_1024_pixels_takes_less_than_6_gb():
    code = LARGE.format(folder=local_data("taef2"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout.split()[-1]) < 6e9
