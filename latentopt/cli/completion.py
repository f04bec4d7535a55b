"""`latentopt completion SHELL`: a script that completes commands, options and names.

The script is made from the same parsers that read the command line; `shtab` writes it in the language of the shell.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import cache
from typing import Any

from latentopt.cli.registry import COMMANDS, JOBS, Job
from latentopt.errors import InputError

SHELLS = ("bash", "zsh", "tcsh")
LISTED = {"models": ("list", "show"), "recipes": ("list", "show", "copy")}
OWN_OPTIONS = {"sweep": ("--out", "--trials", "--seed", "--wandb", "--dry-run"), "doctor": ("--json",)}
FOLDERS, FILES = ("out", "root", "log"), ("config", "targets", "data", "weights", "agent")
"""Options whose values are folders, or files."""


def completion(words: list[str]) -> int:
    import shtab

    if len(words) != 1 or words[0] not in SHELLS:
        raise InputError("completion", f"one of {', '.join(SHELLS)}", " ".join(words) or "nothing")
    print(shtab.complete(_root(), words[0], preamble=_preamble(_names()).get(words[0], "")))
    return 0


@cache
def _names() -> dict[str, list[str]]:
    from latentopt.zoo import cards
    from latentopt.zoo.paths import shipped_folder

    names = {
        kind: sorted(path.stem for path in shipped_folder(where).glob("*.yaml")) for kind, where in _SHIPPED.items()
    }
    return {"model": cards.names(), **names}


_SHIPPED = {"recipe": "recipes", "sweep": "recipes/sweeps"}


def _preamble(names: dict[str, list[str]]) -> dict[str, str]:
    """Functions of the shell that complete a shipped name or a file of one's own."""
    bash = [
        f'_latentopt_{kind}() {{ compgen -W "{" ".join(known)}" -- $1; compgen -f -- $1; }}'
        for kind, known in names.items()
    ]
    zsh = [
        f"_latentopt_{kind}() {{ _alternative '{kind}s:{kind}:({' '.join(known)})' 'files:file:_files' }}"
        for kind, known in names.items()
    ]
    return {"bash": "\n".join(bash), "zsh": "\n".join(zsh)}


def _root() -> argparse.ArgumentParser:
    """A parser with the whole command line in it, that only completion reads."""
    root = argparse.ArgumentParser("latentopt", description="Optimise the input of frozen networks.")
    root.add_argument("--version", action="store_true", help="tell the version")
    commands = root.add_subparsers()
    for name, command in COMMANDS.items():
        made = commands.add_parser(name, help=command.summary)
        if command.group:
            within = made.add_subparsers()
            for job in JOBS.values():
                if job.words.startswith(f"{command.group} "):
                    _add_options(within.add_parser(job.words.split()[1], help=job.summary), [job])
        elif name in LISTED:
            _add_listed(made.add_subparsers(), LISTED[name], name[:-1])
        elif name in OWN_OPTIONS:
            _add_own(made, name)
        elif name == "completion":
            made.add_argument("shell", choices=SHELLS)
        else:
            _add_job(made, name)
    return root


def _add_job(parser: argparse.ArgumentParser, name: str) -> None:
    """A job's options; of what runs a recipe, those of every job that it may be."""
    takes = COMMANDS[name].takes == "RECIPE"
    if takes:
        _completed(parser.add_argument("recipe"), "recipe")
    jobs = [job for job in JOBS.values() if job.words == name or name == "run"]
    _add_options(parser, jobs)


def _add_listed(parsers: Any, verbs: Iterable[str], kind: str) -> None:
    for verb in verbs:
        made = parsers.add_parser(verb, help=f"{verb} {kind}s" if verb == "list" else f"{verb} a {kind}")
        if verb != "list":
            _completed(made.add_argument("name"), kind)
        if verb == "copy":
            _completed(made.add_argument("file"), "file")


def _add_own(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "sweep":
        _completed(parser.add_argument("file"), "sweep")
    for option in OWN_OPTIONS[name]:
        if option in ("--json", "--dry-run"):
            parser.add_argument(option, action="store_true")
        else:
            modes = ["online", "offline", "disabled"] if option == "--wandb" else None
            _completed(parser.add_argument(option), option.removeprefix("--"), modes)


def _add_options(parser: argparse.ArgumentParser, jobs: list[Job]) -> None:
    from latentopt.cli.options import parser_of
    from latentopt.jobs.components import short_names

    for job in jobs:
        known = {name: short_names(kind) for name, kind in job.settings_class().kinds().items()}
        for action in parser_of(job)._actions:
            for option in _new_options(parser, action):
                if isinstance(action, argparse._StoreTrueAction):
                    parser.add_argument(option, action="store_true", help=_help(action))
                else:
                    made = parser.add_argument(option, help=_help(action))
                    _completed(made, action.dest, _choices(action, known.get(action.dest)))


def _new_options(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """The options of an action, with dashes, that the parser does not have yet."""
    dashed = [option.replace("_", "-") for option in action.option_strings]
    known = parser._option_string_actions
    return [word for word in dashed if word.startswith("--") and not word.startswith(_PARSERS) and word not in known]


_PARSERS = ("--help", "--print", "--optimizer.help", "--config.")


def _help(action: argparse.Action) -> str:
    first = str(action.help or "").split(". ")[0].splitlines()
    return first[0].replace("%", "%%").replace("(type", "")[:80] if first else ""


def _choices(action: argparse.Action, short: Any) -> list[str] | None:
    """What an option may be, where that can be listed."""
    if short:
        return list(short)
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    kind = getattr(action, "_typehint", None)
    if kind in (bool, bool | None):
        return ["true", "false"]
    literals = [value for part in (kind, *getattr(kind, "__args__", ())) for value in getattr(part, "__args__", ())]
    return [value for value in literals if isinstance(value, str)] or None


def _completed(action: Any, dest: str, choices: list[str] | None = None) -> None:
    """Say how the value of an option is completed."""
    if choices:
        action.choices = choices
    elif dest in ("model", "recipe", "sweep"):
        known = f"({' '.join(_names()[dest])})"
        action.complete = {"bash": f"_latentopt_{dest}", "zsh": f"_latentopt_{dest}", "tcsh": known}
    elif dest in (*FOLDERS, *FILES, "file"):
        import shtab

        action.complete = shtab.DIRECTORY if dest in FOLDERS else shtab.FILE
