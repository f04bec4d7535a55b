"""Jobs on the command line: from a recipe and options to what is printed in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from latentopt.cli.recipes import read_recipe
from latentopt.cli.table import JOBS, Job, found
from latentopt.errors import InputError

HEAD = "# Checked, and not begun: `latentopt run FILE` with this in a file does the job\n"


def perform(job: Job, words: list[str], recipe: dict[str, Any] | None = None) -> int:
    """Do a job, or with --dry-run all but the job; return the exit code."""
    parsed = parse(job, words, recipe)
    if not parsed.dry:
        return found(f"latentopt.cli.{job.shown}")(parsed.run()) or 0
    resolved = parsed.resolved()
    parsed.check()
    print(HEAD + yaml.safe_dump(resolved, sort_keys=False, width=100, allow_unicode=True), end="")
    return 0


def parse(job: Job, words: list[str], recipe: dict[str, Any] | None = None) -> Any:
    """Parse a job's options, whether its settings are a class or the arguments of a function."""
    if job.settings:
        from latentopt.cli.options import parse_job

        return parse_job(job, words, recipe)
    from latentopt.cli import arguments

    return arguments.parse(job, words, recipe)


def chosen(words: list[str]) -> tuple[Job, list[str], dict[str, Any] | None]:
    """The job that a command line asks for, the words that are its options, and its recipe.

    Raises:
        InputError: it asks for none.
    """
    command, rest = words[0] if words else "", words[1:]
    if command == "analyze":
        names = [job.words.split()[1] for job in JOBS.values() if job.words.startswith(f"{command} ")]
        if not rest or rest[0] not in names:
            raise InputError(command, f"one of {', '.join(names)} first", " ".join(rest) or "nothing")
        return JOBS[f"{command}-{rest[0]}"], rest[1:], None
    if command == "compare":
        if not rest or rest[0].startswith("-"):
            raise InputError(command, "a recipe's name or file first", " ".join(rest) or "nothing")
        return JOBS[command], rest[1:], {"problem": read_recipe(rest[0])}
    if command in ("run", "train", "train-rl"):
        own = {"run": tuple(JOBS), "train": ("train", "train-policy"), "train-rl": ("train-rl",)}
        return _of_recipe(command, own[command], rest)
    if command not in JOBS:
        raise InputError("command", "a job", repr(command))
    return JOBS[command], rest, None


def _of_recipe(command: str, jobs: Sequence[str], words: list[str]) -> tuple[Job, list[str], dict[str, Any]]:
    if not words or words[0].startswith("-"):
        raise InputError(command, "a recipe's name or file first", " ".join(words) or "nothing")
    recipe = read_recipe(words[0])
    job = recipe.get("job")
    if not isinstance(job, str) or job not in jobs:
        expected = f"one of {', '.join(jobs)}" if command == "run" else " or ".join(jobs)
        raise InputError(f"{words[0]}: job" if command == "run" else "job", expected, repr(job))
    return JOBS[job], words[1:], recipe
