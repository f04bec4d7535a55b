"""Model cards: a folder ``<name>/`` with ``card.yaml`` and ``weights.safetensors``, read and written here."""

from __future__ import annotations

import hashlib
from argparse import ArgumentError
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks import Generator
from latentopt.zoo.content import folder

WEIGHTS, CARD = "weights.safetensors", "card.yaml"


@dataclass(frozen=True)
class Card:
    """What a pretrained model is and how good it was measured to be."""

    name: str
    summary: str
    architecture: dict[str, dict[str, Any]]  # part to class_path and init_args; "generator" is always there
    latent_shape: list[int]
    output_range: tuple[float, float]  # what the generator's module emits
    start_scale: float
    weights_sha256: str
    licence: str = "MIT"
    training: dict[str, Any] = field(default_factory=dict)  # recipe, data, seed, epochs, seconds, versions
    quality: dict[str, Any] = field(default_factory=dict)  # measured figures and the command that measures them


def names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in folder("models").glob(f"*/{CARD}"))


def find(model: str | Path) -> Path:
    """The folder of a model: a shipped model's name, or a folder that holds a card.

    Raises:
        InputError: neither.
    """
    for path in (folder("models") / model, Path(model)):
        with suppress(OSError):  # a name no file can have
            if (path / CARD).is_file():
                return path
    expected = f"a model ({', '.join(names()) or 'none is shipped'}) or a folder with a {CARD}"
    raise InputError("model", expected, repr(str(model)))


def read_card(model: str | Path) -> Card:
    """The card of a model, by name or folder.

    Raises:
        InputError: no such model, or a card that is not one.
    """
    path = find(model) / CARD
    from jsonargparse import ArgumentParser

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--card", type=Card)
        card = parser.instantiate(parser.parse_object({"card": content})).card
    except (yaml.YAMLError, ArgumentError, TypeError, UnicodeDecodeError) as error:
        known = ", ".join(f.name for f in fields(Card))
        raise InputError(str(path), f"a model card ({known})", _one_line(error)) from error
    if "generator" not in card.architecture:
        raise InputError(str(path), "an architecture with a generator", list(card.architecture))
    return card


def load(model: str | Path, device: str | torch.device | None = None) -> Generator:
    """A pretrained generator, frozen and in eval mode.

    Args:
        model: name of a shipped model, or a folder with ``card.yaml`` and ``weights.safetensors``.
        device: where to put it; default the CPU.

    Raises:
        InputError: no such model; weights that are missing, truncated, changed or for another architecture.

    >>> load("mnist-vae").latent_shape
    (20,)
    """
    card = read_card(model)
    module = build(card.architecture["generator"])
    _fill(module, read_weights(model, card), "generator", find(model) / WEIGHTS)
    generator = Generator(
        module,
        latent_shape=card.latent_shape,
        output_range=card.output_range,
        start_scale=card.start_scale,
    )
    return generator.eval().requires_grad_(False).to(device or "cpu")


def read_weights(model: str | Path, card: Card) -> dict[str, Tensor]:
    """All tensors of a model, after their checksum was compared with the card's."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    path = find(model) / WEIGHTS
    if not path.is_file():
        raise InputError(str(path), "the model's weights", "no file")
    content = path.read_bytes()
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise InputError(str(path), "a safetensors file", f"a broken one ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.weights_sha256:
        raise InputError(str(path), f"the card's sha256 {card.weights_sha256[:12]}...", f"{digest[:12]}...")
    return tensors


def build(spec: dict[str, Any]) -> nn.Module:
    """The module that a ``{class_path, init_args}`` names; only classes derived from `torch.nn.Module`."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--module", type=nn.Module)
    try:
        return parser.instantiate(parser.parse_object({"module": spec})).module
    except Exception as error:
        raise InputError("architecture", "the class_path and init_args of a module", _one_line(error)) from error


def _fill(module: nn.Module, tensors: dict[str, Tensor], part: str, path: Path) -> None:
    prefix = f"{part}."
    state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(str(path), f"the tensors of the card's {part}", _one_line(error)) from error


def save_model(path: Path, card: Card, networks: dict[str, nn.Module]) -> Card:
    """Write the weights of the networks, each under its part's name, and the card, with their checksum."""
    from safetensors.torch import save

    tensors = {f"{part}.{name}": t.cpu() for part, net in networks.items() for name, t in net.state_dict().items()}
    content = save({name: t.contiguous() for name, t in tensors.items()})
    path.mkdir(parents=True, exist_ok=True)
    (path / WEIGHTS).write_bytes(content)
    card = Card(**{**asdict(card), "weights_sha256": hashlib.sha256(content).hexdigest()})
    (path / CARD).write_text(yaml.safe_dump(asdict(card), sort_keys=False, width=100), encoding="utf-8")
    return card


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:2] or lines)[:200]
