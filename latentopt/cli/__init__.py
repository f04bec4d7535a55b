"""The command line: `latentopt COMMAND ...`. Bad input is one line on stderr and exit code 2, with nothing done."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from latentopt._deprecated import TOLD
from latentopt.cli.help import ASKED, general, page
from latentopt.cli.output import one_line
from latentopt.cli.registry import COMMANDS, import_object
from latentopt.errors import InputError, LatentOptError, with_nearest
from latentopt.jobs.sigterm import CODE, Terminated, handle_sigterm
from latentopt.rl.extra import missing
from latentopt.version import __version__

FAILED = 1
_python_line = warnings.formatwarning
OWN_HELP = ("reconstruct", "diagnose", "attack", "attack-policy", "refine")
"""Commands whose options are always the same."""
EXTRA = ("stable_baselines3", "gymnasium", "mujoco", "Box2D", "pygame")
"""What the extra ``rl`` brings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    TOLD.clear()
    shown, warnings.formatwarning = warnings.formatwarning, _warning_line
    try:
        with handle_sigterm():
            return _main(words)
    finally:
        warnings.formatwarning = shown


def _warning_line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
    """Return a warning of this package in one line, without the line of code; of another one as Python shows it."""
    if category.__module__.split(".")[0] == "latentopt":
        return f"latentopt: warning: {one_line(str(message))}\n"
    return _python_line(message, category, *place, **more)


def _main(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except LatentOptError as error:
        return _refused(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA:
            raise
        return _refused(str(missing(error)))
    except BrokenPipeError:  # whoever read what is printed has gone: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        message = f"{one_line(str(error))}; finished parts stay, and the same command {_restart_hint(words)}"
        print(f"latentopt: error: {message}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return _stopped(words, 130)
    except Terminated:
        return _stopped(words, CODE)


def _stopped(words: list[str], code: int) -> int:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of a job's processes the first tells
        print(f"\nlatentopt: stopped; the same command {_restart_hint(words)}", file=sys.stderr)
    return code


def _restart_hint(words: list[str]) -> str:
    from latentopt.cli.run import restart_hint

    return restart_hint(words)


def _refused(reason: str) -> int:
    print(f"latentopt: error: {one_line(reason)}", file=sys.stderr)
    return 2


def run_folders(words: list[str]) -> list[str]:
    """Return the words before the options, if they are the folders of runs: several words, or a run's folder."""
    folders = list(takewhile(lambda word: not word.startswith("-"), words))
    is_run = any((Path(word) / name).is_file() for word in folders[:1] for name in ("recipe.yaml", "metrics.jsonl"))
    return folders if is_run or len(folders) > 1 else []


def _dispatch(words: list[str]) -> int:
    words = ["--help" if word == "-h" else word for word in words]
    if words[:1] == ["help"] and words[1:]:
        words = [*words[1:], "--help"]
    if not words or words[0] in (*ASKED, "help"):
        print(general(), end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    command, rest = words[0], words[1:]
    if command == "bench":
        raise InputError("command", "python -m benchmarks NAME, from a clone of the repository", "'bench'")
    if command not in COMMANDS:
        raise InputError("command", f"one of {', '.join(COMMANDS)}", with_nearest(command, COMMANDS))
    if command not in OWN_HELP and rest and rest[0] in ASKED:
        print(page(command), end="")
        return 0
    if command == "compare" and (folders := run_folders(rest)):
        return import_object("latentopt.cli.runs.compare")(folders, rest[len(folders) :])
    if handler := COMMANDS[command].handler:
        return import_object(handler)(rest)
    from latentopt.cli.run import choose_job, run_job

    return run_job(*choose_job(words))
