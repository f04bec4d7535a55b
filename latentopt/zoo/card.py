"""Model cards: ``card.yaml`` beside ``weights.safetensors`` in a model's folder, read without importing torch.

No import below ``if TYPE_CHECKING`` here: jsonargparse runs those when it reads the types of a card.
"""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from latentopt.components.numbers import parse_fractions
from latentopt.components.trust import EXPECTED, may_be_imported, only_trusted, trusted
from latentopt.errors import InputError, with_nearest
from latentopt.files import is_file
from latentopt.io import checksum
from latentopt.zoo.parse_errors import error_line
from latentopt.zoo.paths import shipped_folder
from latentopt.zoo.strict_yaml import read_yaml

WEIGHTS, CARD, TRAINED_ENCODER = "weights.safetensors", "card.yaml", "encoder.safetensors"
FOREIGN = {
    "taesd:": "latentopt.zoo.tiny_autoencoders",
    "diffusers:": "latentopt.zoo.diffusers_autoencoders",
    "stylegan2:": "latentopt.zoo.stylegan2.checkpoints",
}
"""Modules that read models of other projects, by the prefix of their names."""
FREE = ("architecture", "training", "quality")
"""Fields of a card whose content is free: it is not parsed."""
STYLEGAN2, SPACES = "latentopt.zoo.stylegan2.", ("z", "w", "w+")
SPACE_SETTINGS = ("space", "noise")
"""Begin of the class paths of StyleGAN2, and its latent spaces."""
UNPARSED = ("latents",)
"""Fields that the model's loader reads."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A pretrained model's description and measured quality; each kind adds the settings of its wrapper."""

    part: ClassVar[str]  # part of the architecture that identifies the kind
    extras: ClassVar[tuple[str, ...]] = ()  # other parts that the wrapper takes

    name: str
    summary: str
    architecture: dict[str, dict[str, Any]]  # part to class_path and init_args
    weights_sha256: str = ""
    licence: str = "MIT"
    training: dict[str, Any] = field(default_factory=dict)  # recipe, data, seed, epochs, seconds, versions
    quality: dict[str, Any] = field(default_factory=dict)  # measured figures and the command that measures them

    @staticmethod
    def wrapper() -> Callable[..., Any]:
        """Return the class of the model."""
        raise NotImplementedError

    def wrap(self, module: Any, folder: Path = Path(), **extras: Any) -> Any:
        """Build the model around the module of its `part`, and its `extras`; files are those of a folder."""
        common = {*(f.name for f in fields(Card)), "conditions", "constants", "space", "noise", *extras}
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in common}
        own = {name: None if value == [] else value for name, value in values.items()}
        return self.wrapper()(module, **own, **extras)


@dataclass(frozen=True, kw_only=True)
class GeneratorCard(Card):
    """The card of a `latentopt.Generator`."""

    part, extras = "generator", ("encoder", "mapping")

    latent_shape: list[int] | dict[str, list[int]]  # of one latent, or of several by name
    output_range: tuple[float, float]  # of the generator's module
    start_scale: float
    pick: int | str | None = None  # index or name of the images among several outputs
    latents: Any = None  # distribution of the latents, as `latentopt.zoo.latents.read_latents` has it
    conditions: dict[str, Any] = field(default_factory=dict)  # by name: numbers, lists or files, one or one a sample
    constants: dict[str, Any] = field(default_factory=dict)  # further arguments of the forward, passed as they are
    space: str | None = None  # of a StyleGAN2: z, w or w+ in place of latent_shape; None: z
    noise: bool = False  # of a StyleGAN2: whether its noise maps are latents too

    @staticmethod
    def wrapper() -> Callable[..., Any]:
        from latentopt.networks.generator import Generator

        return Generator

    def wrap(self, module: Any, folder: Path = Path(), mapping: Any = None, **extras: Any) -> Any:
        from latentopt.networks.conditions import as_conditions
        from latentopt.zoo.latents import read_latents

        latents = read_latents(self.latents, self.latent_shape, folder, mapping)
        generator = super().wrap(module, folder, latents=latents, **extras)
        if self.space is not None or self.noise:
            from latentopt.zoo.stylegan2.spaces import in_space

            generator = in_space(generator, self.space or "z", noise=self.noise)
        return generator.given(**as_conditions(self.conditions, folder), **self.constants)


@dataclass(frozen=True, kw_only=True)
class ClassifierCard(Card):
    """The card of a `latentopt.Classifier`."""

    part = "classifier"

    input_shape: list[int]  # empty: any
    mean: float | list[float]  # in units of the input, like std
    std: float | list[float]
    classes: list[str]  # empty: without names
    input_range: tuple[float, float] = (0.0, 1.0)

    @staticmethod
    def wrapper() -> Callable[..., Any]:
        from latentopt.networks.classifier import Classifier

        return Classifier


@dataclass(frozen=True, kw_only=True)
class PolicyCard(ClassifierCard):
    """The card of a policy of images: a `latentopt.Classifier` of observations, whose classes are actions."""

    part = "policy"


def names() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(path.parent.name for path in shipped_folder("models").glob(f"*/{CARD}"))


def check_name(name: str) -> None:
    """Raise `InputError` unless ``name`` can be a model's: a folder's, an artifact's, and no path."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        expected = "letters, digits, dots, dashes and underscores, the first a letter or a digit"
        raise InputError("name", expected, repr(name))


def find(model: str | Path) -> Path:
    """Find the folder of a model: a shipped model's name, or a folder that holds a card.

    Raises:
        InputError: there is no such model.
    """
    shipped = [shipped_folder("models") / model] if str(model) in names() else []
    for path in (*shipped, Path(model)):
        if is_file(path / CARD):
            return path
    expected = f"a model ({', '.join(names()) or 'none is shipped'}) or a folder with a {CARD}"
    raise InputError("model", expected, with_nearest(str(model), names()))


def read_foreign(model: object) -> tuple[dict[str, Any], Callable[[], Mapping[str, Any]]] | None:
    """Return the content of a card of a model of another project, and a function that reads the tensors.

    Returns:
        None: it is no model of another project.

    Raises:
        InputError: there is no such model, or it has another architecture.
    """
    for prefix, module in FOREIGN.items():
        if str(model).startswith(prefix):
            return import_module(module).read_model(model)
    return None


def model_name(model: str | Path | Mapping[str, Any]) -> str:
    """Return what messages and titles call a model: its name or folder, or its class path."""
    return str(model.get("name", model.get("class_path")) if isinstance(model, Mapping) else model)


def named(model: object) -> Any:
    """Return the name in a model with a space, ``{name: ..., space: w+, noise: true}``; other models as they are."""
    return model["name"] if isinstance(model, Mapping) and "name" in model else model


def _in_space(model: Mapping[str, Any]) -> Card:
    """Return the card of a model by name, in another space."""
    known = ["name", *SPACE_SETTINGS]
    if unknown := sorted(set(map(str, model)) - set(known)):
        raise InputError("model", ", ".join(known), with_nearest(unknown[0], known))
    space, noise = model.get("space", "z"), model.get("noise", False)
    if space not in SPACES:
        raise InputError("space", f"one of {', '.join(SPACES)}", repr(space))
    if not isinstance(noise, bool):
        raise InputError("noise", "true or false", repr(noise))
    card = read_card(model["name"])
    if not isinstance(card, GeneratorCard) or not str(card.architecture[card.part].get("class_path")).startswith(
        STYLEGAN2
    ):
        raise InputError("model", "a StyleGAN2, where there is a space", model_name(model))
    return replace(card, **{"space": space, "noise": noise})


def _inline(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a card for a model that is given by its class path, weights and settings.

    Raises:
        InputError: a key is missing or unknown, the class is not trusted, or there is no such file of weights.
    """
    if set(model) <= set(SPACE_SETTINGS):
        expected = "a model's name too, as in --model.name mnist-stylegan2 --model.space w+"
        raise InputError("model", expected, ", ".join(sorted(model)) or "nothing")
    kind = GeneratorCard if "latent_shape" in model else ClassifierCard
    known_keys = {"class_path", "init_args", "weights"}
    own = {f.name for f in fields(kind)} - {f.name for f in fields(Card)}
    if unknown := sorted(set(map(str, model)) - known_keys - own):
        keys = sorted(known_keys | own | {"latent_shape"})
        raise InputError("model", ", ".join(keys), with_nearest(unknown[0], keys))
    path, weights = model.get("class_path"), model.get("weights")
    if not isinstance(path, str) or not may_be_imported(path):
        raise InputError("model", EXPECTED, repr(path))
    if weights is not None and not (isinstance(weights, str) and is_file(weights)):
        raise InputError("weights", "a file with a state dict", repr(weights))
    architecture = {kind.part: {"class_path": path, "init_args": parse_fractions(model.get("init_args") or {})}}
    settings = {key: parse_fractions(value) for key, value in model.items() if key in own}
    default = {"output_range": (0.0, 1.0), "start_scale": 1.0}
    default = default if kind is GeneratorCard else {"mean": 0.0, "std": 1.0, "input_shape": [], "classes": []}
    digest = {} if weights is None else {"weights_sha256": checksum(Path(weights))}
    return {"name": path, "summary": "", "architecture": architecture, **default, **settings, **digest}


def read_card(model: str | Path | Mapping[str, Any]) -> Card:
    """Read the card of a model, by name or folder, or make one from a class path with weights and settings.

    Raises:
        InputError: there is no such model, or its card is invalid.
    """
    if isinstance(model, Mapping) and "name" in model:
        return _in_space(model)
    foreign = read_foreign(model)
    path = Path(model_name(model)) if foreign or isinstance(model, Mapping) else find(model) / CARD
    try:
        content = (
            foreign[0] if foreign else _inline(model) if isinstance(model, Mapping) else read_yaml(path, "a model card")
        )
        return _parse(content)
    except (ArgumentError, TypeError) as error:
        raise InputError(
            "model" if isinstance(model, Mapping) else str(path), "a model card", error_line(error)
        ) from error


_PARSED: dict[tuple[type[Card], str, tuple[str, ...]], Card] = {}
"""Cards by their content and the trusted packages: a job reads the same one several times."""


def _parse(content: Any) -> Card:
    """Return the card with the content of a file."""
    kind = _kind(content)
    free = {name: _mapping(name, content[name]) for name in FREE if name in content}
    unparsed = {name: content[name] for name in UNPARSED if name in content}
    plain = {**content, **{name: {} for name in free}, **dict.fromkeys(unparsed)}  # to look builds nothing
    key = kind, repr(plain), trusted()
    if key not in _PARSED:
        parser = _parser(kind)
        with only_trusted():
            _PARSED[key] = parser.instantiate(parser.parse_object({"card": plain})).card
    return replace(_PARSED[key], **free, **unparsed)


@cache
def _parser(kind: type[Card]) -> Any:
    """Return the parser of a kind of card; making one costs more than reading with it."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--card", type=kind)
    return parser


def require_card(model: str | Path | Mapping[str, Any], kind: type[Card]) -> Card:
    """Return the card of a model of a kind.

    Raises:
        InputError: there is no such model, it has no weights, or it is of another kind.
    """
    card = read_card(model)
    if not isinstance(card, kind):
        owner = "generator" if isinstance(card, GeneratorCard) else card.part
        raise InputError("model", f"a {kind.part}", f"the {owner} {model_name(model)!r}")
    model = named(model)
    if isinstance(model, Mapping) or read_foreign(model):
        return card
    if not (path := find(model) / WEIGHTS).is_file():
        raise InputError(str(path), "the model's weights", "no file")
    return card


def require_classifier(model: str | Path | Mapping[str, Any], weights: str | Path | None = None) -> None:
    """Raise `InputError` unless there is a classifier, and a file of weights where one of torchvision has some."""
    if not str(model).startswith("torchvision/"):
        require_card(model, ClassifierCard)
        if weights is not None:
            raise InputError("weights", "none, as the model has its own", repr(weights))
    elif weights is not None and not is_file(weights):
        raise InputError("weights", "a file with a state dict", repr(weights))


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} has to be a mapping of names, but is {value!r}")
    return value


def _kind(content: Any) -> type[Card]:
    """Return the kind of card that the architecture in a file's content belongs to.

    Raises:
        TypeError: it belongs to none.
    """
    architecture = content.get("architecture") if isinstance(content, dict) else None
    if isinstance(architecture, dict) and all(isinstance(spec, dict) for spec in architecture.values()):
        for kind in (GeneratorCard, ClassifierCard, PolicyCard):
            if kind.part in architecture:
                return kind
    raise TypeError(f"no architecture with a generator, a classifier or a policy, but {architecture}")
