"""Tiny autoencoders of the latent spaces of diffusion models: TAESD, TAESDXL, TAESD3, TAEF1 and TAEF2.

Their files are those of https://github.com/madebyollin/taesd, or of diffusers' ``AutoencoderTiny``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.errors import InputError, printable
from latentopt.files import is_file, is_folder, read_tensors

PREFIX = "taesd:"
WIDTHS = (64, 64, 64, 64)
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
IMAGE_SIDE = 256
"""Height and width of the images until `Generator.resized` is called."""


class SoftClamp(nn.Module):
    """Limits latents smoothly to (-3, 3)."""

    def forward(self, z: Tensor) -> Tensor:
        return 3 * torch.tanh(z / 3)


class ResidualBlock(nn.Module):
    """Three convolutions (3 x 3), their input added, ReLU after each.

    Args:
        before: channels of the input.
        after: channels of the output.
        group_norm: add to the input what four groups of channels, normalised over the whole image, say of it.
    """

    def __init__(self, before: int, after: int, group_norm: bool = False) -> None:
        super().__init__()
        layers = [layer for width in (before, after, after) for layer in (_conv(width, after), nn.ReLU())]
        self.conv = nn.Sequential(*layers[:-1])
        self.skip = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()
        self.fuse = nn.ReLU()
        wide = 4 * before
        norm = (nn.Conv2d(before, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU())
        self.pool = nn.Sequential(*norm, nn.Conv2d(wide, before, 1, bias=False)) if group_norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.pool is None else x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


class TinyDecoder(nn.Sequential):
    """Decoder of a tiny autoencoder: stages of residual blocks, each twice as large as the one before.

    Args:
        latent_channels: channels of the latents: 4 (TAESD, TAESDXL), 16 (TAESD3, TAEF1), 32 (TAEF2).
        widths: channels of each stage.
        blocks: residual blocks of each stage.
        group_norm: whether those of the first stage have `ResidualBlock`'s group norm (TAEF2).
        channels: channels of the images.

    Maps ``(B, latent_channels, H / f, W / f)`` to ``(B, channels, H, W)`` in about [0, 1], f = 8 for four stages.
    """

    any_size = True

    def __init__(
        self,
        latent_channels: int = 4,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = (3, 3, 3, 1),
        group_norm: bool = False,
        channels: int = 3,
    ) -> None:
        layers: list[nn.Module] = [SoftClamp(), _conv(latent_channels, widths[0]), nn.ReLU()]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if stage:
                layers += [nn.Upsample(scale_factor=2), _conv(widths[stage - 1], width, bias=False)]
            layers += [ResidualBlock(width, width, group_norm and not stage) for _ in range(count)]
        super().__init__(*layers, _conv(widths[-1], channels))

    def halves(self) -> tuple[nn.Module, nn.Module]:
        """Return the layers of the first stage, whose group norm sees the whole image, and the others."""
        layers = list(self)
        first = next((place for place, layer in enumerate(layers) if isinstance(layer, nn.Upsample)), 0)
        return nn.Sequential(*layers[:first]), nn.Sequential(*layers[first:])


class TinyEncoder(nn.Sequential):
    """Encoder of a tiny autoencoder, which mirrors `TinyDecoder`.

    Args:
        latent_channels, channels: as of the decoder.
        widths: channels of each stage, the largest images first.
        blocks: residual blocks of each stage.
        group_norm: whether those of the last stage have `ResidualBlock`'s group norm (TAEF2).

    Maps ``(B, channels, H, W)`` in [0, 1] to ``(B, latent_channels, H / f, W / f)``, f = 8 for four stages.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = (1, 3, 3, 3),
        group_norm: bool = False,
        channels: int = 3,
    ) -> None:
        layers: list[nn.Module] = [_conv(channels, widths[0])]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if stage:
                layers.append(_conv(widths[stage - 1], width, stride=2, bias=False))
            layers += [ResidualBlock(width, width, group_norm and stage == len(blocks) - 1) for _ in range(count)]
        super().__init__(*layers, _conv(widths[-1], latent_channels))


def _conv(before: int, after: int, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, **settings)


def read_model(model: str) -> tuple[dict[str, Any], Callable[[], dict[str, Tensor]]]:
    """Read a tiny autoencoder, ``taesd:FOLDER`` or ``taesd:FILE``.

    Args:
        model: its folder, with a file that is named for the decoder and one for the encoder, if any, or with one file
            of both; or such a file. ``.safetensors`` or what `torch.save` wrote.

    Returns:
        The content of a card, and a function that returns the tensors, ``generator.*`` and ``encoder.*``.

    Raises:
        InputError: there is no such file, or it holds another architecture.
    """
    path = Path(model.removeprefix(PREFIX))
    parts, digest = dict[str, dict[str, Tensor]](), hashlib.sha256()
    for file in _files(path):
        digest.update(file.read_bytes())
        for part, state in _parts(file, read_tensors(file)):
            parts[part] = state
    if "generator" not in parts:
        raise InputError(str(path), "a file of a decoder, such as taef2_decoder.safetensors", "an encoder alone")
    architecture = {part: _architecture(path, part, state) for part, state in parts.items()}
    sizes = architecture["generator"]["init_args"]
    side = IMAGE_SIDE >> (len(sizes["blocks"]) - 1)
    card = {
        "name": printable(path.name),
        "summary": "a tiny autoencoder",
        "architecture": architecture,
        "weights_sha256": digest.hexdigest(),
        "licence": "",
        "latent_shape": [sizes["latent_channels"], side, side],
        "output_range": (0.0, 1.0),
        "start_scale": 1.0,
    }
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    return card, lambda: tensors


def _files(path: Path) -> list[Path]:
    """Return the files of an autoencoder: of a decoder and an encoder, else the only one."""
    if is_file(path):
        return [path]
    expected = f"{PREFIX}FOLDER with a file of a decoder and one of its encoder ({', '.join(SUFFIXES)})"
    if not is_folder(path):
        raise InputError("model", expected, repr(f"{PREFIX}{path}"))
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    safe = [file for file in files if file.suffix.lower() == SUFFIXES[0]]
    files = safe or files
    named = [[file for file in files if part in file.name.lower()] for part in ("decoder", "encoder")]
    chosen = [*named[0], *named[1]] if named[0] else files
    if max(map(len, named)) > 1 or (len(files) != 1 and not named[0]):
        raise InputError("model", expected, f"{', '.join(file.name for file in files) or 'none'} in {path}")
    return chosen


def _parts(path: Path, content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the state dicts of a file by part, with the names of our modules."""
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(str(path), "the tensors of a tiny autoencoder", type(content).__name__)
    prefixed = False
    for part, prefix, offset in (("generator", "decoder.", 1), ("encoder", "encoder.", 0)):
        inner = {name.removeprefix(prefix): t for name, t in content.items() if name.startswith(prefix)}
        if not inner:
            continue
        prefixed = True
        if all(name.startswith("layers.") for name in inner):  # diffusers: the clamp is no layer there
            split = [(name.split(".", 2), t) for name, t in inner.items()]
            inner = {f"{int(number) + offset}.{rest}": t for (_, number, rest), t in split}
        yield part, inner
    if not prefixed:
        yield ("encoder" if "0.weight" in content else "generator"), dict(content)


def _architecture(path: Path, part: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the class path and the arguments of the module that has these tensors.

    Raises:
        InputError: none has.
    """
    is_decoder = part == "generator"
    module = TinyDecoder if is_decoder else TinyEncoder
    numbers = sorted({int(name.split(".")[0]) for name in state if name.split(".")[0].isdigit()})
    first, last = f"{int(is_decoder)}.weight", f"{numbers[-1] if numbers else 0}.weight"
    widths, blocks = list[int](), list[int]()
    is_block = [f"{number}.conv.0.weight" in state for number in range((numbers or [0])[-1] + 1)]
    for block, group in groupby(range(len(is_block)), is_block.__getitem__):
        if block:
            own = list(group)
            blocks.append(len(own))
            widths.append(len(state[f"{own[0]}.conv.0.weight"]))
    if not blocks or first not in state or last not in state or state[first].ndim != 4:
        expected = f"the {part if not is_decoder else 'decoder'} of a tiny autoencoder (TAESD, TAESD3, TAEF1, TAEF2)"
        raise InputError(str(path), expected, f"tensors such as {next(iter(state), 'none')}")
    ends = state[first].shape[1], state[last].shape[0]
    latent, channels = ends if is_decoder else ends[::-1]
    sizes = {"latent_channels": latent, "widths": widths, "blocks": blocks}
    norm = any(".pool." in name for name in state)
    path_of_class = f"{module.__module__}.{module.__qualname__}"
    return {"class_path": path_of_class, "init_args": {**sizes, "group_norm": norm, "channels": channels}}
