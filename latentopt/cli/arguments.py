"""From the words of a command line and a recipe to a job's arguments: dashes, short names, flags, one-line errors."""

from __future__ import annotations

import argparse
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentopt._deprecated import current_option
from latentopt.cli.help import examples
from latentopt.cli.table import Job
from latentopt.errors import InputError, LatentOptError, seed_within
from latentopt.rehearsal import rehearsed
from latentopt.zoo.strict_yaml import read_yaml
from latentopt.zoo.trust import only_trusted, refusal

Names = dict[str, dict[str, Any]]
"""Of each field that takes an object, the short names and what they stand for."""
FOLDERS = ("out", "log")
"""Options that name a folder to write to."""
NO_FIELDS = ("config", "dry_run")
"""Options that are no fields of a recipe."""


@dataclass(frozen=True)
class Parsed:
    """What a recipe and a command line ask of a job."""

    job: Job
    parser: Any
    plain: Any  # as plain data
    dry: bool

    def arguments(self) -> dict[str, Any]:
        """Of the job's function, as objects."""
        seed = self.plain.get("seed", 0)
        seed_within(seed)
        torch.manual_seed(seed)  # networks that a recipe names draw their first weights here
        with _refusing():
            values = self.parser.instantiate(self.plain)
        names = [name for name in inspect.signature(self.job.load()).parameters if name not in self.job.skip]
        more = {
            name: self.plain["module"]["init_args"].as_dict() for name in self.job.skip
        }  # how the networks are built
        return {**{name: _expanded(name, values[name]) for name in names}, **more}

    def check(self) -> None:
        """Do what a dry run does: check the settings, the files and the folder."""
        with rehearsed():
            self.run()

    def check_values(self) -> None:
        """Check the settings alone."""
        self.arguments()

    def run(self) -> Any:
        """Run the job; return its result."""
        return self.job.load()(**self.arguments())

    def resolved(self) -> dict[str, Any]:
        """The whole recipe: every field of the job, spelled out."""
        fields = {key: value for key, value in _spelled_out(self.plain).items() if key not in NO_FIELDS}
        with _refusing():  # class paths of defaults are spelled as those of a recipe are
            again = _spelled_out(self.parser.parse_object(fields))
        return {"job": self.job.name, **{key: again[key] for key in fields}}


def _spelled_out(value: Any) -> Any:
    """Namespaces of a parser, and objects that are defaults, as a recipe has them."""
    from jsonargparse import Namespace

    from latentopt.jobs.components import describe

    value = vars(value) if isinstance(value, Namespace) else value
    if isinstance(value, dict):
        return {key: _spelled_out(item) for key, item in value.items()}
    return [_spelled_out(item) for item in value] if isinstance(value, list | tuple) else describe(value)


def parse(job: Job, words: list[str], recipe: dict[str, Any] | None) -> Parsed:
    """A job's options, from its recipe and the command line.

    Raises:
        LatentOptError: the options are not those of the job.
    """
    parser, known = parser_of(job.words, job.load(), job.skip, job.examples), dict[str, Any]()
    if recipe is not None:
        named = dict(current_option(job.words, key, value) for key, value in recipe.items() if key != "job")
        fields = {key: _long_name(known, key, value) for key, value in named.items()}
        words = ["--config", json.dumps(fields, default=str), *words]
    with _refusing():
        plain = parser.parse_args(_completed(words, parser, known))
    return Parsed(job, parser, plain, plain.dry_run)


@contextmanager
def _refusing() -> Iterator[None]:
    """Let a parser import only trusted classes; what it raises becomes an error of the package, the first cause."""
    try:
        with only_trusted():
            yield
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        raise refusal(error) or LatentOptError(str(error)) from error


def _expanded(name: str, value: Any) -> Any:
    """A folder for results may name environment variables: an agent of a sweep tells runs apart by one."""
    if name not in FOLDERS or not isinstance(value, str):
        return value
    folder = os.path.expandvars(value) if name == "out" else value
    if not folder.strip():  # Path("") is the current folder
        raise InputError(name, "a folder", repr(folder))
    return folder


def parser_of(job: str, function: Callable[..., Any], skip: Sequence[str], shown: tuple[str, ...] = ()) -> Any:
    """The parser of a function's options; ``shown`` are the examples of its help."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"latentopt {job}", exit_on_error=False, allow_abbrev=False)
    parser.description = inspect.getdoc(function).splitlines()[0]  # pyright: ignore[reportOptionalMemberAccess]
    if shown:
        parser.epilog, parser.formatter_class = examples(shown), _formatter()
    parser.add_argument("--config", action="config", help="YAML whose values the other options override")
    parser.add_argument("--dry_run", action="store_true", help="check the input, print the whole recipe, do nothing")
    if job in ("reconstruct", "diagnose"):
        described = "image files and folders; or one .npy or .npz array; or a data set's name (digits, mnist, ...)"
        parser.add_argument("--targets", nargs="+", type=str, required=job == "reconstruct", help=described)
        skip = [*skip, "targets"]
    parser.add_function_arguments(function, as_positional=False, skip=set(skip))
    return parser


def _formatter() -> type[argparse.HelpFormatter]:
    from jsonargparse import DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter):
        """Leaves the lines of examples as they are."""

        def _fill_text(self, text: str, width: int, indent: str) -> str:
            return text if text.startswith("examples:") else super()._fill_text(text, width, indent)

    return Formatter


def _completed(words: list[str], parser: Any, known: Names) -> list[str]:
    """Options with dashes and short names spelled out, and flags without a value set to true."""
    job = parser.prog.removeprefix("latentopt ")
    words = [_current(job, part) for word in words for part in _parts(word)]
    flags = {
        f"--{action.dest}" for action in parser._actions if getattr(action, "_typehint", None) in (bool, bool | None)
    }
    completed: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        before = completed[-1] if completed else ""
        completed.append(_spelled(known, before.removeprefix("--"), word) if before.startswith("--") else word)
        if word in flags and following.startswith("--"):
            completed.append("true")
    pairs = zip(["", *completed], completed, strict=False)
    return [_config(word) if before == "--config" else word for before, word in pairs]


def _config(word: str) -> str:
    """What a file of options holds, read as a recipe is; a recipe itself is written out already."""
    return word if word.startswith("{") else json.dumps(read_yaml(Path(word)), default=str)


def _parts(word: str) -> list[str]:
    if not word.startswith("--"):
        return [word]
    option, *value = word.split("=", 1)
    return ["--" + option[2:].replace("-", "_"), *value]


def _current(job: str, word: str) -> str:
    return f"--{current_option(job, word[2:])[0]}" if word.startswith("--") else word


def _spelled(known: Names, option: str, word: str) -> str:
    value = _long_name(known, option, word)
    return value if isinstance(value, str) else json.dumps(value)


def _long_name(known: Names, field: str, value: Any) -> Any:
    """What a short name stands for, where the field is one that takes an object."""
    names = known.get(field)
    if names is None or not isinstance(value, str) or value.startswith("{") or "." in value or value in names.values():
        return value
    if value.lower() not in names:
        raise InputError(field, f"one of {', '.join(names)}, or a class path", repr(value))
    return names[value.lower()]
