"""The file from which a solve goes on after whatever stopped it, and ends as if nothing had."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.fingerprint import fingerprint, without_addresses
from latentopt.io import write_atomically
from latentopt.pytree import decode, encode
from latentopt.solver.rows import winner
from latentopt.solver.run import Run, Snapshot

_PARTS = ("method", "network", "objective", "penalty", "success test", "feasible set")
"""What of a solve is no setting that could be written down; the file has their fingerprints."""


class Checkpoint:
    """One solve's file: its settings, fingerprints of all else that decides how it goes on, and the last snapshot.

    Args:
        path: where; the folder exists.
        run: the solve, at its start.
        start: what it was told to start from.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(self, path: str | Path, run: Run, start: Tensor | None) -> None:
        self.path, self.run = Path(path), run
        if not self.path.parent.is_dir():
            raise InputError("checkpoint", "a path in an existing folder", str(path))
        problem = run.problem
        flat = {**run.meta, **run.meta["budgets"], **{f"{k}'s version": v for k, v in run.meta["versions"].items()}}
        self.settings: dict[str, Any] = {k: v for k, v in flat.items() if k not in ("budgets", "versions")}
        self.settings |= {"batch": problem.batch, "shape": list(problem.shape), "start": _digest(start)}
        self.settings |= {"dtype": str(problem.like.dtype), "device": problem.like.device.type}
        self.settings["optimizer"] = without_addresses(self.settings["optimizer"])
        self.settings["autocast"] = _autocast(problem.like.device.type)
        parts = (run.optimizer, problem.network, problem.objective, problem.penalty, problem.success, problem.feasible)
        self.identity = dict(zip(_PARTS, map(fingerprint, parts), strict=True))

    def save(self) -> None:
        """Write the run's state, whole or not at all."""
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {}
        code = encode(self.run.snapshot(), tensors)
        texts = {"solve": self.settings, "identity": self.identity, "snapshot": code}
        write_atomically(self.path, save(tensors, {name: json.dumps(text) for name, text in texts.items()}))

    def restore(self) -> None:
        """Put the run into the state that the file holds, if there is a file.

        Raises:
            InputError: it is another solve's, or broken.
        """
        if not self.path.exists():
            return
        settings, identity, code, tensors = self._read()
        differing = [
            f"{key} {settings.get(key)}, not {now}" for key, now in self.settings.items() if settings.get(key) != now
        ]
        differing += [f"another {part}" for part, now in self.identity.items() if identity.get(part) != now]
        if differing:
            raise InputError(str(self.path), "no file, or this solve's", f"that of a solve with {'; '.join(differing)}")
        saved = decode(code, tensors, self.run.snapshot(), self.run.problem.like.device)
        self._check(saved)
        self.run.restore(saved)

    def _read(self) -> tuple[dict[str, Any], dict[str, str], Any, dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                meta = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings, identity, code = (json.loads(meta[name]) for name in ("solve", "identity", "snapshot"))
            return settings, identity, code, tensors
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(str(self.path), "a checkpoint of latentopt", f"another file ({error})") from error

    def _check(self, saved: Snapshot) -> None:
        """Raise `InputError` if network or objective do not return what they did, by what no fingerprint shows."""
        problem = self.run.problem
        first = saved.history["loss"][0, : problem.batch]
        at = winner(saved.rows, self.run.restarts)
        best, samples = saved.rows.best[at], torch.arange(problem.batch, device=at.device)
        now = self.run.of(samples).evaluate(saved.rows.best_x[at]).value
        rounding = torch.finfo(best.dtype).eps ** 0.5 * (first.abs() + best.abs())
        if not bool(((now - best).abs() <= rounding).all()):
            values = f"{best.tolist()} at its best inputs, which are {now.tolist()} here"
            raise InputError(str(self.path), "no file, or this solve's", f"that of another problem: {values}")


def _autocast(device: str) -> str | None:
    """The dtype that operations are cast to by the context of the call."""
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None


def _digest(start: Tensor | None) -> str | None:
    if start is None:
        return None
    return hashlib.sha256(start.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
