"""Autoencoders of diffusers: ``AutoencoderTiny``, ``AutoencoderKL`` and ``VQModel``, by folder or by name on its hub.

Their latents are scaled as diffusion models take them, so that they are about standard normal.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.errors import InputError, first_line
from latentopt.files import is_file, is_folder

PREFIX = "diffusers:"
KINDS = ("AutoencoderTiny", "AutoencoderKL", "VQModel")
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model*.safetensors"
SUBFOLDERS = ("", "vae", "vqvae")
"""Folders of the autoencoder in that of a model: of the autoencoder alone, or of a pipeline."""
IMAGE_SIDE = 256
"""Height and width of the images until `Generator.resized` is called."""


class Autoencoder(nn.Module):
    """One half of an autoencoder of diffusers.

    Args:
        kind: class of diffusers, one of `KINDS`.
        config: its arguments, the content of its ``config.json``.
    """

    other: tuple[str, ...]
    """Modules of the other half, which are left out."""

    def __init__(self, kind: str, config: dict[str, Any]) -> None:
        super().__init__()
        whole = _class(kind)
        known = inspect.signature(whole.__init__).parameters
        self.vae: Any = whole.from_config({name: value for name, value in config.items() if name in known})
        for name in self.other:
            if hasattr(self.vae, name):
                delattr(self.vae, name)
        own = self.vae.config
        self.scale, self.shift = own.get("scaling_factor") or 1.0, own.get("shift_factor") or 0.0
        if own.get("latents_mean") and own.get("latents_std"):  # of each channel, instead of the shift
            self.scale = self.scale / torch.tensor(own["latents_std"]).reshape(-1, 1, 1)
            self.shift = torch.tensor(own["latents_mean"]).reshape(-1, 1, 1)
        self.quantizes = kind == "VQModel"


class Decoder(Autoencoder):
    """The decoder of an autoencoder of diffusers; of a ``VQModel`` without its quantisation, which has no gradient.

    Maps scaled latents ``(B, C, H / f, W / f)`` to images ``(B, 3, H, W)`` in about [-1, 1].
    """

    any_size = True
    other = ("encoder", "quant_conv")

    def forward(self, z: Tensor) -> Tensor:
        z = z / torch.as_tensor(self.scale).to(z) + torch.as_tensor(self.shift).to(z)
        options = {"force_not_quantize": True} if self.quantizes else {}
        return self.vae.decode(z, return_dict=False, **options)[0]


class DiffusersEncoder(Autoencoder):
    """The encoder of an autoencoder of diffusers; of a distribution of latents its mean.

    Maps images ``(B, 3, H, W)`` in [0, 1] to scaled latents ``(B, C, H / f, W / f)``.
    """

    other = ("decoder", "post_quant_conv", "quantize")

    def forward(self, images: Tensor) -> Tensor:
        encoded = self.vae.encode(2 * images - 1, return_dict=False)[0]
        z = encoded.mode() if hasattr(encoded, "mode") and not isinstance(encoded, Tensor) else encoded
        return (z - torch.as_tensor(self.shift).to(z)) * torch.as_tensor(self.scale).to(z)


def read_model(model: str) -> tuple[dict[str, Any], Callable[[], Mapping[str, Tensor]]]:
    """Read an autoencoder, ``diffusers:FOLDER``, ``diffusers:OWNER/NAME`` or ``diffusers:OWNER/NAME/SUBFOLDER``.

    Args:
        model: its folder, with ``config.json`` and safetensors, or that of a pipeline with a subfolder ``vae``; or its
            name on https://huggingface.co, which is downloaded once.

    Returns:
        The content of a card, and a function that reads the tensors.

    Raises:
        InputError: diffusers is not installed; there is no such model; or it is no autoencoder of images.
    """
    _diffusers()
    folder = _local(model.removeprefix(PREFIX)) or _downloaded(model.removeprefix(PREFIX))
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config.get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            str(folder / CONFIG), "the configuration of a model of diffusers", first_line(error)
        ) from error
    if kind not in KINDS:
        raise InputError(str(folder / CONFIG), f"an autoencoder of images, {', '.join(KINDS)}", repr(kind))
    arguments = {"kind": kind, "config": {key: value for key, value in config.items() if not key.startswith("_")}}
    try:
        with torch.device("meta"):
            latents = DiffusersEncoder(**arguments)(torch.zeros(1, 3, IMAGE_SIDE, IMAGE_SIDE))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(str(folder / CONFIG), f"the arguments of {kind}", first_line(error)) from error
    digest = hashlib.sha256()
    for file in _weights(folder):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    card = {
        "name": model.removeprefix(PREFIX),
        "summary": f"an {kind} of diffusers",
        "architecture": {
            part: {"class_path": f"{half.__module__}.{half.__qualname__}", "init_args": arguments}
            for part, half in {"generator": Decoder, "encoder": DiffusersEncoder}.items()
        },
        "weights_sha256": digest.hexdigest(),
        "licence": "",
        "latent_shape": list(latents.shape[1:]),
        "output_range": (-1.0, 1.0),
        "start_scale": 1.0,
    }
    return card, lambda: _tensors(folder, kind)


def _diffusers() -> Any:
    try:
        import diffusers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("model", "diffusers (pip install 'latentopt[diffusers]')", first_line(error)) from error
    return diffusers


def _class(kind: str) -> Any:
    if kind not in KINDS:
        raise InputError("kind", f"one of {', '.join(KINDS)}", repr(kind))
    return getattr(_diffusers(), kind)


def _weights(folder: Path) -> list[Path]:
    """Return the files of the weights: all parts of one version, the full precision before others."""
    files = sorted(folder.glob(WEIGHTS))
    full = [file for file in files if "." not in file.name.removesuffix(".safetensors")]
    return full or files


def _local(name: str) -> Path | None:
    """Return the folder of an autoencoder in a local one; None: ``name`` is no path of a folder.

    Raises:
        InputError: there is none.
    """
    if not is_folder(name):
        return None
    for subfolder in SUBFOLDERS:
        folder = Path(name) / subfolder
        if is_file(folder / CONFIG) and _weights(folder):
            return folder
    raise InputError("model", f"a folder with {CONFIG} and {WEIGHTS}", f"none of both in {name}")


def _downloaded(name: str) -> Path:
    """Return the folder of an autoencoder of the hub, downloaded where it is not yet there.

    Raises:
        InputError: there is none, or no network.
    """
    from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]

    owner, _, rest = name.partition("/")
    repository, _, subfolder = rest.partition("/")
    if not owner or not repository or name.startswith((".", "/")):
        raise InputError("model", f"{PREFIX}FOLDER or {PREFIX}OWNER/NAME of huggingface.co", f"no folder {name!r}")
    places = [f"{place}/" if place else "" for place in ([subfolder] if subfolder else SUBFOLDERS)]
    patterns = [place + pattern for place in places for pattern in (CONFIG, "diffusion_pytorch_model.safetensors*")]
    reason = ""
    for local_only in (True, False):
        try:
            root = snapshot_download(f"{owner}/{repository}", allow_patterns=patterns, local_files_only=local_only)
        except Exception as error:  # whatever the network does
            reason = first_line(error)
            continue
        for place in places:
            if is_file(Path(root) / place / CONFIG) and _weights(Path(root) / place):
                return Path(root) / place
        reason = f"none of {', '.join(patterns)} in it"
    raise InputError(
        "model", "a model that huggingface.co gives (is there a network?), or a folder", f"{name}: {reason}"
    )


def _tensors(folder: Path, kind: str) -> dict[str, Tensor]:
    """Return the tensors of both halves, ``generator.vae.*`` and ``encoder.vae.*``, old names replaced by diffusers."""
    named = _weights(folder)[0].name.split(".")
    variant = {"variant": named[1].split("-")[0]} if len(named) > 2 else {}
    try:
        options = {"use_safetensors": True, "low_cpu_mem_usage": False, "output_loading_info": True}
        vae, info = _class(kind).from_pretrained(folder, local_files_only=True, **options, **variant)
    except Exception as error:  # whatever diffusers does with a broken file
        raise InputError(str(folder), f"the weights of an {kind}", first_line(error)) from error
    if info["missing_keys"]:
        raise InputError(str(folder), f"the weights of an {kind}", f"none for {sorted(info['missing_keys'])[0]}")
    tensors = dict[str, Tensor]()
    for part, half in {"generator": Decoder, "encoder": DiffusersEncoder}.items():
        for name, tensor in vae.state_dict().items():
            if name.split(".")[0] not in half.other:
                tensors[f"{part}.vae.{name}"] = tensor
    return tensors
