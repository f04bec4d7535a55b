"""Generators of the inverse problems: shipped ones, and others with weights from LATENTOPT_DATA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.errors import InputError
from latentopt.networks.generator import Generator
from latentopt.zoo.cards import load_generator
from latentopt.zoo.datasets import as_images, open_dataset
from latentopt.zoo.paths import data_root
from latentopt.zoo.state_dicts import load_into, read_state_dict


class MLPDecoder(nn.Module):
    """20 latents to 28 x 28 in [0, 1] through one hidden layer: the decoder of torch's VAE example."""

    def __init__(self) -> None:
        super().__init__()
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, z: Tensor) -> Tensor:
        return self.fc4(self.fc3(z).relu()).sigmoid().reshape(-1, 1, 28, 28)


class ConvDecoder(nn.Module):
    """10 latents to 64 x 64 in [0, 1] (32 x 32 without ``wide``): a disentangling VAE (arXiv 1804.03599)."""

    def __init__(self, channels: int, wide: bool) -> None:
        super().__init__()
        self.lin1, self.lin2, self.lin3 = nn.Linear(10, 256), nn.Linear(256, 256), nn.Linear(256, 512)
        if wide:
            self.convT_64 = nn.ConvTranspose2d(32, 32, 4, 2, 1)
        self.wide = wide
        self.convT1, self.convT2 = nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ConvTranspose2d(32, 32, 4, 2, 1)
        self.convT3 = nn.ConvTranspose2d(32, channels, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.lin3(self.lin2(self.lin1(z).relu()).relu()).relu().reshape(-1, 32, 4, 4)
        h = self.convT_64(h).relu() if self.wide else h
        return self.convT3(self.convT2(self.convT1(h).relu()).relu()).sigmoid()


def dcgan() -> nn.Module:
    """64 latents to 28 x 28 in [-1, 1]."""

    def block(before: int, after: int, kernel: int, stride: int) -> nn.Module:
        layers = [nn.ConvTranspose2d(before, after, kernel, stride), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers)

    last = nn.Sequential(nn.ConvTranspose2d(64, 1, 4, 2), nn.Tanh())
    blocks = nn.Sequential(block(64, 256, 3, 2), block(256, 128, 4, 1), block(128, 64, 3, 2), last)
    return nn.ModuleDict({"gen": blocks})


class Latent2d(nn.Module):
    """A convolutional generator of latents (B, n)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        return self.module(z[:, :, None, None])


class RoadGAN(nn.Module):
    """5 latents, a distance and four of noise, to 64 x 64 road scenes in about [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(5, 512))
        layers: list[nn.Module] = [nn.BatchNorm2d(128)]
        for before, after in ((128, 128), (128, 64), (64, 32), (32, 16)):
            layers += [nn.ConvTranspose2d(before, after, 4, 2), nn.BatchNorm2d(after, 0.8), nn.ReLU()]
        self.conv_blocks = nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 3))

    def forward(self, z: Tensor) -> Tensor:
        return self.conv_blocks(self.l1(z).reshape(-1, 128, 2, 2))


def face_dcgan() -> nn.Module:
    """100 latents to 64 x 64 faces in [-1, 1]: the DCGAN of the PyTorch tutorial (arXiv 1511.06434)."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(100, 512, 4, bias=False), nn.BatchNorm2d(512), nn.ReLU()]
    for width in (512, 256, 128):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()]
    return nn.ModuleDict({"main": nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh())})


@dataclass(frozen=True)
class GeneratorSource:
    """A generator and real images for it.

    Args:
        build: makes it.
        images: ``mnist`` (28 x 28), ``mnist32`` (resized), ``faces``, or "": none are there.
    """

    build: Callable[[], Generator]
    images: str

    def targets(self, first: int, count: int, held_out: bool) -> Tensor:
        """Return real images (count, C, H, W) in [0, 1] from the ``first`` on; of the test set only if ``held_out``.

        Of the 32 faces, the first 16 are the test set.
        """
        if self.images == "faces":
            first += 0 if held_out else 16
            pixels = np.load(_file("celeba_test64/celeba_first32.npz"))["images_full"][first : first + count]
            return torch.tensor(pixels).permute(0, 3, 1, 2).contiguous() / 255
        split, total = "test" if held_out else "train", first + count
        images = as_images(open_dataset("mnist", None, split, limit=total), total)[first:]
        if self.images == "mnist32":
            return F.interpolate(images, size=(32, 32), mode="bilinear", antialias=True).clamp(0, 1)
        return images


def _file(name: str):
    path = data_root() / name
    if not path.is_file():
        raise InputError("LATENTOPT_DATA", f"a folder with {name}", str(data_root()))
    return path


def _filled(module: nn.Module, name: str, prefix: str = "") -> nn.Module:
    """Load into the module those weights of a file whose names begin with ``prefix``, without the prefix."""
    path = _file(name)
    tensors = read_state_dict(path)
    state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    load_into(module, state, path, "the benchmark's network")
    return module


def _conv_vae(name: str, channels: int) -> Generator:
    module = _filled(ConvDecoder(channels, channels == 3), f"disvae/{name}.safetensors", "decoder.")
    return _ready(module, (10,))


def _mlp_vae() -> Generator:
    path = _file("mnist_vae_mlp/vae_epoch_25.safetensors")
    tensors = read_state_dict(path)
    module = MLPDecoder()
    load_into(module, {k: t for k, t in tensors.items() if k.startswith(("fc3", "fc4"))}, path, "the decoder")
    return _ready(module, (20,))


def _dcgan() -> Generator:
    blocks = _filled(dcgan(), "mnist_dcgan/dcgan_z64_generator.safetensors")
    return _ready(Latent2d(blocks.get_submodule("gen")), (64,), (-1.0, 1.0), 0.2)


def _face_dcgan() -> Generator:
    blocks = _filled(face_dcgan(), "digiface_dcgan/generator.safetensors")
    return _ready(Latent2d(blocks.get_submodule("main")), (100,), (-1.0, 1.0))


def _road() -> Generator:
    """A generator with linear outputs, clamped here: far from its training latents they leave [-1, 1] by a lot."""
    module = _filled(RoadGAN(), "cgan_road/cGAN_imgSz64_nCh_3.safetensors", "gen.")
    return _ready(nn.Sequential(module, nn.Hardtanh()), (5,), (-1.0, 1.0))


def _ready(
    module: nn.Module, shape: Sequence[int], output_range: tuple[float, float] = (0.0, 1.0), scale: float = 1.0
) -> Generator:
    generator = Generator(module, latent_shape=shape, output_range=output_range, start_scale=scale)
    return generator.eval().requires_grad_(False)


GENERATORS: dict[str, GeneratorSource] = {
    "mnist-vae": GeneratorSource(partial(load_generator, "mnist-vae"), "mnist"),
    "mnist-dcgan": GeneratorSource(partial(load_generator, "mnist-dcgan"), "mnist"),
    "mlp-vae": GeneratorSource(_mlp_vae, "mnist"),
    "dcgan64": GeneratorSource(_dcgan, "mnist"),
    "celeba-vae": GeneratorSource(partial(_conv_vae, "VAE_celeba", 3), "faces"),
    "celeba-betab": GeneratorSource(partial(_conv_vae, "betaB_celeba", 3), "faces"),
    "celeba-betah": GeneratorSource(partial(_conv_vae, "betaH_celeba", 3), "faces"),
    "celeba-btcvae": GeneratorSource(partial(_conv_vae, "btcvae_celeba", 3), "faces"),
    "mnist32-vae": GeneratorSource(partial(_conv_vae, "VAE_mnist", 1), "mnist32"),
    "road-gan": GeneratorSource(_road, ""),
    "mnist-stylegan2": GeneratorSource(partial(load_generator, "mnist-stylegan2"), "mnist32"),
    "face-dcgan": GeneratorSource(_face_dcgan, "faces"),
}
