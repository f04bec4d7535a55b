"""The folder of one run, and the pattern that every job follows.

A job is one file, `latentopt/jobs/NAME.py`, that imports no torch at its top, so that the command line answers at once:

1. ``NameSettings(JobSettings)``, a frozen dataclass (`latentopt.jobs.settings`): every option of the job, spelled once.
   Its docstring is the help of the command line.
2. ``prepare(settings) -> JobPlan``: checks what can be checked without torch, and writes nothing. A dry run is this.
3. ``run(plan)``: builds the components, checks what needs tensors, opens the `Experiment`, works, and returns a result
   whose rows are all that reports and tables read. What needs torch or Lightning is imported here, or lives in a second
   file that this imports.
4. ``name(**settings)``: the same from Python, ``run(prepare(NameSettings(**settings)))``.

A batch is kept as a shard, written whole or not at all; a job that was killed goes on from those.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import yaml

from latentopt.errors import InputError, first_line
from latentopt.files import writing
from latentopt.io import write_atomically
from latentopt.jobs.lifetime import LOCK, lock
from latentopt.reports import TABLE, WrittenReport, csv_text, report_files

if TYPE_CHECKING:
    from torch import Tensor

    from latentopt.jobs.tracker import Tracker
    from latentopt.reports import Drawing, Report

RECIPE, RESULTS, SKIPPED, SHARDS, JOB = "recipe.yaml", "results.csv", "skipped.csv", "shards", "job.json"
PLACE_SETTINGS = ("out", "wandb", "device", "batch_size", "devices", "strategy", "num_nodes", "save_images")
"""Settings that say where and how a job runs and what it writes, not what it computes."""


@dataclass(frozen=True)
class Shard:
    """The results of one batch."""

    names: list[str]  # n
    rows: list[dict[str, Any]]  # n, the rows of the table of results
    tensors: dict[str, Tensor]  # "index" (n,) long, the job's own tensor (n, *shape), and what its pictures need
    notes: Sequence[str] = ()  # for the user
    rank: int = 0  # of the process that computed it
    step: int | None = None  # number of steps that process had tracked by then


def identity_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a job computes, as JSON stores them."""
    return json.loads(json.dumps({key: value for key, value in recipe.items() if key not in PLACE_SETTINGS}))


def is_leftover(path: Path) -> bool:
    """Return whether a job that was killed before it wrote its first file leaves this."""
    if path.name == LOCK or path.suffix == ".partial":
        return True
    return path.name == SHARDS and path.is_dir() and not any(path.iterdir())


def is_unused(folder: Path) -> bool:
    """Return whether a folder is missing, empty, or holds leftovers alone."""
    return not folder.exists() or (folder.is_dir() and all(is_leftover(path) for path in folder.iterdir()))


def check_folder(folder: str | Path, recipe: Mapping[str, Any]) -> None:
    """Raise `InputError` where a job with these settings could not use the folder; for `prepare`.

    Args:
        folder: where the job would write.
        recipe: the settings that are known so far; components may be missing.
    """
    _differences(Path(folder), identity_of(recipe), partial=True)


def require_writable(folder: Path, name: str = "out") -> None:
    """Raise `InputError` where a folder cannot be made, or nothing can be written in it."""
    with writing(name, folder):  # no name of a folder, or too long a one
        first = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if first.is_symlink() and not first.exists():
        raise InputError(name, "a folder", f"{folder}, where {first} is a link to nothing")
    if not first.is_dir():
        raise InputError(name, "a folder", f"the file {first}" if first == folder else f"{folder}, below a file")
    try:
        with TemporaryFile(dir=first):  # /proc, and what is mounted read-only, take no file though access is granted
            pass
    except OSError as error:
        raise InputError(name, "a folder that can be written", f"{folder}, in {first}") from error


def _differences(folder: Path, job: Mapping[str, Any], partial: bool) -> None:
    """Raise `InputError` unless the folder is unused or holds this job."""
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), "a folder", "a file")
    require_writable(folder)
    if is_unused(folder):
        return
    try:
        stored = json.loads((folder / JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("out", "a new or empty folder, or one that holds this job", f"{folder}") from None
    keys = job if partial else {**stored, **job}
    differing = [key for key in keys if stored.get(key) != job.get(key)]
    if differing:
        raise InputError("out", "a new folder, or this job's", f"{folder} of a job with other {', '.join(differing)}")


class Experiment:
    """The folder of one run: its identity, lock, shards, tables, reports and tracked figures.

    Args:
        folder: new, empty, or one that holds the same job.
        recipe: all settings of the job.
        identity: checksums and whatever else decides the results beside the recipe.
        tensor: name of the shards' tensor that the job computes; ``<tensor>.safetensors`` has it of all samples.
        resumable: a stopped run goes on, and a finished one is shown again; otherwise a stopped run begins anew, and
            the folder of a finished one is refused.

    Raises:
        InputError: the folder holds another job's results, or other files.
    """

    def __init__(
        self,
        folder: str | Path,
        recipe: dict[str, Any],
        identity: Mapping[str, Any] | None = None,
        tensor: str = "latents",
        resumable: bool = True,
    ) -> None:
        self.folder, self.recipe, self.tensor, self.resumable = Path(folder), recipe, tensor, resumable
        self.shards, self.tensor_file = self.folder / SHARDS, self.folder / f"{tensor}.safetensors"
        self.job = identity_of({**recipe, **(identity or {})})
        self.steps = 0
        self.tracker: Tracker | None = None
        self.check()

    def check(self) -> None:
        """Raise `InputError` unless the folder can be used for this job."""
        _differences(self.folder, self.job, partial=False)
        if not self.resumable and (self.folder / TABLE).exists():
            raise InputError("out", "a new or empty folder", str(self.folder))

    def open(self) -> None:
        """Make the folder, keep other processes out of it, and write the recipe and the identity of the job.

        Raises:
            InputError: it cannot be written, or another process is at work in it.
        """
        with writing("out", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock(self.folder)
            self.check()  # again: another process may have begun another job meanwhile
            if self.resumable:
                self.shards.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / JOB, json.dumps(self.job, indent=1).encode())
            content = yaml.safe_dump(self.recipe, sort_keys=False, width=100).encode()
            write_atomically(self.folder / RECIPE, content)

    def add(self, shard: Shard) -> None:
        """Write a shard."""
        from safetensors.torch import save

        fields = {key: getattr(shard, key) for key in ("names", "rows", "rank", "step")}
        meta = json.dumps({**fields, "notes": list(shard.notes)})
        content = save({name: t.cpu().contiguous() for name, t in shard.tensors.items()}, {"meta": meta})
        write_atomically(self.shards / f"{int(shard.tensors['index'][0]):09d}.safetensors", content)

    def done(self) -> set[int]:
        """Return the positions of the samples that are done."""
        return {int(i) for shard in self.read("index") for i in shard.tensors["index"]}

    def tracked(self) -> dict[int, int] | None:
        """Return the number of steps tracked by each process, by rank; None if an older version wrote the folder."""
        steps = dict[int, int]()
        for shard in self.read("index"):
            if shard.step is None:
                return None
            steps[shard.rank] = max(steps.get(shard.rank, 0), shard.step)
        return steps

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the results so far."""
        return [row for shard in self.read("index") for row in shard.rows]

    def read(self, *keys: str) -> Iterator[Shard]:
        """Read the shards one at a time, in the order of their first samples, with these tensors; default all."""
        from safetensors import SafetensorError, safe_open

        for path in sorted(self.shards.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    tensors = {key: file.get_tensor(key) for key in keys or file.keys()}
                    meta = json.loads(file.metadata()["meta"])
            except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
                raise InputError(str(path), "a readable part of the job (delete it to redo it)", error) from error
            more = {key: meta[key] for key in ("notes", "rank", "step") if key in meta}
            yield Shard(meta["names"], meta["rows"], tensors, **more)

    def read_first(self, positions: Sequence[int], *keys: str) -> dict[str, Tensor]:
        """Read tensors of some of the first samples, (n, ...) in their order.

        Args:
            positions: positions, rising.
            keys: of the tensors; default all.
        """
        import torch

        by_key: dict[str, dict[int, Tensor]] = {}
        shards = self.read(*keys, *(["index"] if keys else []))
        for shard in takewhile(lambda shard: shard.tensors["index"][0] <= positions[-1], shards):
            index = shard.tensors.pop("index").tolist()
            for key, values in shard.tensors.items():
                for i, value in zip(index, values, strict=False):  # only some samples have pictures
                    by_key.setdefault(key, {}).setdefault(i, value)
        chosen = {key: [values[i] for i in positions if i in values] for key, values in by_key.items()}
        return {key: torch.stack(values) for key, values in chosen.items() if values}

    def batches(self, count: int, size: int, tensor: str | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield the job's tensor of ``count`` samples, ``size`` of them at a time, each part with where it is.

        ``tensor`` names another one that `finish` wrote.
        """
        from safetensors import safe_open

        name = tensor or self.tensor
        with safe_open(self.folder / f"{name}.safetensors", "pt") as file:
            whole = file.get_slice(name)
            for start in range(0, count, size):
                part = slice(start, start + size)
                yield part, whole[part]

    def finish(
        self,
        skipped: Sequence[tuple[str, str]] = (),
        also: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Write the table of results, the job's tensor and the list of skipped samples; return the table's rows.

        Args:
            skipped: names and reasons.
            also: further tensors of the shards, each to be written to its own file.
            about: description of the job's tensor, for its file.
        """
        import torch
        from safetensors.torch import save

        samples: dict[int, tuple[str, dict[str, Any], tuple[Tensor, ...]]] = {}
        keys = (self.tensor, *also)
        for shard in self.read("index", *keys):
            index, tensors = shard.tensors["index"].tolist(), zip(*(shard.tensors[key] for key in keys), strict=True)
            for i, sample in zip(index, zip(shard.names, shard.rows, tensors, strict=True), strict=True):
                samples.setdefault(i, sample)  # batches of another size may have done it too
        ordered = [samples[i] for i in sorted(samples)]
        rows = [row for _, row, _ in ordered]
        meta = {"names": [name for name, _, _ in ordered], "job": self.job}
        for key, tensors in zip(keys, zip(*(tensors for _, _, tensors in ordered), strict=True), strict=True):
            text = json.dumps(meta | dict(about or {}) if key == self.tensor else meta)
            write_atomically(self.folder / f"{key}.safetensors", save({key: torch.stack(tensors)}, {"meta": text}))
        write_atomically(self.folder / RESULTS, csv_text(rows).encode())
        (self.folder / SKIPPED).unlink(missing_ok=True)
        if skipped:
            reasons = [{"name": name, "reason": reason} for name, reason in skipped]
            write_atomically(self.folder / SKIPPED, csv_text(reasons).encode())
        return rows

    def begin_tracking(self, mode: Any, config: Mapping[str, Any] | None = None) -> None:
        """Start to track a job without shards, from its first step; `log` and `write` follow.

        Args:
            mode: online, offline or disabled.
            config: of the W&B run; default the recipe.
        """
        from latentopt.jobs.tracker import Tracker

        self.tracker = Tracker(self.folder, mode, dict(config or self.recipe), self.recipe["job"], kept_lines={})

    def log(self, figures: Mapping[str, float | str]) -> None:
        """Track the figures of one more step."""
        assert self.tracker is not None
        self.tracker.log(self.steps, figures)
        self.tracker.flush()
        self.steps += 1

    def write(
        self, report: Report, best: dict[str, float], pictures: Mapping[str, Drawing] | None = None
    ) -> WrittenReport:
        """Write the tables, the rows and the plots of a report, and close the W&B run.

        Args:
            report: its plot is ``plot.png``.
            best: the figures to compare runs by.
            pictures: further ones by file name.
        """
        from latentopt.jobs.tracker import METRICS

        content = report_files(report, pictures)
        for name, data in content.items():
            write_atomically(self.folder / name, data)
        files = self.existing(*content, METRICS, RECIPE)
        if self.tracker is not None:
            files += self.tracker.finish(list(report.rows), best, files)
        return WrittenReport(report.markdown(), files)

    def existing(self, *names: str | Path) -> list[Path]:
        """Return those files of the folder that are there."""
        return [path for path in (self.folder / name for name in names) if path.exists()]


def expanded_folder(name: str, value: str) -> Path:
    """Expand environment variables in the name of a folder, by which the agent of a sweep tells runs apart, and ~.

    Raises:
        InputError: nothing is left of the name, which would be the current folder; or no folder can have it.
    """
    folder = os.path.expandvars(value)
    if not folder.strip() or "\0" in folder:
        raise InputError(name, "a folder", repr(folder))
    try:
        path = Path(folder).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long a name, or an unknown user's home
        raise InputError(name, "a folder that can be made", f"{folder} ({first_line(error)})") from error
    return path
