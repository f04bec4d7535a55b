"""Objects as class paths: how a recipe names an optimiser, an operator or a loss (the convention of jsonargparse)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from latentopt.inverse.initializers import Initializer
from latentopt.inverse.priors import Prior
from latentopt.objectives import Loss
from latentopt.operators import Operator
from latentopt.optimizers import METHODS, method
from latentopt.sets import Box


def describe(value: Any) -> Any:
    """An object as ``{class_path, init_args}``, built from the arguments its class takes; plain values as they are.

    >>> from latentopt.operators import Downsample
    >>> describe(Downsample(4))
    {'class_path': 'latentopt.operators.Downsample', 'init_args': {'factor': 4}}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, Tensor):  # no recipe can hold it; enough to tell one from another
        return f"tensor of shape {tuple(value.shape)}, sha256 {digest([value])}"
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    kind = type(value)
    arguments = inspect.signature(kind).parameters
    init = {name: describe(getattr(value, name)) for name in arguments if hasattr(value, name)}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", **({"init_args": init} if init else {})}


def digest(tensors: Iterable[Tensor]) -> str:
    """A short checksum of what tensors hold, and of their kinds and shapes."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def short_names(job: str) -> dict[str, dict[str, Any]]:
    """For each field of a job's recipe that takes an object, its short names and what they stand for."""
    if job in ("attack", "attack-policy"):  # names that say how many steps there are stay names
        attacks = {name: describe(method(name, Box(0.0, 1.0))) for name in METHODS}
        attacks["adr-gd-soft"] = attacks["adr-gd-soft-attack"]  # its old name in attacks
        return {"optimizer": {"portfolio": "portfolio", **attacks, "fgsm": "fgsm"}}
    if job in ("refine", "train-rl"):  # where a name has step sizes of its own
        return {}
    return {
        "optimizer": {name: describe(preset()) for name, preset in METHODS.items()},
        "operator": _classes(Operator),
        "loss": _classes(Loss),
        "prior": _classes(Prior) | {"anywhere": f"{Prior.__module__}.Unconstrained"},  # its old name
        "start": _classes(Initializer),
    }


def _classes(base: type) -> dict[str, Any]:
    """The package's own classes of a kind: what stands where ``base`` does."""
    found, module = list(base.__subclasses__()), base.__module__
    for kind in found:
        found += kind.__subclasses__()
    return {
        kind.__name__.removesuffix("Prior").lower(): f"{module}.{kind.__qualname__}"
        for kind in found
        if kind.__module__ == module
    }
