"""Jobs on the command line: chosen by its words, run or checked, and printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from latentopt.cli.registry import JOBS, RESTARTS, RESUMES, Job, import_object
from latentopt.cli.shipped import read_recipe
from latentopt.errors import InputError, LatentOptError, with_nearest

HEAD = "# Checked, and not begun: `latentopt run FILE` with this in a file does the job\n"


def run_job(job: Job, words: list[str], recipe: dict[str, Any] | None = None) -> int:
    """Run a job, or with --dry-run check it and print its whole recipe; return the exit code."""
    from latentopt.cli.options import parse_job

    parsed = parse_job(job, words, recipe)
    if not parsed.dry:
        return import_object(f"latentopt.cli.output.{job.printer}")(parsed.run())
    parsed.check()
    print(HEAD + yaml.safe_dump(parsed.resolved(), sort_keys=False, width=100, allow_unicode=True), end="")
    return 0


def choose_job(words: list[str]) -> tuple[Job, list[str], dict[str, Any] | None]:
    """Return the job that a command line asks for, the words that are its options, and its recipe.

    Raises:
        InputError: it asks for none.
    """
    command, rest = words[0] if words else "", words[1:]
    if command == "analyze":
        names = [job.words.split()[1] for job in JOBS.values() if job.words.startswith(f"{command} ")]
        if not rest or rest[0] not in names:
            raise InputError(
                command, f"one of {', '.join(names)} first", with_nearest(rest[0], names) if rest else "nothing"
            )
        return JOBS[f"{command}-{rest[0]}"], rest[1:], None
    if command == "compare":
        if not rest or rest[0].startswith("-"):
            raise InputError(command, "a recipe's name or file first", " ".join(rest) or "nothing")
        return JOBS[command], rest[1:], {"problem": read_recipe(rest[0])}
    if command in ("run", "train", "train-rl"):
        trainings = ("train", "train-policy", "train-encoder")
        allowed = {"run": tuple(JOBS), "train": trainings, "train-rl": ("train-rl",)}
        return _choose_by_recipe(command, allowed[command], rest)
    if command not in JOBS:
        raise InputError("command", "a job", repr(command))
    return JOBS[command], rest, None


def _choose_by_recipe(command: str, jobs: Sequence[str], words: list[str]) -> tuple[Job, list[str], dict[str, Any]]:
    if not words or words[0].startswith("-"):
        raise InputError(command, "a recipe's name or file first", " ".join(words) or "nothing")
    recipe = read_recipe(words[0])
    job = recipe.get("job")
    if not isinstance(job, str) or job not in jobs:
        expected = f"one of {', '.join(jobs)}" if command == "run" else " or ".join(jobs)
        raise InputError(f"{words[0]}: job" if command == "run" else "job", expected, with_nearest(job, jobs))
    return JOBS[job], words[1:], recipe


def restart_hint(words: list[str]) -> str:
    """Return the effect of a command line when it is called again after it was stopped."""
    try:
        return choose_job(words)[0].again
    except LatentOptError:
        return RESUMES if words[:1] == ["sweep"] else RESTARTS
