"""`python -m benchmarks NAME [options]`: run a study and print its table."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, get_args, get_type_hints

from benchmarks.study import STUDIES
from latentopt.errors import InputError, LatentOptError


class StudyParser(argparse.ArgumentParser):
    """A parser whose errors are those of the package."""

    def error(self, message: str) -> Any:
        raise InputError("options", "those that --help lists", message)


def load(name: str) -> Callable[..., Any]:
    """Return a study by its name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in STUDIES:
        raise InputError("study", f"one of {', '.join(STUDIES)}", repr(name))
    stem = name.replace("-", "_")
    return getattr(import_module(f"benchmarks.{stem}"), stem)


def parse(name: str, words: Sequence[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Read the options of a study.

    Args:
        name: of the study.
        words: the options.

    Returns:
        The study and its arguments.

    Raises:
        InputError: the study or an option is unknown, or a value is not a number where one is expected.
    """
    from docstring_parser import parse as parse_docstring

    function = load(name)
    described = parse_docstring(inspect.getdoc(function) or "")
    help_of = {param.arg_name: param.description for param in described.params}
    parser = StudyParser(
        prog=f"python -m benchmarks {name}", description=described.short_description, allow_abbrev=False
    )
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        flag: dict[str, Any] = (
            {"action": "store_true"} if parameter.default is False else {"default": parameter.default}
        )
        parser.add_argument(f"--{parameter.name.replace('_', '-')}", help=help_of.get(parameter.name), **flag)
    hints = get_type_hints(inspect.unwrap(function)) | {"threads": int}
    values = vars(parser.parse_args(words))
    return function, {key: _converted(key, value, hints.get(key)) for key, value in values.items()}


def _converted(name: str, value: Any, hint: Any) -> Any:
    for kind, expected in ((int, "an integer"), (float, "a number")):
        if kind in (hint, *get_args(hint)) and isinstance(value, str):
            try:
                return kind(value)
            except ValueError as error:
                raise InputError(name, expected, repr(value)) from error
    return value


def main(words: Sequence[str]) -> int:
    """Run a study; return the exit code."""
    try:
        if not words or words[0] in ("-h", "--help"):
            print(f"usage: python -m benchmarks NAME [options]\n\nNAME: {', '.join(STUDIES)}, each with --help")
            return 0
        function, arguments = parse(words[0], words[1:])
        written = function(**arguments)
    except LatentOptError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    print(written.markdown)
    for file in written.files:
        print(f"  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
