"""Pretrained models: loaded from a folder ``<name>/`` with a card and weights, and saved to one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor, nn

from latentopt.arguments import checked
from latentopt.errors import InputError, first_line
from latentopt.files import parse_safetensors, require_file
from latentopt.networks.classifier import Classifier
from latentopt.networks.conditions import names_array
from latentopt.networks.generator import Generator
from latentopt.zoo import torchvision_models
from latentopt.zoo.building import build, build_module
from latentopt.zoo.card import (
    CARD,
    TRAINED_ENCODER,
    WEIGHTS,
    Card,
    ClassifierCard,
    GeneratorCard,
    PolicyCard,
    check_name,
    find,
    model_name,
    named,
    names,
    read_card,
    read_foreign,
)
from latentopt.zoo.state_dicts import load_into

__all__ = [
    "CARD",
    "WEIGHTS",
    "Card",
    "ClassifierCard",
    "GeneratorCard",
    "PolicyCard",
    "build",
    "check_name",
    "find",
    "load",
    "load_classifier",
    "load_generator",
    "names",
    "read_card",
    "read_weights",
    "save_model",
]
N = TypeVar("N", bound=nn.Module)
C = TypeVar("C", bound=Card)


@checked
def load(model: str | Path | Mapping[str, Any], device: str | torch.device | None = None) -> Generator | Classifier:
    """Load a pretrained model, frozen and in eval mode.

    Args:
        model: name of a shipped model; a folder with ``card.yaml`` and ``weights.safetensors``; or a classifier of
            torchvision with its official weights, ``torchvision/resnet18``, which are downloaded once; or a tiny
            autoencoder, ``taesd:FOLDER`` (`latentopt.zoo.tiny_autoencoders`), or an autoencoder of diffusers,
            ``diffusers:FOLDER`` or ``diffusers:OWNER/NAME`` (`latentopt.zoo.diffusers_autoencoders`); or a checkpoint
            of StyleGAN2, ``stylegan2:FILE``, in another space as ``{name: stylegan2:FILE, space: w+, noise: true}``; or
            a dict of ``class_path``, ``init_args`` and ``weights`` (a file), with ``latent_shape`` and the other
            settings of a `Generator`, or those of a `Classifier`.
        device: default the CPU.

    Returns:
        The model.

    Raises:
        InputError: there is no such model, or its weights are missing, truncated, changed or for another architecture.

    >>> load("mnist-vae").latent_shape
    (20,)
    >>> load("mnist-cnn").input_shape
    (1, 28, 28)
    """
    if str(model).startswith(torchvision_models.PREFIX):
        return load_classifier(model, device)
    card, model = read_card(model), named(model)
    if isinstance(model, Mapping):
        module = build_module({**card.architecture[card.part], "weights": model.get("weights")})
        return _ready(card.wrap(module), device)
    foreign, parts = read_foreign(model), dict[str, nn.Module]()
    tensors = foreign[1]() if foreign else read_weights(model, card)
    path = Path(model) if foreign else find(model) / WEIGHTS
    for part in (card.part, *(extra for extra in card.extras if extra in card.architecture)):
        parts[part], prefix = build(card.architecture[part]), f"{part}."
        state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        load_into(parts[part], state, path, f"the card's {part}")
    network = _ready(card.wrap(parts.pop(card.part), Path() if foreign else find(model), **parts), device)
    if isinstance(network, Generator) and not foreign and (trained := path.with_name(TRAINED_ENCODER)).is_file():
        network.trained_encoder = trained
    return network


@checked
def load_generator(model: str | Path | Mapping[str, Any], device: str | torch.device | None = None) -> Generator:
    """Load a generator, as `load` does.

    Raises:
        InputError: as `load`; or the model is a classifier.
    """
    network = load(model, device)
    if not isinstance(network, Generator):
        raise InputError("model", "a generator", f"the classifier {model_name(model)!r}")
    return network


@checked
def load_classifier(
    model: str | Path | Mapping[str, Any], device: str | torch.device | None = None, weights: str | Path | None = None
) -> Classifier:
    """Load a classifier, as `load` does.

    Args:
        model, device: as in `load`.
        weights: file with a state dict, ``.safetensors`` or of ``torch.save``, for a classifier of torchvision.
            Default: the official ones.

    Raises:
        InputError: as `load`; the model is a generator; or the weights are missing, or belong to another network.
    """
    prefix = torchvision_models.PREFIX
    if str(model).startswith(prefix):
        return _ready(torchvision_models.classifier(str(model).removeprefix(prefix), weights), device)
    if weights is not None:
        raise InputError("weights", "none, as the model has its own", str(weights))
    network = load(model, device)
    if not isinstance(network, Classifier):
        raise InputError("model", "a classifier", f"the generator {model_name(model)!r}")
    return network


def _ready(network: N, device: str | torch.device | None) -> N:
    try:
        return network.eval().requires_grad_(False).to(torch.device(device or "cpu"))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:
        raise InputError("device", "one that torch can use here", f"{str(device)!r} ({first_line(error)})") from error


def read_weights(model: str | Path, card: Card) -> dict[str, Tensor]:
    """Read all tensors of a model, and compare their checksum with the card's."""
    path = find(model) / WEIGHTS
    if not path.is_file():
        raise InputError(str(path), "the model's weights", "no file")
    content = path.read_bytes()
    tensors = parse_safetensors(path, content)
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.weights_sha256:
        raise InputError(str(path), f"the card's sha256 {card.weights_sha256[:12]}...", f"{digest[:12]}...")
    return tensors


def save_model(path: Path, card: C, networks: dict[str, nn.Module]) -> C:
    """Write the weights of the networks, each under its part's name, and the card, with their checksum.

    Array files of the card, of latents and conditions, are copied into the folder, which its paths then lead to.
    """
    from safetensors.torch import save

    tensors = {f"{part}.{name}": t.cpu() for part, net in networks.items() for name, t in net.state_dict().items()}
    content = save({name: t.contiguous() for name, t in tensors.items()})
    copied = {name: getattr(card, name) for name in ("latents", "conditions") if hasattr(card, name)}
    files = sorted({Path(value) for value in _arrays(copied)})
    if len({file.name for file in files}) < len(files):
        raise InputError("card", "files of different names", ", ".join(map(str, files)))
    arrays = {file.name: require_file(file, "a file of numbers").read_bytes() for file in files}
    path.mkdir(parents=True, exist_ok=True)
    for name, array in {**arrays, WEIGHTS: content}.items():
        (path / name).write_bytes(array)
    card = replace(card, weights_sha256=hashlib.sha256(content).hexdigest(), **_in_folder(copied))
    (path / CARD).write_text(yaml.safe_dump(asdict(card), sort_keys=False, width=100), encoding="utf-8")
    return card


def _arrays(value: Any) -> Iterator[str]:
    """Yield the paths of array files in a part of a card."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _arrays(inner)
    elif names_array(value):
        yield value


def _in_folder(value: Any) -> Any:
    """Return a part of a card with the names of its array files in place of their paths."""
    if isinstance(value, Mapping):
        return {key: _in_folder(inner) for key, inner in value.items()}
    return Path(value).name if names_array(value) else value
