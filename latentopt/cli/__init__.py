"""The command line: `latentopt COMMAND ...`. Bad input is one line on stderr and exit code 2, with nothing done."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from latentopt.cli.arguments import arguments_of
from latentopt.cli.recipes import read_recipe, recipes
from latentopt.cli.reports import (
    print_attack,
    print_policy,
    print_refined,
    print_report,
    print_skipped,
    print_trained,
)
from latentopt.cli.said import one_line
from latentopt.errors import InputError, LatentOptError
from latentopt.reports import Written
from latentopt.rl.extra import missing
from latentopt.version import __version__

HELP = """\
usage: latentopt COMMAND ...

Optimise the input of frozen, pretrained piecewise-linear networks.

commands:
  reconstruct                find the latents whose images explain your targets
  diagnose                   tell why images are not reconstructed: the optimiser's fault, or the generator's
  attack                     find small changes of images that a classifier gets wrong
  attack-policy              find small changes of observations that change what a policy does, and play with them
  refine                     play an agent's episodes with actions that its critic finds better, and without
  analyze NAME               why a network is easy or hard to optimise over: dynamics, capped, regions or certify
  train-rl RECIPE            train TD3 or DDPG agents that explore from refined actions
  run RECIPE                 do the job that a recipe describes; any field can be overridden (--steps 100)
  train RECIPE               train a generator, a classifier or a policy and export it as a model
  recipes list | show NAME | copy NAME FILE
  models  list | show NAME
  bench NAME                 run a benchmark and write its table: random-nets, attack, attack-policy, reconstruct,
                             compressed-sensing, actions, returns, train-rl, cost or norms

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
JOBS = ("reconstruct", "diagnose", "attack", "attack-policy", "refine")
"""Commands with a help of their own."""
BENCHMARKS = ("random-nets", "attack", "attack-policy", "reconstruct", "compressed-sensing")
BENCHMARKS += ("actions", "returns", "train-rl", "cost", "norms")
"""Each is a function of the same name in `latentopt.bench`, in a file of its own."""
ANALYSES = ("dynamics", "capped", "regions", "certify")
"""Each is a function of the same name in `latentopt.jobs.analyze`, in a file of its own."""
EXTRA = ("stable_baselines3", "gymnasium", "mujoco", "Box2D", "pygame")
"""What the extra ``rl`` brings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except LatentOptError as error:
        print(f"latentopt: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA:
            raise
        print(f"latentopt: error: {missing(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what is printed has gone: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(
            f"latentopt: error: {one_line(str(error))}; what is done is kept, and the same command goes on",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of a job's processes the first tells
            print("\nlatentopt: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    only_general = words[:1] not in [[job] for job in JOBS] and words[1:2] in (["-h"], ["--help"])
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
        "attack-policy": _attack_policy,
        "refine": _refine,
        "analyze": _analyze,
        "train": _train,
        "train-rl": _train_rl,
        "run": _run,
        "recipes": recipes,
        "models": _models,
        "bench": _bench,
    }
    if command not in commands:
        raise InputError("command", f"one of {', '.join(commands)}", repr(command))
    return commands[command](rest)


def _reconstruct(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.reconstruct import reconstruct

    report = reconstruct(**arguments_of("reconstruct", reconstruct, words, recipe)[0])
    if report.rank:
        return 0
    print_report(report)
    return SKIPPED_SOME if report.skipped else 0


def _diagnose(words: list[str]) -> int:
    from latentopt.jobs.diagnose import diagnose

    report = diagnose(**arguments_of("diagnose", diagnose, words, None)[0])
    print(report.diagnosis)
    print_skipped(report.skipped)
    for file in report.files:
        print(f"  {file}")
    return SKIPPED_SOME if report.skipped else 0


def _attack(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.attack import attack

    report = attack(**arguments_of("attack", attack, words, recipe)[0])
    if report.rank:
        return 0
    for warning in report.warnings:
        print(f"latentopt: warning: {one_line(warning)}", file=sys.stderr)
    print_attack(report)
    return 0


def _refine(words: list[str]) -> int:
    from latentopt.jobs.refine import refine

    print_refined(refine(**arguments_of("refine", refine, words, None)[0]))
    return 0


def _train_rl(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.train_rl import train_rl

    if recipe is None:
        recipe, words = _recipe_of(("train-rl",), words)
    print_trained(train_rl(**arguments_of("train-rl", train_rl, words, recipe)[0]))
    return 0


def _recipe_of(jobs: Sequence[str], words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The recipe, of one of these jobs, that a command line begins with, and the other words."""
    if not words or words[0].startswith("-"):
        raise InputError(jobs[0], "a recipe's name or file first", " ".join(words) or "nothing")
    recipe = read_recipe(words[0])
    if recipe.get("job") not in jobs:
        raise InputError("job", " or ".join(jobs), repr(recipe.get("job")))
    return recipe, words[1:]


def _attack_policy(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.attack_policy import attack_policy

    print_policy(attack_policy(**arguments_of("attack-policy", attack_policy, words, recipe)[0]))
    return 0


def _train(words: list[str], recipe: dict[str, Any] | None = None) -> int:
    from latentopt.jobs.train import train

    if recipe is None:
        recipe, words = _recipe_of(("train", "train-policy"), words)
    if recipe["job"] == "train-policy":
        from latentopt.jobs.train_policy import train_policy

        folder = train_policy(**arguments_of("train-policy", train_policy, words, recipe)[0])
        return _measured(folder)
    arguments, plain = arguments_of("train", train, words, recipe, skip=["architecture"])
    folder = train(**arguments, architecture=plain["module"]["init_args"])
    return _measured(folder)


def _measured(folder: Path) -> int:
    print(f"{folder}: {json.dumps(yaml.safe_load((folder / 'card.yaml').read_text())['quality'])}")
    return 0


def _run(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        raise InputError("run", "a recipe's name or file first", " ".join(words) or "nothing")
    recipe = read_recipe(words[0])
    jobs: dict[str, Callable[[list[str], dict[str, Any]], int]]
    jobs = {"reconstruct": _reconstruct, "attack": _attack, "attack-policy": _attack_policy}
    jobs |= {"train": _train, "train-policy": _train, "train-rl": _train_rl}
    jobs |= {f"analyze-{name}": partial(_analysis, name) for name in ANALYSES}
    job = recipe.get("job")
    if not isinstance(job, str) or job not in jobs:
        raise InputError(f"{words[0]}: job", f"one of {', '.join(jobs)}", repr(job))
    return jobs[job](words[1:], recipe)


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


def _analyze(words: list[str]) -> int:
    if not words or words[0] not in ANALYSES:
        raise InputError("analyze", f"one of {', '.join(ANALYSES)} first", " ".join(words) or "nothing")
    return _analysis(words[0], words[1:])


def _analysis(name: str, words: list[str], recipe: dict[str, Any] | None = None) -> int:
    return _written(f"analyze {name}", getattr(import_module(f"latentopt.jobs.analyze.{name}"), name), words, recipe)


def _bench(words: list[str]) -> int:
    if not words or words[0] not in BENCHMARKS:
        raise InputError("bench", f"one of {', '.join(BENCHMARKS)} first", " ".join(words) or "nothing")
    name = words[0].replace("-", "_")
    return _written(f"bench {words[0]}", getattr(import_module(f"latentopt.bench.{name}"), name), words[1:])


def _written(
    command: str, function: Callable[..., Written], words: list[str], recipe: dict[str, Any] | None = None
) -> int:
    """Run what writes a report; show it, and where it is."""
    written = function(**arguments_of(command, function, words, recipe)[0])
    print(written.markdown)
    for file in written.files:
        print(file)
    return 0
