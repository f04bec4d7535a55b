"""From the words of a command line and a recipe to a job's arguments: dashes, short names, flags, one-line errors."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from latentopt.errors import InputError, LatentOptError

Names = dict[str, dict[str, Any]]
"""Of each field that takes an object, the short names and what they stand for."""


def arguments_of(
    job: str, function: Callable[..., Any], words: list[str], recipe: dict[str, Any] | None, skip: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job's arguments, from its recipe and the command line: as objects, and as plain data."""
    from latentopt.jobs.specs import short_names

    parser, known = parser_of(job, function, skip), short_names(job)
    if recipe is not None:
        fields = {key: _long_name(known, key, value) for key, value in recipe.items() if key != "job"}
        words = ["--config", json.dumps(fields, default=str), *words]
    try:
        plain = parser.parse_args(_completed(words, parser, known))
        torch.manual_seed(plain.get("seed", 0))  # networks that a recipe names draw their first weights here
        values = parser.instantiate(plain)
    except (argparse.ArgumentError, ValueError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        raise cause or LatentOptError(str(error)) from error
    names = [name for name in inspect.signature(function).parameters if name not in skip]
    return {name: values[name] for name in names}, plain.as_dict()


def parser_of(job: str, function: Callable[..., Any], skip: Sequence[str]) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"latentopt {job}", exit_on_error=False, allow_abbrev=False)
    parser.description = inspect.getdoc(function).splitlines()[0]  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--config", action="config", help="YAML whose values the other options override")
    if job in ("reconstruct", "diagnose"):
        described = "image files and folders; or one .npy or .npz array; or a data set's name (digits, mnist, ...)"
        parser.add_argument("--targets", nargs="+", type=str, required=job == "reconstruct", help=described)
        skip = [*skip, "targets"]
    parser.add_function_arguments(function, as_positional=False, skip=set(skip))
    return parser


def _completed(words: list[str], parser: Any, known: Names) -> list[str]:
    """Options with dashes and short names spelled out, and flags without a value set to true."""
    words = [part for word in words for part in _parts(word)]
    flags = {
        f"--{action.dest}" for action in parser._actions if getattr(action, "_typehint", None) in (bool, bool | None)
    }
    completed: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        before = completed[-1] if completed else ""
        completed.append(_spelled(known, before.removeprefix("--"), word) if before.startswith("--") else word)
        if word in flags and following.startswith("--"):
            completed.append("true")
    return completed


def _parts(word: str) -> list[str]:
    if not word.startswith("--"):
        return [word]
    option, *value = word.split("=", 1)
    return ["--" + option[2:].replace("-", "_"), *value]


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
