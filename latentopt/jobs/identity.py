"""Identity of the models and tensors that decide the results of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentopt.components import digest
from latentopt.errors import InputError
from latentopt.files import is_file
from latentopt.io import checksum, versions
from latentopt.zoo import cards

DESCRIPTIVE_FIELDS = ("name", "summary", "licence", "training", "quality", "weights_sha256")
"""Fields of a card that do not decide what the model computes; the weights have a checksum of their own."""


def describe_model(model: str | Mapping[str, Any]) -> dict[str, object]:
    """Return the checksum of a model's weights, if they are a local file, and the versions of packages.

    >>> describe_model("mnist-vae")["model_sha256"] == cards.read_card("mnist-vae").weights_sha256
    True
    """
    description: dict[str, object] = {"versions": versions()}
    if isinstance(model, str) and is_file(model):
        return {"model_sha256": checksum(Path(model)), **description}
    try:
        return {"model_sha256": cards.read_card(model).weights_sha256, **description}
    except InputError:  # torchvision's, or a generator of gymnasium's
        return description


def describe_card(model: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a model's card that decide what it computes; empty for a model without a card.

    >>> describe_card("mnist-vae")["card.output_range"]
    (0.0, 1.0)
    """
    try:
        fields = asdict(cards.read_card(model))
    except InputError:
        return {}
    return {f"card.{name}": value for name, value in fields.items() if name not in DESCRIPTIVE_FIELDS}


def digest_tensors(**parts: Any) -> dict[str, str]:
    """Return a checksum of the tensors in each object that has some, such as the networks of a loss."""
    tensors = {name: list(_find_tensors(part, set())) for name, part in parts.items()}
    return {f"{name}_held": digest(values) for name, values in tensors.items() if values}


def _find_tensors(value: Any, visited: set[int]) -> Iterator[Tensor]:
    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _find_tensors(item, visited)
    elif type(value).__module__ != "builtins" and hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _find_tensors(vars(value), visited)
