"""Latent spaces of StyleGAN2: z, w, w+ (Abdal et al. 2019, arXiv 1904.03189), each with the noise maps if wanted."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.networks.generator import Generator
from latentopt.networks.latent_sources import MappedLatents
from latentopt.zoo.stylegan2.network import StyleNetwork

Space = Literal["z", "w", "w+"]
"""``z``: input of the mapping network. ``w``: its output, one style for all layers. ``w+``: a style for each layer."""
NOISE = "noise_"
"""Begin of the names of latents that are noise maps."""


class InSpace(nn.Module):
    """A StyleGAN2 whose input is a latent of another space.

    Args:
        network: the generator.
        space: of the latents.

    Maps ``z`` (B, n), ``w`` (B, n) or, in w+, (B, layers, n) to images. Noise maps (B, 1, H, W) are ``noise_0``,
    ``noise_1``, ...; without them the network's own are used.
    """

    def __init__(self, network: StyleNetwork, space: Space | str) -> None:
        super().__init__()
        self.network, self.space = network, space

    def forward(self, z: Tensor | None = None, w: Tensor | None = None, **noise: Tensor) -> Tensor:
        latent = w if z is None else z
        assert latent is not None
        style = self.network.mapping(latent) if self.space == "z" else latent
        layers = style if self.space == "w+" else style[:, None].expand(-1, self.network.layers, -1)
        maps = [noise[f"{NOISE}{number}"] for number in range(len(noise))] if noise else None
        return self.network.synthesis(layers, maps)


@checked
def in_space(
    network: nn.Module,
    space: Space | str = "w+",
    *,
    noise: bool = False,
    truncation: float = 1.0,
    output_range: tuple[float, float] | None = None,
    start_scale: float | None = None,
) -> Generator:
    """Return a generator whose latents are those of a space of StyleGAN2.

    Its distribution of latents is what the mapping network makes of normal z, the same style for all layers; of noise
    maps it is normal.

    Args:
        network: the network; or a generator in any space, such as ``lo.load("mnist-stylegan2")``.
        space: ``z``, ``w`` or ``w+``.
        noise: whether the noise maps are latents too. They and the style are then parts by name (``w``, ``noise_0``,
            ...). Otherwise they are constants.
        truncation: factor of the distance of random w from their mean (psi), > 0.
        output_range: as of `latentopt.Generator`. None: that of the generator or the network.
        start_scale: as of `latentopt.Generator`. None: that of the generator, or 1.

    Returns:
        The generator, which shares the network's weights.

    Raises:
        InputError: there is no such space, or the network is no StyleGAN2.
    """
    if space not in get_args(Space):
        raise InputError("space", f"one of {', '.join(get_args(Space))}", repr(space))
    if isinstance(network, Generator):
        output_range = network.output_range if output_range is None else output_range
        start_scale = network.start_scale if start_scale is None else start_scale
        network = network.module.network if isinstance(network.module, InSpace) else network.module
    if not isinstance(network, StyleNetwork):
        raise InputError("space", "a StyleGAN2 (latentopt.zoo.stylegan2)", type(network).__name__)
    positive("truncation", truncation)
    if truncation != 1 and space == "z":
        raise InputError("truncation", "1 in the space z", truncation)
    style = (network.style_size,) if space != "w+" else (network.layers, network.style_size)
    if noise and not network.normal_noise:
        raise InputError("noise", "false for this network, whose noise is not normal", noise)
    name, latents = ("z", None) if space == "z" else ("w", _mapped(network, space, truncation))
    shapes = {f"{NOISE}{number}": shape for number, shape in enumerate(network.noise_shapes)}
    return Generator(
        InSpace(network, space),
        latent_shape={name: style, **shapes} if noise else style,
        latents={name: latents} if noise else latents,
        output_range=network.output_range if output_range is None else output_range,
        start_scale=1.0 if start_scale is None else start_scale,
    )


def _mapped(network: StyleNetwork, space: str, truncation: float) -> MappedLatents:
    copies = network.layers if space == "w+" else None
    return MappedLatents(network.mapping, network.style_size, copies, truncation)
