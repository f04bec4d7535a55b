"""Distributions of latents in cards and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, Transform

from latentopt.components.numbers import parse_fractions
from latentopt.components.trust import import_class
from latentopt.errors import InputError, first_line
from latentopt.files import read_array
from latentopt.networks.conditions import names_array
from latentopt.networks.latent_sources import LatentsArgument, MappedLatents
from latentopt.zoo.building import build_module

NAMES = ("latents", "w", "z", "x")
"""Names of the latents in a file of several arrays."""


def read_latents(
    spec: Any, latent_shape: Any = None, folder: Path = Path(), mapping: nn.Module | None = None
) -> LatentsArgument:
    """Return what `latentopt.Generator` takes as ``latents``.

    Args:
        spec: None; the path of an array file, a sample (N, *latent_shape); ``{mean, std}``, numbers, lists or array
            files; ``{class_path, init_args}`` of a distribution of torch, whose arguments are such numbers or
            distributions, or of a class with draw, mean and scale; or the arguments of `latentopt.MappedLatents`, whose
            ``mapping`` is a ``{class_path, init_args, weights}``. Or a mapping of these by the names of the parts.
            Other objects are returned as they are.
        latent_shape: of the generator, by name where it has parts.
        folder: folder of the files.
        mapping: mapping network of the model, where its architecture has one.

    Raises:
        InputError: it is none of these.
    """
    if names_array(spec):
        return torch.from_numpy(np.array(read_array(folder / spec, *NAMES)))
    if isinstance(spec, str):
        raise InputError("latents", "an array file, mean and std, or class_path and init_args", repr(spec))
    if not isinstance(spec, Mapping):
        return spec
    keys, parts = set(map(str, spec)), set(latent_shape if isinstance(latent_shape, Mapping) else ())
    if keys and keys <= parts:
        return {name: read_latents(value, None, folder, mapping) for name, value in spec.items()}
    if keys and keys <= {"mean", "std"}:
        mean, std = (_numbers(f"latents.{name}", spec.get(name, default), folder) for name, default in _STANDARD)
        if not bool(mean.isfinite().all()):
            raise InputError("latents.mean", "finite numbers", "NaN or infinity")
        if not bool((std > 0).all()):
            raise InputError("latents.std", "numbers > 0", float(std.min()))
        try:
            return Normal(*torch.broadcast_tensors(mean, std))
        except RuntimeError as error:
            expected = f"one number, or numbers of the mean's shape {tuple(mean.shape)}"
            raise InputError("latents.std", expected, f"shape {tuple(std.shape)}") from error
    if "class_path" in keys and keys <= {"class_path", "init_args"}:
        return _distribution(spec, folder)
    if "latent_shape" in keys and keys <= {"mapping", "latent_shape", "copies", "truncation"}:
        network = build_module(spec["mapping"], folder) if isinstance(spec.get("mapping"), Mapping) else mapping
        if network is None:
            raise InputError("latents.mapping", "class_path, init_args and weights of a mapping network", "none")
        return MappedLatents(network, **parse_fractions({k: v for k, v in spec.items() if k != "mapping"}))
    expected = "mean and std; class_path and init_args; mapping, latent_shape, copies and truncation"
    expected += f"; or the parts {', '.join(sorted(parts))}" if parts else ""
    raise InputError("latents", expected, ", ".join(sorted(keys)) or "nothing")


def _distribution(spec: Mapping[str, Any], folder: Path) -> Any:
    """Return the object of a trusted class, whose arguments are built first."""
    kind, arguments = import_class(str(spec["class_path"])), spec.get("init_args") or {}
    if not issubclass(kind, Distribution | Transform) and not hasattr(kind, "draw"):
        raise InputError("class_path", "a distribution of torch, or a class with draw, mean and scale", kind.__name__)
    if not isinstance(arguments, Mapping):
        raise InputError("init_args", "arguments by name", repr(arguments))
    try:
        return kind(**{name: _argument(name, value, folder) for name, value in arguments.items()})
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("init_args", f"the arguments of {kind.__name__}", first_line(error)) from error


def _argument(name: str, value: Any, folder: Path) -> Any:
    """Return an argument of a distribution: numbers in lists and files as a tensor."""
    if isinstance(value, Mapping) and "class_path" in value:
        return _distribution(value, folder)
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [_argument(name, item, folder) for item in value]
    return _numbers(name, value, folder) if isinstance(value, list) or names_array(value) else parse_fractions(value)


_STANDARD = (("mean", 0.0), ("std", 1.0))


def _numbers(name: str, value: Any, folder: Path) -> Tensor:
    """Return a number, a list or an array file as a tensor of floats."""
    try:
        array = read_array(folder / value, *NAMES) if names_array(value) else np.array(parse_fractions(value))
        return torch.from_numpy(np.array(array, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(name, "a number, a list of numbers or an array file", repr(value)) from error
