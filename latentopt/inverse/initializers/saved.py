"""Starts of a file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, warn
from latentopt.files import FileWarning, read_array, read_metadata
from latentopt.inverse.initializers.base import FittedInitializer, Initializer
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.generator import Generator

HELD = ("latents", "x", "w", "z")
"""Names of the latents in a file of several arrays."""


@checked
@dataclass(frozen=True, eq=False)
class Saved(Initializer):
    """Latents of a file, one for each target; each is the first start, and the only one.

    Args:
        path: path of ``latents.safetensors`` of a job, of a saved `Result`, or of an array file (N, *latent_shape).

    Raises:
        InputError: the file has no latents.
    """

    path: str | Path
    _latents = torch.empty(0)  # (N, *latent_shape) (no annotation: no argument)
    _about = MappingProxyType(dict[str, Any]())  # of the file: names of targets, their space, the job

    def __post_init__(self) -> None:
        latents = torch.from_numpy(np.array(read_array(Path(self.path), *HELD)))
        if latents.ndim < 2 or not len(latents) or not latents.is_floating_point():
            got = f"{latents.dtype} of shape {tuple(latents.shape)}"
            raise InputError(str(self.path), "latents (N, *latent_shape), floating point", got)
        if not bool(latents.isfinite().all()):
            raise InputError(str(self.path), "finite latents", "NaN or infinity")
        object.__setattr__(self, "_latents", latents)
        object.__setattr__(self, "_about", json.loads(read_metadata(Path(self.path)).get("meta", "{}")))

    def take(self, rows: Tensor) -> Saved:
        """Return the latents of some targets."""
        taken = copy.copy(self)
        object.__setattr__(taken, "_latents", self._latents[rows.cpu()])
        return taken

    def of_targets(self, names: Sequence[str], weights: str | None) -> Saved:
        """Return the latents of named targets: by their names, where the file has them all, else in order.

        Args:
            names: of the targets.
            weights: checksum of the generator's weights; None: unknown.

        Raises:
            InputError: it has neither these names nor as many latents.

        Warns:
            FileWarning: a job with another model wrote the latents.
        """
        job = self._about.get("job") or {}
        if weights and job.get("weights") and job["weights"] != weights:
            warn(f"{self.path} has latents of another model: {job.get('model')}", FileWarning)
        stored: list[str] = list(self._about.get("names") or ())
        if len(stored) == len(self._latents) and set(names) <= set(stored):
            return self.take(torch.tensor([stored.index(name) for name in names], device="cpu"))
        if len(self._latents) != len(names):
            raise InputError(
                "start", f"{len(names)} latents, one for each target", f"{len(self._latents)} in {self.path}"
            )
        return self

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:
        """Raise `InputError` unless the latents are of the generator's shape, and of its space if that is known."""
        if tuple(self._latents.shape[1:]) != generator.latent_shape:
            raise InputError("start", f"latents of shape {generator.latent_shape}", tuple(self._latents.shape[1:]))
        generator.require_space("start", self._about.get("space"), str(self.path))

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        self.check(generator, operator)
        return FittedSaved(self._latents)


@dataclass(frozen=True, eq=False)
class FittedSaved(FittedInitializer):
    """Latents (B, *latent_shape) of the targets of one problem; for another attempt there are none."""

    latents: Tensor
    forwards: int = 0

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        latents = self.latents.to(problem.like)
        if spread != 1.0:
            return latents.new_empty(0, problem.batch, *problem.shape)
        if len(latents) != problem.batch:
            raise InputError("start", f"{problem.batch} latents, one for each target", len(latents))
        return latents[None]
