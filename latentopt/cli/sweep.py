"""`latentopt sweep FILE`: the trials of a W&B sweep file, each an ordinary job in a folder of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from latentopt.cli.help import ASKED, page
from latentopt.cli.options import parse_job
from latentopt.cli.output import one_line
from latentopt.cli.run import choose_job
from latentopt.errors import InputError, LatentOptError
from latentopt.jobs.lifetime import job, lock

if TYPE_CHECKING:
    from latentopt.jobs.sweeps import Sweep

SOME_REFUSED, SHOWN, HELD = 3, 20, "sweep.json"
SWEPT = ("reconstruct", "attack", "attack-policy", "refine", "train-rl")
"""Jobs whose folder has a summary; and all analyses."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError("sweep", "FILE and its options (latentopt sweep --help)", message)


def sweep(words: list[str]) -> int:
    from latentopt.jobs.sweeps import read_sweep

    if set(words) & set(ASKED):
        print(page("sweep"), end="")
        return 0
    asked = _asked(words)
    path, folder = _path(asked.file), Path(asked.out)
    found = read_sweep(path)
    _check(found)
    trials = {f"trial-{at:03d}": options for at, options in enumerate(found.trials(asked.trials, asked.seed))}
    if asked.dry_run:
        for name, options in trials.items():
            print(f"{name}: latentopt {' '.join(_words(found, options, folder / name, asked.wandb))}")
        return 0
    return _done(found, path, folder, trials, asked)


@job
def _done(sweep: Sweep, path: Path, folder: Path, trials: dict[str, dict[str, Any]], asked: argparse.Namespace) -> int:
    """Do the trials, and write and print what came of them; return the exit code."""
    from latentopt.jobs.sweeps import rank_trials, write_results

    _open(folder, sweep, path, asked.seed)
    with _tracked(WANDB_RUN_GROUP=f"{path.stem}-{folder.name}", WANDB_PROJECT=sweep.project, WANDB_ENTITY=sweep.entity):
        refused = {name: _run(sweep, trials[name], folder / name, asked.wandb) for name in trials}
    rows = rank_trials(sweep, trials, folder)
    refused = {name: reason for name, reason in refused.items() if reason}
    files = write_results(sweep, rows, folder) if rows else []
    _print(sweep, rows, refused, files)
    return SOME_REFUSED if refused else 0


def _asked(words: list[str]) -> argparse.Namespace:
    parser = _Parser("latentopt sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("file")
    parser.add_argument("--out", default="runs/sweep")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wandb", choices=("online", "offline", "disabled"), default="offline")
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args(words)
    if not asked.out.strip():
        raise InputError("out", "a folder", repr(asked.out))
    if asked.trials is not None and asked.trials < 1:
        raise InputError("trials", "an integer >= 1", asked.trials)
    return asked


def _path(name: str) -> Path:
    from latentopt.zoo.paths import shipped_folder

    shipped = shipped_folder("recipes") / "sweeps" / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if not Path(name).is_file():
        known = ", ".join(sorted(path.stem for path in shipped.parent.glob("*.yaml")))
        raise InputError("sweep", f"a file, or one of {known}", repr(name))
    return Path(name)


def _words(sweep: Sweep, options: dict[str, Any], out: Path, wandb: str) -> list[str]:
    """The command line of a trial; options are spelled as W&B's agent spells them."""
    return [*sweep.words, *(f"--{name}={value}" for name, value in options.items()), f"--out={out}", f"--wandb={wandb}"]


def _parsed(sweep: Sweep, options: dict[str, Any], out: Path, wandb: str) -> Any:
    return parse_job(*choose_job(_words(sweep, options, out, wandb)))


def _check(sweep: Sweep) -> None:
    """Each parameter is an option of the job, and takes its values; raise `InputError` before anything is run."""
    job, _, _ = choose_job(list(sweep.words))
    if job.name not in SWEPT and not job.name.startswith("analyze-"):
        raise InputError("command", f"a job that can be swept: {', '.join(SWEPT)}, analyze-...", job.name)
    from latentopt.jobs.sweeps import check_metric

    check_metric(job.name, sweep.metric)
    first = {name: parameter.probes()[0] for name, parameter in sweep.parameters.items()}
    for name, parameter in sweep.parameters.items():
        for value in parameter.probes():
            try:
                _parsed(sweep, {**first, name: value}, Path("runs/sweep"), "disabled").check_values()
            except LatentOptError as error:
                raise InputError(
                    f"parameters.{name}", "an option of the job, and values of it", one_line(str(error))
                ) from error


def _open(folder: Path, sweep: Sweep, path: Path, seed: int) -> None:
    """Say in the folder which sweep it holds."""
    from latentopt.io import write_atomically
    from latentopt.jobs.experiment import is_leftover

    held, now = folder / HELD, {"seed": seed, "file": path.read_text(encoding="utf-8")}
    empty = not folder.exists() or (folder.is_dir() and all(is_leftover(each) for each in folder.iterdir()))
    if not empty and not held.is_file():
        raise InputError("out", "a new or empty folder, or one that holds this sweep", str(folder))
    if held.is_file() and json.loads(held.read_text(encoding="utf-8")) != now:
        raise InputError("out", "a new folder, or this sweep's", f"{folder} of another file or seed")
    folder.mkdir(parents=True, exist_ok=True)
    lock(folder)
    write_atomically(held, json.dumps(now, indent=1).encode())


@contextmanager
def _tracked(**variables: str | None) -> Iterator[None]:
    """Within, runs of W&B are where a sweep puts them, but where the user's own variables say otherwise."""
    added = {name: value for name, value in variables.items() if value is not None and not os.environ.get(name)}
    before = {name: os.environ[name] for name in added if name in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)


def _run(sweep: Sweep, options: dict[str, Any], folder: Path, wandb: str) -> str:
    """Do a trial that is not done; return why it was refused, if it was.

    Raises:
        LatentOptError: a trial that is done would be another one now: of other weights, or other data.
    """
    from latentopt.jobs.experiment import SHARDS
    from latentopt.jobs.sweeps import read_summary

    parsed = _parsed(sweep, options, folder, wandb)
    if read_summary(folder) is not None:
        if (folder / SHARDS).is_dir():  # a job that is done reads its results, if it is still the same
            parsed.run()
        return ""
    print(f"{folder.name}: {options}", file=sys.stderr)
    try:
        parsed.run()
    except LatentOptError as error:
        return one_line(str(error))
    return ""


def _print(sweep: Sweep, rows: list[dict[str, Any]], refused: dict[str, str], files: list[Path]) -> None:
    columns = ["trial", sweep.metric, *sweep.parameters]
    lines = [columns, *([_text(row[column]) for column in columns] for row in rows[:SHOWN])]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(rows) > SHOWN:
        print(f"... {len(rows) - SHOWN} more in results.csv")
    for name, reason in refused.items():
        print(f"refused {name}: {reason}", file=sys.stderr)
    print(f"{len(rows)} trials, {len(refused)} refused")
    for file in files:
        print(f"  {file}")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
