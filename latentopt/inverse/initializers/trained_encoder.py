"""Encoders trained on a generator's own samples, in one file with what tells which generator they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from latentopt.errors import InputError, first_line
from latentopt.files import read_metadata, read_tensors, require_file
from latentopt.inverse.initializers.base import POOL_SEED
from latentopt.io import write_atomically
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator

META = "encoder"
"""Metadata of the file: the settings of the network and of its training."""
PROBES, PROBED, TOLERANCE = 4, 512, 1e-2
"""Number of latents whose measurements identify a generator and an operator, greatest number of their values, and the
greatest difference, as a multiple of the greatest value, which half precision and faster convolutions stay below."""
SIDE, WIDEST = 4, 256
"""Side at which convolutions end, and their greatest number of channels."""


class ConvEncoder(nn.Module):
    """Network from measurements to latents: convolutions of stride 2, BatchNorm and ReLU, and one hidden layer.

    Measurements that are no images, (C, H, W) of a side of 8 at least, take two hidden layers instead. Latents
    (c, h, w) with sides above 1 are predicted by convolutions alone, at their own resolution.

    Args:
        shape: of one measurement.
        latent_shape: of one latent.
        width: channels of the first convolution; each further one has twice as many, up to `WIDEST`.
        hidden: width of the hidden layer.

    Maps (B, *shape) to (B, *latent_shape): standardised latents, distances from the mean in standard deviations.
    """

    def __init__(self, shape: Sequence[int], latent_shape: Sequence[int], width: int = 32, hidden: int = 512) -> None:
        super().__init__()
        self.shape, self.latent_shape = tuple(shape), tuple(latent_shape)
        size, is_map = prod(latent_shape), len(latent_shape) == 3 and min(latent_shape[1:]) > 1
        self.mean, self.scale = (nn.Buffer(torch.full((), value)) for value in (0.0, 1.0))  # of measurements
        layers: list[nn.Module] = []
        if len(shape) == 3 and min(shape[1:]) >= 2 * SIDE:
            channels, sides = shape[0], tuple(shape[1:])
            ends = tuple(latent_shape[1:]) if is_map else (SIDE, SIDE)
            while any((side + 1) // 2 >= end and side > end for side, end in zip(sides, ends, strict=True)):
                layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels, width = width, min(2 * width, WIDEST)
                sides = tuple((side + 1) // 2 for side in sides)
            if is_map:
                layers += [nn.AdaptiveAvgPool2d((ends[0], ends[1])), nn.Conv2d(channels, WIDEST, 3, 1, 1), nn.ReLU()]
                layers += [nn.Conv2d(WIDEST, latent_shape[0], 3, 1, 1)]
            else:
                layers += [nn.Flatten(), *_dense(channels * prod(sides), hidden), nn.Linear(hidden, size)]
        else:
            layers += [nn.Flatten(), *_dense(prod(shape), hidden), *_dense(hidden, hidden), nn.Linear(hidden, size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x - self.mean) / self.scale).reshape(-1, *self.latent_shape)


def _dense(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


class Probe(NamedTuple):
    """Measurements of a few samples, by which a generator and an operator are recognised."""

    latents: Tensor  # (PROBES, *latent_shape)
    values: Tensor  # (PROBES, k), k <= PROBED

    def matches(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> bool:
        """Return whether a generator's samples, measured by an operator, are these (`PROBES` forwards)."""
        if tuple(self.latents.shape[1:]) != generator.latent_shape:
            return False
        z = self.latents.to(generator.latents(1, 0))
        try:
            values = _probe_values(generator, operator, z).cpu().float()
        except (InputError, RuntimeError):  # an operator for other images, or other conditions
            return False
        if values.shape != self.values.shape:
            return False
        return bool((values - self.values).abs().max() <= TOLERANCE * self.values.abs().max())


def take_probe(generator: Generator, operator: Callable[[Tensor], Tensor]) -> Probe:
    """Measure a few samples of a generator."""
    z = generator.latents(PROBES, POOL_SEED)
    return Probe(z.cpu().float(), _probe_values(generator, operator, z).cpu().float())


@torch.no_grad()
def _probe_values(generator: Generator, operator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    with frozen(generator):
        values = operator(generator(z)).flatten(1)
    return values[:, :: -(-values.shape[1] // PROBED)]


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """An encoder trained on samples of a generator, as measured by an operator.

    Args:
        network: from measurements to standardised latents.
        mean: of the latents.
        scale: of the latents.
        probe: measurements of a few samples of the generator.
        about: training and quality, as plain data.
    """

    network: ConvEncoder
    mean: Tensor  # (*latent_shape)
    scale: Tensor  # (*latent_shape)
    probe: Probe
    about: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> TrainedEncoder:
        """Return the encoder on a device."""
        network = self.network.to(device)
        return TrainedEncoder(network, self.mean.to(device), self.scale.to(device), self.probe, self.about)

    def __call__(self, measurement: Tensor) -> Tensor:
        """Return latents (B, *latent_shape) for measurements (B, ...); single precision."""
        return self.mean + self.scale * self.network(measurement.to(self.mean))

    def save(self, path: Path) -> None:
        """Write the encoder to a file."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {"mean": self.mean, "scale": self.scale}
        tensors |= {"probe.latents": self.probe.latents, "probe.values": self.probe.values}
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(content, {META: json.dumps(self.about)}))

    @classmethod
    def load(cls, path: Path) -> TrainedEncoder:
        """Read an encoder from a file.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        require_file(path, "the file of a trained encoder")
        tensors, about = read_tensors(path), read_metadata(path).get(META)
        if about is None:
            raise InputError(str(path), "a file of `latentopt train train-encoder`", "none")
        try:
            about = json.loads(about)
            network = ConvEncoder(**about["network"])
            state = {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
            network.load_state_dict(state)
            probe = Probe(tensors["probe.latents"], tensors["probe.values"])
            return cls(network.eval().requires_grad_(False), tensors["mean"], tensors["scale"], probe, about)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(str(path), "a whole file of a trained encoder", first_line(error)) from error
