"""The file from which an interrupted solve goes on, to end exactly as it would have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.files import require_file, writing
from latentopt.fingerprint import fingerprint, without_addresses
from latentopt.io import write_atomically
from latentopt.pytree import decode, encode
from latentopt.solver.solver import Solver
from latentopt.solver.state import SolverState, best_rows

_PARTS = {
    "network": "network",
    "objective": "objective",
    "penalty": "penalty",
    "success": "success test",
    "feasible": "feasible set",
}
"""Parts of a problem that cannot be written down, and their names in messages; the file has their fingerprints."""


class Checkpoint:
    """The file of one solve: its settings, fingerprints of all else that decides how it goes on, and its state.

    Args:
        path: path of the file, in an existing folder.
        solver: the solve, before its first step.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(self, path: str | Path, solver: Solver) -> None:
        self.path, self.solver = Path(path), solver
        if not self.path.parent.is_dir():
            raise InputError("checkpoint", "a path in an existing folder", str(path))
        problem, meta = solver.problem, solver.meta
        flat = {**meta, **meta["budgets"], **{f"{k}'s version": v for k, v in meta["versions"].items()}}
        self.settings: dict[str, Any] = {k: v for k, v in flat.items() if k not in ("budgets", "versions")}
        self.settings |= {"batch": problem.batch, "shape": list(problem.shape), "start": _digest(solver.start)}
        self.settings |= {"dtype": str(problem.like.dtype), "device": problem.like.device.type}
        self.settings["optimizer"] = without_addresses(self.settings["optimizer"])
        self.settings["autocast"] = _autocast(problem.like.device.type)
        parts = {name: fingerprint(getattr(problem, attribute)) for attribute, name in _PARTS.items()}
        self.identity = {"method": fingerprint(solver.optimizer), **parts}

    def save(self) -> None:
        """Write the state, whole or not at all."""
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {}
        state = encode(self.solver.snapshot(), tensors)
        texts = {"solve": self.settings, "identity": self.identity, "state": state}
        content = save(tensors, {name: json.dumps(text) for name, text in texts.items()})
        with writing("checkpoint", self.path, "a file"):
            write_atomically(self.path, content)

    def restore(self) -> None:
        """Put the solve into the state that the file holds, if there is a file.

        Raises:
            InputError: it is another solve's, or broken.
        """
        with writing("checkpoint", self.path, "a file"):
            if not self.path.exists():
                return
        require_file(self.path, "no file, or a checkpoint of latentopt")
        settings, identity, code, tensors = self._read()
        differing = [
            f"{key} {settings.get(key)}, not {now}" for key, now in self.settings.items() if settings.get(key) != now
        ]
        differing += [f"another {part}" for part, now in self.identity.items() if identity.get(part) != now]
        if differing:
            raise InputError(str(self.path), "no file, or this solve's", f"that of a solve with {'; '.join(differing)}")
        state = decode(code, tensors, self.solver.snapshot(), self.solver.problem.like.device)
        self._require_same_values(state)
        self.solver.restore(state)

    def _read(self) -> tuple[dict[str, Any], dict[str, str], Any, dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                meta = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings, identity, code = (json.loads(meta[name]) for name in ("solve", "identity", "state"))
            return settings, identity, code, tensors
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(str(self.path), "a checkpoint of latentopt", f"another file ({error})") from error

    def _require_same_values(self, state: SolverState) -> None:
        """Raise `InputError` if network or objective return other values, for a reason that no fingerprint shows."""
        batch = self.solver.problem.batch
        first = state.history["loss"][0, :batch]
        winners = best_rows(state.stopped, self.solver.settings.restarts)
        best, samples = state.stopped.best[winners], torch.arange(batch, device=winners.device)
        now = self.solver.batch_of(samples).evaluate(state.stopped.best_x[winners]).value
        rounding = torch.finfo(best.dtype).eps ** 0.5 * (first.abs() + best.abs())
        if not bool(((now - best).abs() <= rounding).all()):
            values = f"{best.tolist()} at its best inputs, which are {now.tolist()} here"
            raise InputError(str(self.path), "no file, or this solve's", f"that of another problem: {values}")


def _autocast(device: str) -> str | None:
    """Return the dtype that an autocast around the call casts operations to."""
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None


def _digest(start: Tensor | None) -> str | None:
    if start is None:
        return None
    return hashlib.sha256(start.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
