"""The command line: `latentopt COMMAND ...`. Bad input is one line on stderr and exit code 2, with nothing done."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from latentopt.errors import InputError, LatentOptError
from latentopt.version import __version__

HELP = """\
usage: latentopt COMMAND ...

Optimise the input of frozen, pretrained piecewise-linear networks.

commands:
  reconstruct                find the latents whose images explain your targets
  diagnose                   tell why images are not reconstructed: the optimiser's fault, or the generator's
  attack                     find small changes of images that a classifier gets wrong
  run RECIPE                 do the job that a recipe describes; any field can be overridden (--steps 100)
  train RECIPE               train a generator or a classifier and export it as a model
  recipes list | show NAME | copy NAME FILE
  models  list | show NAME
  bench NAME                 run a benchmark and write its table: random-nets, attack, reconstruct,
                             compressed-sensing, cost or norms

examples:
  latentopt run digits
  latentopt reconstruct --model mnist-vae --targets my/*.png --resize --out runs/mine
  latentopt reconstruct --model mnist-dcgan --targets images.npz --operator downsample --operator.factor 4
  latentopt attack --model mnist-cnn-robust --data mnist --eps 0.2 --limit 100
  latentopt diagnose --model mnist-vae --targets mnist --limit 16
  latentopt recipes copy digits mine.yaml && latentopt run mine.yaml --optimizer adam
  latentopt bench random-nets --model A --methods adam,adr-gd --part table

latentopt COMMAND --help lists a command's options; latentopt --version tells the version.
Exit codes: 0 all done; 1 stopped by the system (a full disk, say), the same command goes on; 2 bad input, nothing done;
3 done, but some targets were skipped.
"""
FAILED, SKIPPED_SOME = 1, 3
NONE_OF_A_UNION = r"Does not validate against any .* Subtypes: \[(.*)\] Errors: - (.*?) - .* Given value: (.*)"
Names = dict[str, dict[str, Any]]
"""Of each field that takes an object, the short names and what they stand for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except LatentOptError as error:
        print(f"latentopt: error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"latentopt: error: {_one_line(str(error))}; what is done is kept, and the same command goes on",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of a job's processes the first tells
            print("\nlatentopt: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    only_general = words[:1] not in (["reconstruct"], ["diagnose"], ["attack"]) and words[1:2] in (["-h"], ["--help"])
    if not words or words[0] in ("-h", "--help", "help") or only_general:
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    command, rest = words[0], words[1:]
    commands = {
        "reconstruct": _reconstruct,
        "diagnose": _diagnose,
        "attack": _attack,
        "train": _train,
        "run": _run,
        "recipes": _recipes,
        "models": _models,
        "bench": _bench,
    }
    if command not in commands:
        raise InputError("command", f"one of {', '.join(commands)}", repr(command))
    return commands[command](rest)


def _reconstruct(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.reconstruct import reconstruct

    report = reconstruct(**_arguments("reconstruct", reconstruct, words, recipe)[0])
    if report.rank:
        return 0
    _print_report(report)
    return SKIPPED_SOME if report.skipped else 0


def _diagnose(words: list[str]) -> int:
    from latentopt.jobs.diagnose import diagnose

    report = diagnose(**_arguments("diagnose", diagnose, words, None)[0])
    print(report.diagnosis)
    _print_skipped(report.skipped)
    for file in report.files:
        print(f"  {file}")
    return SKIPPED_SOME if report.skipped else 0


def _attack(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.attack import attack

    report = attack(**_arguments("attack", attack, words, recipe)[0])
    for warning in report.warnings:
        print(f"latentopt: warning: {_one_line(warning)}", file=sys.stderr)
    _print_attack(report)
    return 0


def _train(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.train import train

    if recipe is None:
        if not words or words[0].startswith("-"):
            raise InputError("train", "a recipe's name or file first", " ".join(words) or "nothing")
        recipe, words = _recipe(words[0]), words[1:]
        if recipe.get("job") != "train":
            raise InputError("job", "train", repr(recipe.get("job")))
    arguments, plain = _arguments("train", train, words, recipe, skip=["architecture"])
    folder = train(**arguments, architecture=plain["module"]["init_args"])
    print(f"{folder}: {json.dumps(yaml.safe_load((folder / 'card.yaml').read_text())['quality'])}")
    return 0


def _run(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        raise InputError("run", "a recipe's name or file first", " ".join(words) or "nothing")
    recipe = _recipe(words[0])
    jobs: dict[str, Callable[[list[str], dict[str, Any]], int]]
    jobs = {"reconstruct": _reconstruct, "attack": _attack, "train": _train}
    job = recipe.get("job")
    if not isinstance(job, str) or job not in jobs:
        raise InputError(f"{words[0]}: job", f"one of {', '.join(jobs)}", repr(job))
    return jobs[job](words[1:], recipe)


def _arguments(
    job: str, function: Callable[..., Any], words: list[str], recipe: dict[str, Any] | None, skip: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job's arguments, from its recipe and the command line: as objects, and as plain data."""
    from latentopt.jobs.specs import short_names

    parser, known = _parser(job, function, skip), short_names(job)
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


def _parser(job: str, function: Callable[..., Any], skip: Sequence[str]) -> Any:
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
    for word, following in zip(words, [*words[1:], "--"], strict=True):
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


def _recipe(name: str) -> dict[str, Any]:
    path = _recipe_path(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(str(path), "YAML", _one_line(str(error))) from error
    if not isinstance(content, dict):
        raise InputError(str(path), "a recipe: keys and values", type(content).__name__)
    if content.get("job") == "reconstruct" and not isinstance(content.get("targets", []), list):
        raise InputError(f"{path}: targets", "a list", repr(content["targets"]))
    return content


def _recipe_path(name: str) -> Path:
    from latentopt.zoo.content import folder

    shipped = folder("recipes") / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if not Path(name).is_file():
        known = ", ".join(sorted(path.stem for path in folder("recipes").glob("*.yaml")))
        raise InputError("recipe", f"a file, or one of {known}", repr(name))
    return Path(name)


def _recipes(words: list[str]) -> int:
    from latentopt.zoo.content import folder

    match words:
        case ["list"]:
            for path in sorted(folder("recipes").glob("*.yaml"), key=lambda path: path.stem):
                print(f"{path.stem:24s} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        case ["show", name]:
            print(_recipe_path(name).read_text(encoding="utf-8"), end="")
        case ["copy", name, file]:
            _copy(_recipe_path(name), Path(file))
        case _:
            raise InputError("recipes", "list, show NAME or copy NAME FILE", " ".join(words) or "nothing")
    return 0


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        raise InputError(str(target), "a new file", "an existing one")
    if not target.parent.is_dir():
        raise InputError(str(target.parent), "an existing folder", "none")
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    print(target)


def _models(words: list[str]) -> int:
    from latentopt.zoo import cards

    match words:
        case ["list"]:
            for name in cards.names():
                print(f"{name:20s} {cards.read_card(name).summary}")
        case ["show", name]:
            print((cards.find(name) / cards.CARD).read_text(encoding="utf-8"), end="")
        case _:
            raise InputError("models", "list or show NAME", " ".join(words) or "nothing")
    return 0


def _bench(words: list[str]) -> int:
    from latentopt.bench.attack import attack
    from latentopt.bench.compressed_sensing import compressed_sensing
    from latentopt.bench.cost import cost
    from latentopt.bench.norms import norms
    from latentopt.bench.random_nets import random_nets
    from latentopt.bench.reconstruct import reconstruct

    benchmarks: dict[str, Callable[..., Any]] = {
        "random-nets": random_nets,
        "attack": attack,
        "cost": cost,
        "norms": norms,
        "compressed-sensing": compressed_sensing,
        "reconstruct": reconstruct,
    }
    if not words or words[0] not in benchmarks:
        raise InputError("bench", f"one of {', '.join(benchmarks)} first", " ".join(words) or "nothing")
    benchmark = benchmarks[words[0]]
    written = benchmark(**_arguments(f"bench {words[0]}", benchmark, words[1:], None)[0])
    print(written.markdown)
    for file in written.files:
        print(file)
    return 0


def _print_report(report: Any, most: int = 20) -> None:
    """The table of results, the mean, and what was written."""
    columns = {"mse": ".5f", "psnr": ".2f", "ssim": ".4f", "loss": ".5f", "forwards": ".0f", "backwards": ".0f"}
    width = max(len(row["name"]) for row in report.rows)
    print(f"{report.compared + 's compared':{width}s} " + "".join(f"{name:>10s}" for name in columns) + "   seconds")
    means = {name: sum(row[name] for row in report.rows) / len(report.rows) for name in [*columns, "seconds"]}
    for row in [*report.rows[:most], {"name": "mean", **means}]:
        if row["name"] == "mean" and len(report.rows) > most:
            print(f"... {len(report.rows) - most} more in results.csv")
        figures = "".join(f"{row[name]:>10{form}}" for name, form in columns.items())
        print(f"{row['name']:{width}s} {figures}{row['seconds']:>10.2f}")
    _print_skipped(report.skipped)
    print(f"{len(report.rows)} done, {len(report.skipped)} skipped, {report.seconds:.1f} s")
    for file in report.files:
        print(f"  {file}")


def _print_skipped(skipped: list[tuple[str, str]]) -> None:
    for name, reason in skipped:
        print(f"skipped {name}: {_one_line(reason)}", file=sys.stderr)


def _print_attack(report: Any, most: int = 20) -> None:
    """The table of results, the rates, the mean cost, and what was written."""
    columns = {"index": "d", "label": "d", "clean": "d", "adversarial": "d", "success": "d", "target": "d"}
    columns |= {"margin": ".3f", "loss": ".3f", "distance": ".4f", "forwards": "d", "backwards": "d"}
    print("".join(f"{name:>12s}" for name in columns))
    for row in report.rows[:most]:
        print("".join(f"{row[name]:>12{form}}" for name, form in columns.items()))
    if len(report.rows) > most:
        print(f"... {len(report.rows) - most} more in results.csv")
    shares = {"clean accuracy": report.rates.clean, "robust accuracy": report.rates.robust}
    for name, share in {**({} if report.targeted else shares), "attack succeeds": report.rates.success}.items():
        low, high = (f"{100 * end:.1f}" for end in share.interval)
        print(f"{name:16s}{100 * share.rate:6.1f} %  [{low}, {high}]  ({share.part} of {share.whole})")
    means = {name: sum(row[name] for row in report.rows) / len(report.rows) for name in columns}
    print(f"mean margin {means['margin']:.3f}, forwards {means['forwards']:.1f}, backwards {means['backwards']:.1f}")
    left_out = f", {report.left_out} of the target's class left out" if report.left_out else ""
    print(f"{len(report.rows)} done{left_out}, {report.seconds:.1f} s")
    for file in report.files:
        print(f"  {file}")


def _one_line(text: str) -> str:
    text = re.sub(r"^Parser key \"([^\"]*)\":", r"\1:", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    text = re.sub(r"Expected an? (?:typing\.)?(.*)\. Got value: ", r"expected \1, got ", text)
    text = " ".join(text.split())
    if found := re.search(NONE_OF_A_UNION, text):
        kinds, first, value = found.groups()
        kinds = re.sub(r"(?:typing|collections\.abc|torch)\.|, NoneType", "", kinds)
        said = first if "class_path" in first else f"expected one of {kinds}, got {value}"
        text = text[: found.start()] + said
    return text
