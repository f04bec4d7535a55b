"""A job's folder: which job it holds, what is done, and the results in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latentopt.errors import InputError
from latentopt.io import write_atomically, write_csv
from latentopt.jobs.lifetime import LOCK, lock
from latentopt.rehearsal import begin

RECIPE, RESULTS, SKIPPED, SHARDS, JOB = "recipe.yaml", "results.csv", "skipped.csv", "shards", "job.json"
WHERE_ONLY = ("out", "wandb", "device", "batch_size", "devices", "strategy", "num_nodes")
"""Settings that say where and how a job runs, not what it computes."""


@dataclass(frozen=True)
class Shard:
    """What one batch gave."""

    names: list[str]  # n
    rows: list[dict[str, Any]]  # n, the rows of the results table
    tensors: dict[str, Tensor]  # "index" (n,) long, what the job keeps (n, *shape), and what its pictures need
    notes: Sequence[str] = ()  # what its user should know
    rank: int = 0  # of the process that did it
    step: int | None = None  # how many steps that process had tracked by then


def what(recipe: dict[str, Any]) -> dict[str, Any]:
    """What a job computes, of its settings, as JSON has it."""
    return json.loads(json.dumps({key: value for key, value in recipe.items() if key not in WHERE_ONLY}))


def is_beginning(path: Path) -> bool:
    """Whether a job leaves this that was killed before it could say which it is."""
    if path.name == LOCK or path.suffix == ".partial":
        return True
    return path.name == SHARDS and path.is_dir() and not any(path.iterdir())


class Store:
    """The folder of one job. Each batch is a file, written whole or not at all; a killed job goes on from those.

    Args:
        folder: new, empty, or holding the same job.
        recipe: all settings of the job.
        identity: what, beside the recipe, decides the results (the model's card, checksums of weights and targets).
        kept: name of the shards' tensor that the job is about; the file of all of them has it too.

    Raises:
        InputError: the folder holds another job's results, or something else.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], identity: dict[str, Any], kept: str = "latents") -> None:
        self.folder, self.shards = folder, folder / SHARDS
        self.recipe, self.identity, self.kept = recipe, identity, kept
        self.found = folder / f"{kept}.safetensors"
        self._check()

    def _check(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(str(self.folder), "a folder", "a file")
        if not self.folder.exists() or all(is_beginning(path) for path in self.folder.iterdir()):
            return
        try:
            held = json.loads((self.folder / JOB).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError("out", "a new or empty folder, or one that holds this job", f"{self.folder}") from None
        now = self._job()
        differing = [key for key in {**held, **now} if held.get(key) != now.get(key)]
        if differing:
            raise InputError(
                "out", "a new folder, or this job's", f"{self.folder} of a job with other {', '.join(differing)}"
            )

    def _job(self) -> dict[str, Any]:
        return what({**self.recipe, **self.identity})

    def open(self) -> None:
        """Make the folder, keep other processes out of it, and say in it which job it holds.

        Raises:
            InputError: it cannot be written, or another process is at work in it.
        """
        begin()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock(self.folder)
            self._check()  # again: another process may have begun another job meanwhile
            self.shards.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / JOB, json.dumps(self._job(), indent=1).encode())
            content = yaml.safe_dump(self.recipe, sort_keys=False, width=100).encode()
            write_atomically(self.folder / RECIPE, content)
        except OSError as error:
            raise InputError("out", "a folder that can be written", f"{self.folder} ({error.strerror})") from error

    def add(self, shard: Shard) -> None:
        """Keep what a batch gave."""
        held = {key: getattr(shard, key) for key in ("names", "rows", "rank", "step")}
        meta = json.dumps({**held, "notes": list(shard.notes)})
        content = save({name: t.cpu().contiguous() for name, t in shard.tensors.items()}, {"meta": meta})
        write_atomically(self.shards / f"{int(shard.tensors['index'][0]):09d}.safetensors", content)

    def done(self) -> set[int]:
        """Positions of the targets that are done."""
        return {int(i) for shard in self._each(("index",)) for i in shard.tensors["index"]}

    def tracked(self) -> dict[int, int] | None:
        """How many steps each process, by rank, had tracked of what is kept; None: an older version kept it."""
        found = dict[int, int]()
        for shard in self._each(("index",)):
            if shard.step is None:
                return None
            found[shard.rank] = max(found.get(shard.rank, 0), shard.step)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the results so far."""
        return [row for shard in self._each(("index",)) for row in shard.rows]

    def read(self, *keys: str) -> Iterator[Shard]:
        """The shards, one at a time, in the order of their first targets, with all of their tensors or these alone."""
        return self._each(keys or None)

    def read_first(self, wanted: Sequence[int], *keys: str) -> dict[str, Tensor]:
        """What the shards hold of some of the first targets, (n, ...) in their order.

        Args:
            wanted: positions, rising.
            keys: of the tensors; default all.
        """
        found: dict[str, dict[int, Tensor]] = {}
        read = self.read(*keys, *(["index"] if keys else []))
        for shard in takewhile(lambda shard: shard.tensors["index"][0] <= wanted[-1], read):
            index = shard.tensors.pop("index").tolist()
            for key, values in shard.tensors.items():
                held = found.setdefault(key, {})
                for at, value in zip(index, values, strict=False):  # only some targets have pictures
                    held.setdefault(at, value)
        chosen = {key: [values[at] for at in wanted if at in values] for key, values in found.items()}
        return {key: torch.stack(values) for key, values in chosen.items() if values}

    def _each(self, wanted: tuple[str, ...] | None) -> Iterator[Shard]:
        for path in sorted(self.shards.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    keys = wanted or file.keys()
                    tensors = {key: file.get_tensor(key) for key in keys}
                    meta = json.loads(file.metadata()["meta"])
            except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
                raise InputError(str(path), "a readable part of the job (delete it to redo it)", error) from error
            more = {key: meta[key] for key in ("notes", "rank", "step") if key in meta}
            yield Shard(meta["names"], meta["rows"], tensors, **more)

    def finish(self, skipped: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """Write the table of results, what is kept and what was skipped; return the table's rows."""
        found: dict[int, tuple[str, dict[str, Any], Tensor]] = {}
        for shard in self._each(("index", self.kept)):
            index, kept = shard.tensors["index"].tolist(), shard.tensors[self.kept]
            for at, entry in zip(index, zip(shard.names, shard.rows, kept, strict=True), strict=True):
                found.setdefault(at, entry)  # batches of another size may have done it too
        ordered = [found[at] for at in sorted(found)]
        rows = [row for _, row, _ in ordered]
        meta = json.dumps({"names": [name for name, _, _ in ordered], "job": self._job()})
        kept = torch.stack([tensor for _, _, tensor in ordered])
        write_atomically(self.found, save({self.kept: kept}, {"meta": meta}))
        write_csv(self.folder / RESULTS, list(rows[0]), [list(row.values()) for row in rows])
        (self.folder / SKIPPED).unlink(missing_ok=True)
        if skipped:
            write_csv(self.folder / SKIPPED, ["name", "reason"], [list(entry) for entry in skipped])
        return rows
