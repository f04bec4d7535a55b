"""Model cards: a folder ``<name>/`` with ``card.yaml`` and ``weights.safetensors``, read and written here."""

from __future__ import annotations

import hashlib
import re
from argparse import ArgumentError
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
import yaml
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.generator import Generator
from latentopt.networks.wrappers import Classifier
from latentopt.zoo import torchvision_models
from latentopt.zoo.content import folder
from latentopt.zoo.plain_yaml import read_yaml
from latentopt.zoo.trusted import only_trusted, refusal
from latentopt.zoo.weights import fill, one_line, parse_safetensors

WEIGHTS, CARD = "weights.safetensors", "card.yaml"
FREE = ("architecture", "training", "quality")
"""What of a card holds whatever it says: nothing in there is parsed."""
N = TypeVar("N", bound=nn.Module)
C = TypeVar("C", bound="Card")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a pretrained model is and how good it was measured to be; a kind adds the settings of its wrapper."""

    part: ClassVar[str]  # of the architecture that makes a model one of this kind
    extras: ClassVar[tuple[str, ...]] = ()  # other parts that the wrapper takes
    wrapper: ClassVar[Callable[..., Generator | Classifier]]

    name: str
    summary: str
    architecture: dict[str, dict[str, Any]]  # part to class_path and init_args
    weights_sha256: str = ""
    licence: str = "MIT"
    training: dict[str, Any] = field(default_factory=dict)  # recipe, data, seed, epochs, seconds, versions
    quality: dict[str, Any] = field(default_factory=dict)  # measured figures and the command that measures them

    def wrapped(self, module: nn.Module, **extras: nn.Module) -> Generator | Classifier:
        """The model around the module of its `part`, and its `extras`."""
        common = {f.name for f in fields(Card)}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in common}
        return type(self).wrapper(module, **own, **extras)


@dataclass(frozen=True, kw_only=True)
class GeneratorCard(Card):
    """The card of a `latentopt.Generator`."""

    part, extras, wrapper = "generator", ("encoder",), Generator

    latent_shape: list[int]
    output_range: tuple[float, float]  # what the generator's module emits
    start_scale: float


@dataclass(frozen=True, kw_only=True)
class ClassifierCard(Card):
    """The card of a `latentopt.Classifier`."""

    part, wrapper = "classifier", Classifier

    input_shape: list[int]
    mean: float | list[float]  # in units of the input, like std
    std: float | list[float]
    classes: list[str]
    input_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class PolicyCard(ClassifierCard):
    """The card of a policy of images: a `latentopt.Classifier` of observations, whose classes are actions."""

    part = "policy"


def names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in folder("models").glob(f"*/{CARD}"))


def check_name(name: str) -> None:
    """Raise `InputError` unless ``name`` can be a model's: a folder's, an artifact's, and no path."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        expected = "letters, digits, dots, dashes and underscores, the first a letter or a digit"
        raise InputError("name", expected, repr(name))


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
        content = read_yaml(path, "a model card")
        kind = _kind(content)
        free = {name: _mapping(name, content[name]) for name in FREE if name in content}
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--card", type=kind)
        plain = {**content, **{name: {} for name in free}}  # to look at a card must build nothing
        with only_trusted():
            return replace(parser.instantiate(parser.parse_object({"card": plain})).card, **free)
    except (ArgumentError, TypeError) as error:
        raise InputError(str(path), "a model card", one_line(error)) from error


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} has to be a mapping of names, but is {value!r}")
    return value


def _kind(content: Any) -> type[Card]:
    """Whose card the content of a file is: the architecture says it.

    Raises:
        TypeError: it is nobody's.
    """
    architecture = content.get("architecture") if isinstance(content, dict) else None
    if isinstance(architecture, dict) and all(isinstance(spec, dict) for spec in architecture.values()):
        for kind in (GeneratorCard, ClassifierCard, PolicyCard):
            if kind.part in architecture:
                return kind
    raise TypeError(f"no architecture with a generator, a classifier or a policy, but {architecture}")


def load(model: str | Path, device: str | torch.device | None = None) -> Generator | Classifier:
    """A pretrained model, frozen and in eval mode.

    Args:
        model: name of a shipped model; a folder with ``card.yaml`` and ``weights.safetensors``; or a classifier of
            torchvision with its official weights, ``torchvision/resnet18``, which are downloaded once.
        device: where to put it; default the CPU.

    Raises:
        InputError: no such model; weights that are missing, truncated, changed or for another architecture.

    >>> load("mnist-vae").latent_shape
    (20,)
    >>> load("mnist-cnn").input_shape
    (1, 28, 28)
    """
    if str(model).startswith(torchvision_models.PREFIX):
        return load_classifier(model, device)
    card = read_card(model)
    tensors, parts = read_weights(model, card), dict[str, nn.Module]()
    for part in (card.part, *(extra for extra in card.extras if extra in card.architecture)):
        parts[part], prefix = build(card.architecture[part]), f"{part}."
        state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        fill(parts[part], state, find(model) / WEIGHTS, f"the card's {part}")
    return _ready(card.wrapped(parts.pop(card.part), **parts), device)


def load_generator(model: str | Path, device: str | torch.device | None = None) -> Generator:
    """`load`, of a generator.

    Raises:
        InputError: as `load`; or it is a classifier.
    """
    network = load(model, device)
    if not isinstance(network, Generator):
        raise InputError("model", "a generator", f"the classifier {str(model)!r}")
    return network


def load_classifier(
    model: str | Path, device: str | torch.device | None = None, weights: str | Path | None = None
) -> Classifier:
    """`load`, of a classifier.

    Args:
        model, device: as in `load`.
        weights: of a classifier of torchvision: a file with its state dict, ``.safetensors`` or what ``torch.save``
            writes. Default: the official ones.

    Raises:
        InputError: as `load`; it is a generator; or the weights are not there, or not of this network.
    """
    prefix = torchvision_models.PREFIX
    if str(model).startswith(prefix):
        return _ready(torchvision_models.classifier(str(model).removeprefix(prefix), weights), device)
    if weights is not None:
        raise InputError("weights", "none, as the model has its own", str(weights))
    network = load(model, device)
    if not isinstance(network, Classifier):
        raise InputError("model", "a classifier", f"the generator {str(model)!r}")
    return network


def _ready(network: N, device: str | torch.device | None) -> N:
    return network.eval().requires_grad_(False).to(device or "cpu")


def read_weights(model: str | Path, card: Card) -> dict[str, Tensor]:
    """All tensors of a model, after their checksum was compared with the card's."""
    path = find(model) / WEIGHTS
    if not path.is_file():
        raise InputError(str(path), "the model's weights", "no file")
    content = path.read_bytes()
    tensors = parse_safetensors(path, content)
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.weights_sha256:
        raise InputError(str(path), f"the card's sha256 {card.weights_sha256[:12]}...", f"{digest[:12]}...")
    return tensors


def build(spec: dict[str, Any]) -> nn.Module:
    """The module that a ``{class_path, init_args}`` names: only a trusted class derived from `torch.nn.Module`.

    Raises:
        InputError: it names another object, or one that may not be named (`latentopt.trust`), or cannot be built.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--module", type=nn.Module)
    try:
        with only_trusted():
            return parser.instantiate(parser.parse_object({"module": spec})).module
    except Exception as error:
        raise refusal(error) or _not_built(spec, error) from error


def _not_built(spec: dict[str, Any], error: Exception) -> InputError:
    owner = str(spec.get("class_path", "")).split(".")[0]
    if owner and find_spec(owner) is None:
        came = f"{spec['class_path']}: no module named {owner} (install it, or put its folder on PYTHONPATH)"
        return InputError("architecture", "a class that can be imported", came)
    return InputError("architecture", "the class_path and init_args of a module", one_line(error))


def save_model(path: Path, card: C, networks: dict[str, nn.Module]) -> C:
    """Write the weights of the networks, each under its part's name, and the card, with their checksum."""
    from safetensors.torch import save

    tensors = {f"{part}.{name}": t.cpu() for part, net in networks.items() for name, t in net.state_dict().items()}
    content = save({name: t.contiguous() for name, t in tensors.items()})
    path.mkdir(parents=True, exist_ok=True)
    (path / WEIGHTS).write_bytes(content)
    card = replace(card, weights_sha256=hashlib.sha256(content).hexdigest())
    (path / CARD).write_text(yaml.safe_dump(asdict(card), sort_keys=False, width=100), encoding="utf-8")
    return card
