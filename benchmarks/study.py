"""A study: a function that returns a report, with the options that all studies share, and its folder of results."""

from __future__ import annotations

import functools
import inspect
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import torch

from benchmarks.timing import threads as pinned
from latentopt.errors import InputError, nonnegative, positive
from latentopt.io import versions, write_atomically
from latentopt.reports import PLOT, ROWS, TABLE, Report, WrittenReport, csv_text, png_bytes

T = TypeVar("T")
ENVIRONMENT = "environment.json"
STUDIES = (
    *("random-nets", "attack", "attack-policy", "reconstruct", "head-to-head", "compressed-sensing", "learnt-starts"),
    *(
        "posterior",
        "poisson",
        "decoders",
        "decoder-memory",
        "style-spaces",
        "nonlinear",
        "phase-retrieval",
        "blind-deblur",
    ),
    *("actions", "returns", "train-rl", "cost", "norms"),
)
"""The study NAME is the function of that name in the module of that name, dashes as underscores."""
FROM_ZERO = ("seed", "first_seed", "exact")
"""Arguments that may be 0; all other numbers must be positive."""
SHARED = """threads: number of torch threads.
        out: folder for the results; default runs/bench/NAME.
        overwrite: replace the results of an earlier run there."""


def study(function: Callable[..., Report]) -> Callable[..., WrittenReport]:
    """Return the study whose report a function makes.

    The study also takes ``threads``, ``out`` and ``overwrite``, checks its numbers and its folder before any work, and
    writes ``table.md``, ``results.csv``, ``plot.png`` and ``environment.json``. A report whose function needs a folder
    for what it keeps between runs takes it as ``folder``.

    Args:
        function: its arguments are the options; the last one is ``quick``.
    """
    name = function.__name__.replace("_", "-")
    signature, hints = inspect.signature(function), get_type_hints(function)
    own = [p for p in signature.parameters.values() if p.name != "folder"]
    shared = [
        inspect.Parameter("threads", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=1, annotation=int),
        inspect.Parameter("out", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=str | None),
        inspect.Parameter("overwrite", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation=bool),
    ]
    whole = signature.replace(parameters=[*own[:-1], *shared, own[-1]], return_annotation=WrittenReport)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> WrittenReport:
        bound = whole.bind(*args, **kwargs)
        bound.apply_defaults()
        settings = dict(bound.arguments)
        for key, value in settings.items():
            _check(key, value, {**hints, "threads": int}.get(key))
        tuning = "-tune" if settings.get("tune") else ""
        model = f"-{settings['model']}" if "model" in settings else ""
        settings["out"] = settings["out"] or f"runs/bench/{name}{model}{tuning}"
        folder, begun, load = Path(settings["out"]), time.perf_counter(), _load()
        _check_folder(folder, settings["overwrite"])
        arguments = {key: value for key, value in settings.items() if key not in ("threads", "out", "overwrite")}
        if "folder" in signature.parameters:
            arguments["folder"] = folder
        with pinned(settings["threads"]):
            report = function(**arguments)
        environment = _environment(name, settings, load, time.perf_counter() - begun)
        return _write(folder, report, environment)

    run.__signature__ = whole  # pyright: ignore[reportAttributeAccessIssue]
    run.__doc__ = (function.__doc__ or "").replace("        quick:", f"        {SHARED}\n        quick:")
    return run


def _check(name: str, value: Any, hint: Any) -> None:
    """Raise `InputError` if a number or a word is not valid for its argument."""
    choices = [choice for part in (hint, *get_args(hint)) for choice in get_args(part) if isinstance(choice, str)]
    if choices and value is not None and value not in choices:
        raise InputError(name, f"one of {', '.join(choices)}", repr(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        (nonnegative if name in FROM_ZERO else positive)(name, value, integer=float not in (hint, *get_args(hint)))


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Raise `InputError` if writing would replace existing results."""
    if folder.exists() and not folder.is_dir():
        raise InputError("out", "a folder", f"the file {folder}")
    if not overwrite and any((folder / name).exists() for name in (TABLE, ROWS, PLOT, ENVIRONMENT)):
        raise InputError("out", "a folder without a benchmark's results, or --overwrite", f"{folder}")


def _write(folder: Path, report: Report, environment: dict[str, Any]) -> WrittenReport:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        TABLE: report.markdown().encode(),
        ROWS: csv_text(report.rows).encode(),
        PLOT: png_bytes(report.draw),
        ENVIRONMENT: json.dumps(environment, indent=2).encode() + b"\n",
    }
    for name, data in content.items():
        write_atomically(folder / name, data)
    return WrittenReport(report.markdown(), [folder / name for name in content])


def _environment(name: str, settings: dict[str, Any], load: tuple[float, ...], seconds: float) -> dict[str, Any]:
    """Return the environment: the settings and versions behind the figures, and the load that may disturb the times."""
    words = []
    for key, value in settings.items():
        if value is not None and value is not False:
            words += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    return {
        "command": f"python -m benchmarks {name} {' '.join(words)}",
        "settings": settings,
        "versions": {**versions(), "numpy": np.__version__},
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": settings["threads"],
        "load_before": load,
        "load_after": _load(),
        "seconds": round(seconds, 2),
        "platform": platform.platform(),
        "torch_built_with": {
            "mkl": torch.backends.mkl.is_available(),
            "onednn": torch.backends.mkldnn.is_available(),
        },
    }


def _load() -> tuple[float, ...]:
    return tuple(round(load, 2) for load in os.getloadavg()) if hasattr(os, "getloadavg") else ()


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def chosen(argument: str, names: str, known: Mapping[str, T], always: str | None = None) -> dict[str, T]:
    """Return those of a comma-separated list, or of ``all``, in the order in which they are known.

    Args:
        argument: its name, for the error.
        names: the list.
        known: all of them by name.
        always: one that is chosen in any case.

    Raises:
        InputError: there is no such name.
    """
    chosen_names = list(known) if names == "all" else [name.strip() for name in names.split(",")]
    for name in chosen_names:
        if name not in known:
            raise InputError(argument, f"all, or some of {', '.join(known)}", repr(name))
    return {name: value for name, value in known.items() if name in {always, *chosen_names}}


def numbers(argument: str, text: str, kind: Callable[[str], float] = float) -> tuple[Any, ...]:
    """Return the positive numbers of a comma-separated list.

    Args:
        argument: its name, for the error.
        text: the list.
        kind: reads one.

    Raises:
        InputError: one is no positive number.
    """
    try:
        values = tuple(kind(word) for word in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(argument, "numbers between commas", repr(text)) from error
    for value in values:
        positive(argument, value, integer=kind is int)
    return values


def stored(path: Path, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the outcome of some work, from its file where it was done before, so that a stopped study goes on.

    Args:
        path: of the file; its folder is made.
        settings: what decides the outcome; the versions of packages are added.
        work: returns what JSON can hold.

    Raises:
        InputError: the file has the outcome of other settings.
    """
    now = json.loads(json.dumps({**settings, "versions": versions()}, default=str))
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] != now:
            raise InputError("out", "a new folder, or one of work with these settings", str(path))
        return content["found"]
    outcome = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"settings": now, "found": outcome}).encode())
    return outcome
