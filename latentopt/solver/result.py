"""The result of a solve and its file."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.errors import InputError, LatentOptError
from latentopt.io import write_atomically
from latentopt.networks.freezing import frozen


class Status(enum.IntEnum):
    """Reason why a sample stopped; its best input is returned in any case."""

    SOLVED = 0  # the success test holds on the returned input
    BUDGET = 1  # a budget was spent: steps, evaluations or seconds
    NONFINITE = 2  # every restart met values that are not finite, again after returning to its best point
    STALLED = 3  # every restart stopped, at least one because its objective no longer fell
    STOPPED = 4  # a callback stopped the solve
    DROPPED = 5  # of a restart only: others of its sample were better (`halving`)


@dataclass(frozen=True, eq=False)
class Result:
    """Best input of each of B samples, chosen by the objective among all restarts and iterates."""

    x: Tensor  # (B, *shape) inputs
    value: Tensor  # (B,) objective at x
    output: Tensor  # (B, *out) of the network at x
    status: tuple[Status, ...]  # B reasons why the samples stopped
    restart: Tensor  # (B,) long, the restart that found x
    forwards: Tensor  # (B,) long, of all restarts of the sample
    backwards: Tensor  # (B,) long, of all restarts of the sample
    history: dict[str, Tensor]  # name to (steps, restarts, B), NaN once a restart has stopped; always has "loss"
    meta: dict[str, Any]  # optimizer, steps, restarts, seed, budgets, versions, seconds

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the result to a safetensors file, from which `load` returns it exactly.

        Args:
            path: path of the file, in an existing folder.
            overwrite: whether an existing file is replaced.

        Raises:
            InputError: the file exists and ``overwrite`` is not set, or its folder does not.
        """
        from safetensors.torch import save

        path = Path(path)
        if path.exists() and not overwrite:
            raise InputError(str(path), "a new file, or overwrite=True", "an existing one")
        if not path.parent.is_dir():
            raise InputError(str(path.parent), "an existing folder", "none")
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        tensors |= {f"history/{name}": values for name, values in self.history.items()}
        tensors["status"] = torch.tensor(self.status)
        separate = {name: t.cpu().contiguous().clone() for name, t in tensors.items()}
        write_atomically(path, save(separate, {"meta": json.dumps(self.meta)}))

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Return a result that `save` wrote.

        Args:
            path: path of the file.

        Raises:
            InputError: there is no such file, or `save` did not write it.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise InputError(str(path), "a file", "none")
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                meta = json.loads(file.metadata()["meta"])
            history = {n.removeprefix("history/"): tensors.pop(n) for n in list(tensors) if n.startswith("history/")}
            status = tuple(Status(code) for code in tensors.pop("status").tolist())
            return cls(**tensors, status=status, history=history, meta=meta)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(str(path), "a result saved by latentopt", f"another file ({error})") from error

    def verify(self, network: nn.Module, tolerance: float = 1e-5) -> None:
        """Check that a network returns `output` for `x`.

        Args:
            network: maps `x` to (B, *out).
            tolerance: greatest difference of an output.

        Raises:
            LatentOptError: an output differs by more.
        """
        with frozen(network), torch.no_grad():
            output = network(self.x)
        if output.shape != self.output.shape:
            shapes = f"{tuple(output.shape)}, the saved one {tuple(self.output.shape)}"
            raise LatentOptError(f"the network's output has shape {shapes}: another network?")
        error = (output - self.output).abs().max().item()
        if not error <= tolerance:
            raise LatentOptError(f"the network's output differs from the saved one by {error:.3g}: other weights?")
