"""Options of a command line, and the fields of a recipe, as the settings of a job."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from functools import cache
from math import isfinite, isnan
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from latentopt._deprecated import current_option, current_spec
from latentopt.cli.help import examples
from latentopt.cli.registry import Job
from latentopt.components.numbers import parse_as
from latentopt.components.trust import only_trusted, refusal
from latentopt.errors import InputError, LatentOptError, seed_within, with_nearest
from latentopt.jobs.settings import JobSettings
from latentopt.zoo.strict_yaml import parse_yaml, read_yaml


@dataclass(frozen=True)
class ParsedJob:
    """A job with the settings that a recipe and a command line give it."""

    job: Job
    settings: JobSettings
    dry: bool

    def resolved(self) -> dict[str, Any]:
        """Return the whole recipe: every field of the job."""
        return self.settings.recipe()

    def check(self) -> None:
        """Do what a dry run does: check the settings, the files and the folder."""
        self.job.module().prepare(self.settings)

    def check_values(self) -> None:
        """Check the settings alone."""
        self.settings.check_components()

    def run(self) -> Any:
        """Run the job; return its result."""
        module = self.job.module()
        return module.run(module.prepare(self.settings))


def parse_job(job: Job, words: list[str], recipe: Mapping[str, Any] | None) -> ParsedJob:
    """Parse a job's options.

    Args:
        job: an entry of the table.
        words: of the command line, behind the job.
        recipe: its fields; the words override them.

    Raises:
        LatentOptError: an option is unknown, missing or of another type.
    """
    cls = job.settings_class()
    kinds, hints = cls.kinds(), get_type_hints(cls)
    flags = {name for name, kind in hints.items() if kind in (bool, bool | None)}
    fields = _current_fields(job.name, recipe or {})
    plain_words, dry, given = list[str](), False, set[str]()
    for option, values in _grouped(words):
        if option in given and option != "config":
            raise InputError(f"--{option}", "an option once", "it twice")
        given.add(option)
        name, _, path = option.partition(".")
        if option == "dry_run":
            dry = values != ["false"]
        elif option == "model" and values[:1] and values[0].startswith("{"):
            fields["model"] = _value(" ".join(values))
        elif option == "config" and len(values) == 1:
            fields |= _current_fields(job.name, _read_fields(values[0]))
        elif name in kinds:
            if len(values) != 1:
                raise InputError(option, "one value", " ".join(values) or "nothing")
            fields[name] = _overridden(fields.get(name), path, _value(values[0]))
        else:
            option, values = current_option(job.name, option, values)
            _require_known(option, job, f"--{option}", "--")
            values = [str(_with_numbers(value, hints.get(option))) for value in values]
            plain_words += [f"--{option}", *(values or ["true"] * (option in flags))]
    components = {name: current_spec(fields.pop(name)) for name in (*kinds, *job.skip) if name in fields}
    required = [name for name in job.skip if cls.__dataclass_fields__[name].default is MISSING]
    if absent := [name for name in required if name not in components]:
        raise InputError(absent[0], "a field of the recipe", "none")
    for name in fields:
        _require_known(name, job, name)
    inline = {"model": fields["model"]} if isinstance(fields.get("model"), dict) else {}
    fields |= dict.fromkeys(inline, "")  # parsed with its card
    fields = {name: _with_numbers(value, hints.get(name)) for name, value in fields.items()}
    with refusing():
        parsed = _parser_of(job).parse_args(["--config", json.dumps(fields, default=str), *plain_words])
    plain = {key: value for key, value in vars(parsed).items() if key not in ("config", "dry_run", *kinds)}
    seed_within(plain.get("seed", 0))
    return ParsedJob(job, cls(**{**plain, **inline, **components}), dry)


def _require_known(option: str, job: Job, name: str, dashes: str = "") -> None:
    """Raise `InputError` unless a job has an option."""
    known = ["config", "dry_run", "help", *job.settings_class().__dataclass_fields__]
    if option.partition(".")[0] not in known:
        got = with_nearest(name, [f"{dashes}{known_name}" for known_name in known])
        raise InputError(name, f"an option of {job.name} (--help lists them)", got)


def _with_numbers(value: Any, kind: Any) -> Any:
    """Return a value as `parse_as` does, and a number that is not finite as YAML's text of it, as JSON has none."""
    value = parse_as(value, kind)
    if isinstance(value, float) and not isfinite(value):
        return ".nan" if isnan(value) else ".inf" if value > 0 else "-.inf"
    return value


@contextmanager
def refusing() -> Iterator[None]:
    """Let a parser import trusted classes alone; what it raises becomes an error of the package."""
    try:
        with only_trusted():
            yield
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        raise refusal(error) or LatentOptError(str(error)) from error


def make_parser(job: Job) -> Any:
    """Return the parser of a job's options."""
    import docstring_parser
    from jsonargparse import ArgumentParser

    cls = job.settings_class()
    parser = ArgumentParser(prog=f"latentopt {job.words}", exit_on_error=False, allow_abbrev=False)
    described = docstring_parser.parse(cls.__doc__ or "")
    parser.description = described.short_description
    if job.examples:
        parser.epilog, parser.formatter_class = examples(job.examples), formatter()
    parser.add_argument("--config", action="config", help="YAML whose values the other options override")
    parser.add_argument("--dry_run", action="store_true", help="check the input, print the whole recipe, do nothing")
    lists = [name for name, kind in get_type_hints(cls).items() if kind in (list[str], list[str] | None)]
    helps = {param.arg_name: param.description for param in described.params}
    for name in lists:
        required = cls.__dataclass_fields__[name].default is not None
        parser.add_argument(f"--{name}", nargs="+", type=str, required=required, help=helps.get(name))
    parser.add_class_arguments(cls, as_group=False, as_positional=False, skip={*lists, *job.skip})
    return parser


_parser_of = cache(make_parser)  # making one costs more than parsing with it


def formatter() -> type[argparse.HelpFormatter]:
    """Return a class that leaves the lines of examples as they are."""
    from jsonargparse import DefaultHelpFormatter

    class ExamplesFormatter(DefaultHelpFormatter):
        def _fill_text(self, text: str, width: int, indent: str) -> str:
            return text if text.startswith("examples:") else super()._fill_text(text, width, indent)

    return ExamplesFormatter


def _grouped(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option, without leading dashes and with underscores, and the words up to the next one."""
    group: tuple[str, list[str]] | None = None
    for word in words:
        if word.startswith("--"):
            if group is not None:
                yield group
            option, separator, value = word[2:].partition("=")
            group = option.replace("-", "_"), [value] if separator else []
        elif group is None:
            raise InputError("option", "one that begins with --", repr(word))
        else:
            group[1].append(word)
    if group is not None:
        yield group


def _read_fields(path: str) -> dict[str, Any]:
    content = read_yaml(Path(path))
    if not isinstance(content, dict):
        raise InputError(path, "keys and values", type(content).__name__)
    return content


def _current_fields(job: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe by their present names, also in a recipe within."""
    fields = dict(current_option(job, key, value) for key, value in recipe.items() if key != "job")
    if isinstance(inner := fields.get("problem"), dict):
        fields["problem"] = {"job": inner.get("job"), **_current_fields(str(inner.get("job")), inner)}
    return fields


def _value(text: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        return text


def _overridden(spec: Any, path: str, value: Any) -> Any:
    """A component with one of its arguments, or, without a path, all of it, replaced."""
    if not path:
        return value
    spec = {"class_path": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    if path == "class_path":
        return {"class_path": value}
    name, _, deeper = path.removeprefix("init_args.").partition(".")
    arguments = dict(spec.get("init_args") or {})
    arguments[name] = _overridden(arguments.get(name), deeper, value)
    return {**spec, "init_args": arguments}
