"""Which model, and which tensors, a job used: what decides its results, and what its tracked run says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.io import checksum, versions
from latentopt.jobs.components import digest
from latentopt.zoo import cards

TOLD = ("name", "summary", "licence", "training", "quality", "weights_sha256")
"""Fields of a card that say something of the model, but decide nothing."""


def used(model: str) -> dict[str, object]:
    """The checksum of a model's weights, where they are a file of ours or the user's, and the versions of packages.

    >>> used("mnist-vae")["model_sha256"] == cards.read_card("mnist-vae").weights_sha256
    True
    """
    found: dict[str, object] = {"versions": versions()}
    if Path(model).is_file():
        return {"model_sha256": checksum(Path(model)), **found}
    try:
        return {"model_sha256": cards.read_card(model).weights_sha256, **found}
    except InputError:  # torchvision's, or a generator of gymnasium's
        return found


def card_of(model: str) -> dict[str, Any]:
    """All of a model's card that decides what it computes, beside its weights; nothing of a model without a card.

    >>> card_of("mnist-vae")["card.output_range"]
    (0.0, 1.0)
    """
    try:
        fields = asdict(cards.read_card(model))
    except InputError:
        return {}
    return {f"card.{name}": value for name, value in fields.items() if name not in TOLD}


def held(**parts: Any) -> dict[str, str]:
    """A checksum of the tensors in each object that has some: networks of a loss, the matrix of an operator."""
    found = {name: list(_tensors(part, set())) for name, part in parts.items()}
    return {f"{name}_held": digest(tensors) for name, tensors in found.items() if tensors}


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, seen)
    elif type(value).__module__ != "builtins" and hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _tensors(vars(value), seen)
