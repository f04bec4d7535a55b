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
from latentopt.cli.shipped import named_file
from latentopt.errors import InputError, LatentOptError
from latentopt.jobs.lifetime import job, lock

if TYPE_CHECKING:
    from latentopt.jobs.sweeps import Sweep

EXIT_REFUSED, MAX_PRINTED, SWEEP_FILE = 3, 20, "sweep.json"
SWEEPABLE = ("reconstruct", "attack", "attack-policy", "refine", "train-rl")
"""Jobs whose folder has a summary. All analyses have one, too."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError("sweep", "FILE and its options (latentopt sweep --help)", message)


def sweep(words: list[str]) -> int:
    """Run `latentopt sweep` with these words; return the exit code."""
    from latentopt.jobs.sweeps import read_sweep

    if set(words) & set(ASKED):
        print(page("sweep"), end="")
        return 0
    arguments = _parse_words(words)
    path, folder = _find_file(arguments.file), Path(arguments.out)
    sweep_file = read_sweep(path)
    _check_parameters(sweep_file)
    trials = {
        f"trial-{number:03d}": options
        for number, options in enumerate(sweep_file.trials(arguments.trials, arguments.seed))
    }
    if arguments.dry_run:
        for name, options in trials.items():
            print(f"{name}: latentopt {' '.join(_trial_words(sweep_file, options, folder / name, arguments.wandb))}")
        return 0
    return _run_trials(sweep_file, path, folder, trials, arguments)


@job
def _run_trials(
    sweep: Sweep, path: Path, folder: Path, trials: dict[str, dict[str, Any]], arguments: argparse.Namespace
) -> int:
    """Run the trials, write and print their results; return the exit code."""
    from latentopt.jobs.sweeps import rank_trials, write_results

    _open_folder(folder, sweep, path, arguments.seed)
    with _wandb_variables(
        WANDB_RUN_GROUP=f"{path.stem}-{folder.name}", WANDB_PROJECT=sweep.project, WANDB_ENTITY=sweep.entity
    ):
        refused = {name: _run_trial(sweep, trials[name], folder / name, arguments.wandb) for name in trials}
    rows = rank_trials(sweep, trials, folder)
    refused = {name: reason for name, reason in refused.items() if reason}
    files = write_results(sweep, rows, folder) if rows else []
    _print_results(sweep, rows, refused, files)
    return EXIT_REFUSED if refused else 0


def _parse_words(words: list[str]) -> argparse.Namespace:
    from latentopt.jobs.settings import wandb_mode
    from latentopt.jobs.tracker import check_wandb_mode

    parser = _Parser("latentopt sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("file")
    parser.add_argument("--out", default="runs/sweep")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wandb", choices=("online", "offline", "disabled"), default=wandb_mode())
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args(words)
    check_wandb_mode(arguments.wandb)
    if not arguments.out.strip():
        raise InputError("out", "a folder", repr(arguments.out))
    if arguments.trials is not None and arguments.trials < 1:
        raise InputError("trials", "an integer >= 1", arguments.trials)
    return arguments


def _find_file(name: str) -> Path:
    from latentopt.zoo.paths import shipped_folder

    return named_file("sweep", name, shipped_folder("recipes") / "sweeps")


def _trial_words(sweep: Sweep, options: dict[str, Any], out: Path, wandb: str) -> list[str]:
    """Return the command line of a trial, its options spelled as by W&B's agent, in place of the file's."""
    own = {name.replace("-", "_"): value for name, value in {**options, "out": out, "wandb": wandb}.items()}
    words, replaced = list[str](), False
    for word in sweep.words:
        if word.startswith("--"):
            replaced = word[2:].partition("=")[0].replace("-", "_") in own
        words += [word] * (not replaced)
    return [*words, *(f"--{name}={value}" for name, value in own.items())]


def _parse_trial(sweep: Sweep, options: dict[str, Any], out: Path, wandb: str) -> Any:
    return parse_job(*choose_job(_trial_words(sweep, options, out, wandb)))


def _check_parameters(sweep: Sweep) -> None:
    """Raise `InputError` unless each parameter is an option of the job and takes its values."""
    job, _, _ = choose_job(list(sweep.words))
    if job.name not in SWEEPABLE and not job.name.startswith("analyze-"):
        raise InputError("command", f"a job that can be swept: {', '.join(SWEEPABLE)}, analyze-...", job.name)
    from latentopt.jobs.sweeps import check_metric

    check_metric(job.name, sweep.metric)
    first = {name: parameter.probes()[0] for name, parameter in sweep.parameters.items()}
    for name, parameter in sweep.parameters.items():
        for value in parameter.probes():
            try:
                _parse_trial(sweep, {**first, name: value}, Path("runs/sweep"), "disabled").check_values()
            except LatentOptError as error:
                named = (each for each in sweep.parameters if str(error).startswith(f"--{each}:"))  # trials have all
                raise InputError(
                    f"parameters.{next(named, name)}", "an option of the job, and values of it", one_line(str(error))
                ) from error


def _open_folder(folder: Path, sweep: Sweep, path: Path, seed: int) -> None:
    """Create the folder, lock it, and write in it which sweep it holds."""
    from latentopt.io import write_atomically
    from latentopt.jobs.experiment import is_leftover

    file, now = folder / SWEEP_FILE, {"seed": seed, "file": path.read_text(encoding="utf-8")}
    empty = not folder.exists() or (folder.is_dir() and all(is_leftover(entry) for entry in folder.iterdir()))
    if not empty and not file.is_file():
        raise InputError("out", "a new or empty folder, or one that holds this sweep", str(folder))
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != now:
        raise InputError("out", "a new folder, or this sweep's", f"{folder} of another file or seed")
    folder.mkdir(parents=True, exist_ok=True)
    lock(folder)
    write_atomically(file, json.dumps(now, indent=1).encode())


@contextmanager
def _wandb_variables(**variables: str | None) -> Iterator[None]:
    """Set variables of W&B within the context, unless the user has set them."""
    added = {name: value for name, value in variables.items() if value is not None and not os.environ.get(name)}
    before = {name: os.environ[name] for name in added if name in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)


def _run_trial(sweep: Sweep, options: dict[str, Any], folder: Path, wandb: str) -> str:
    """Run a trial that is not done; return the reason if it was refused.

    Raises:
        LatentOptError: weights or data of a trial that is done have changed.
    """
    from latentopt.jobs.experiment import SHARDS
    from latentopt.jobs.sweeps import read_summary

    parsed = _parse_trial(sweep, options, folder, wandb)
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


def _print_results(sweep: Sweep, rows: list[dict[str, Any]], refused: dict[str, str], files: list[Path]) -> None:
    columns = ["trial", sweep.metric, *sweep.parameters]
    lines = [columns, *([_format(row[column]) for column in columns] for row in rows[:MAX_PRINTED])]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(rows) > MAX_PRINTED:
        print(f"... {len(rows) - MAX_PRINTED} more in results.csv")
    for name, reason in refused.items():
        print(f"refused {name}: {reason}", file=sys.stderr)
    print(f"{len(rows)} trials, {len(refused)} refused")
    for file in files:
        print(f"  {file}")


def _format(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
