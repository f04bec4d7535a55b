"""`latentopt completion SHELL`: a script that completes commands, options and names.

jsonargparse and shtab write the script, from the parsers that read the command line.
"""

from __future__ import annotations

import argparse
from functools import cache
from typing import Any

from latentopt.cli.registry import COMMANDS, JOBS, Job
from latentopt.errors import InputError, with_nearest

SHELLS = ("bash", "zsh", "tcsh")
VERBS = {"models": ("list", "show"), "recipes": ("list", "show", "copy")}
SHIPPED = ("model", "recipe", "sweep")
"""Arguments whose values are shipped names, or files."""
FOLDERS, FILES = ("out", "root", "log"), ("config", "targets", "data", "weights", "agent", "file")
"""Arguments whose values are folders, or files."""


def completion(words: list[str]) -> int:
    """Print the script for a shell; return the exit code."""
    if len(words) != 1 or words[0] not in SHELLS:
        got = with_nearest(words[0], SHELLS) if len(words) == 1 else " ".join(words) or "nothing"
        raise InputError("completion", f"one of {', '.join(SHELLS)}", got)
    bodies = {
        "bash": 'compgen -W "{names}" -- $1; compgen -f -- $1;',
        "zsh": "_alternative '{kind}s:{kind}:({names})' 'files:file:_files'",
        "tcsh": "",
    }
    body = bodies[words[0]]
    functions = [f"_latentopt_{kind}() {{ {body.format(kind=kind, names=_shipped_names(kind))} }}" for kind in SHIPPED]
    print(_root_parser().get_completion_script(f"shtab-{words[0]}", preambles=functions if body else []))
    return 0


@cache
def _shipped_names(kind: str) -> str:
    from latentopt.zoo import card
    from latentopt.zoo.paths import shipped_folder

    if kind == "model":
        return " ".join(card.names())
    folder = shipped_folder("recipes" if kind == "recipe" else "recipes/sweeps")
    return " ".join(sorted(path.stem for path in folder.glob("*.yaml")))


def _root_parser() -> Any:
    """Return a parser with the whole command line in it, for completion alone."""
    from jsonargparse import ArgumentParser

    root = ArgumentParser("latentopt", description="Optimise the input of frozen networks.")
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subcommands()
    for name, command in COMMANDS.items():
        jobs = [job for job in JOBS.values() if job.words == name or name == "run"]
        parser = _job_parser(jobs) if jobs else ArgumentParser()
        commands.add_subcommand(name, parser, help=command.summary)
        if command.takes == "RECIPE":
            _complete(parser.add_argument("recipe"))
        if command.group:
            analyses = parser.add_subcommands()
            for job in JOBS.values():
                if job.words.startswith(f"{command.group} "):
                    analyses.add_subcommand(job.words.split()[1], _job_parser([job]), help=job.summary)
        elif name in VERBS:
            verbs = parser.add_subcommands()
            for verb in VERBS[name]:
                verb_parser = ArgumentParser()
                for argument in {"list": (), "show": (name[:-1],), "copy": (name[:-1], "file")}[verb]:
                    _complete(verb_parser.add_argument(argument))
                verbs.add_subcommand(verb, verb_parser, help=f"{verb} {name}")
        elif name == "sweep":
            for argument in ("sweep", "--out", "--trials", "--seed"):
                _complete(parser.add_argument(argument))
            parser.add_argument("--wandb", choices=("online", "offline", "disabled"))
            parser.add_argument("--dry-run", action="store_true")
        elif name == "doctor":
            parser.add_argument("--json", action="store_true")
        elif name == "completion":
            parser.add_argument("shell", choices=SHELLS)
    return root


def _job_parser(jobs: list[Job]) -> Any:
    """Return the parser of a job; with several jobs, a parser that has the options of all."""
    from latentopt.cli.options import make_parser
    from latentopt.components import short_names

    parsers, actions = [make_parser(job) for job in jobs], dict[str, argparse.Action]()
    for job, parser in zip(jobs, parsers, strict=True):
        components = job.settings_class().kinds()
        for action in parser._actions:
            action.option_strings = [option.replace("_", "-") for option in action.option_strings]
            if action.dest in components and (names := short_names(components[action.dest])):
                action.choices = list(names)
            _complete(action)
            actions.setdefault(action.dest, action)
    actions.pop("print_config", None)
    parsers[0]._actions[:] = list(actions.values())
    return parsers[0]


def _complete(action: Any) -> None:
    """Complete the value of an argument with shipped names, files or folders."""
    import shtab

    if action.dest in SHIPPED:
        function = f"_latentopt_{action.dest}"
        action.complete = {"bash": function, "zsh": function, "tcsh": f"({_shipped_names(action.dest)})"}
    elif action.dest in FOLDERS or action.dest in FILES:
        action.complete = shtab.DIRECTORY if action.dest in FOLDERS else shtab.FILE
