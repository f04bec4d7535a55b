"""Folders of runs read back and compared: settings that differ, figures side by side, paired differences."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentopt.arguments import checked
from latentopt.errors import InputError, in_one_line
from latentopt.files import is_folder
from latentopt.jobs.experiment import PLACE_SETTINGS, RECIPE
from latentopt.jobs.records import METRICS, RESULTS, SUMMARY, read_metrics, read_results
from latentopt.reports import Row, Table
from latentopt.results import ResultDisplay, SavedTables
from latentopt.statistics import MeanInterval, student
from latentopt.zoo.strict_yaml import read_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

KEYS = (("name",), ("method", "seed", "sample"), ("index",), ("seed",), ("episode",))
"""Columns that tell samples apart, the first that a table has."""
DATA = ("data", "root", "split", "env")
"""Settings that must be equal where samples have numbers alone."""
COUNTS = ("forwards", "backwards", "steps")
"""Columns of whole numbers whose mean is a figure."""


@dataclass(frozen=True, eq=False, repr=False)
class Run(ResultDisplay):
    """The folder of a run: of a job, finished or not, or of `latentopt.Track`."""

    folder: Path
    settings: dict[str, Any]  # the recipe; empty for `latentopt.Track`
    results: list[Row]  # typed rows of results.csv; empty before the job is done
    metrics: list[dict[str, Any]]  # lines of metrics.jsonl: the step and its figures
    best: dict[str, float]  # figures of summary.json without their ``best/``; empty before the job is done

    @property
    def rows(self) -> list[Row]:
        """The rows of ``results``."""
        return self.results

    @property
    def finished(self) -> bool:
        """Whether the job is done."""
        return bool(self.best)

    @cached_property
    def tensor(self) -> Tensor:
        """Latents or adversarial inputs (N, *shape) of the run, in the order of ``results``.

        Raises:
            InputError: the run has none, or its file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        files = sorted(self.folder.glob("*.safetensors"))
        if len(files) != 1:
            raise InputError(str(self.folder), "one file of tensors", f"{len(files)} of them")
        try:
            (tensor,) = load_file(files[0]).values()
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(str(files[0]), "the tensor of a job", error) from error
        return tensor

    def summary(self) -> dict[str, Any]:
        """Return the job, the number of samples, the best figures and the means of the table's columns, by name."""
        return {"job": self.settings.get("job", "solve"), "samples": len(self.results), **self.best, **means(self)}

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {super().__repr__().removeprefix('Run(')}"

    def _draw(self, figure: Figure) -> None:
        draw_runs(figure, {self.folder.name: self})


def means(run: Run) -> dict[str, float]:
    """Return the mean of each column of a run's table that is a measurement, not a label."""
    columns = dict[str, list[float]]()
    for row in run.results:
        for name, value in row.items():
            if isinstance(value, float | bool) or (name in COUNTS and isinstance(value, int)):
                columns.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in columns.items() if len(values) == len(run.results)}


@checked
def read_run(folder: str | Path) -> Run:
    """Read the folder of a run.

    Args:
        folder: of a job, finished or not, or of `latentopt.Track`.

    Returns:
        Its settings, typed rows, figures by step, and best figures.

    Raises:
        InputError: it is no such folder, or a file in it cannot be read.
    """
    path = Path(folder)
    if not is_run(path):
        raise InputError(str(folder), f"the folder of a run, with {RECIPE}, {METRICS} or {RESULTS}", "none")
    return Run(
        path,
        _read(path / RECIPE, read_yaml, dict),
        _read(path / RESULTS, lambda file: read_results(file.parent), list),
        _read(path / METRICS, lambda file: read_metrics(file.parent), list),
        {name.removeprefix("best/"): value for name, value in _read(path / SUMMARY, _json, dict).items()},
    )


def is_run(folder: str | Path) -> bool:
    """Return whether a folder holds a run."""
    return is_folder(folder) and any((Path(folder) / name).is_file() for name in (RECIPE, METRICS, RESULTS))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read(path: Path, read: Callable[[Path], Any], kind: type) -> Any:
    """Return the content of a file of a run; an empty one where there is no file."""
    if not path.is_file():
        return kind()
    try:
        content = read(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(path), "a file that a run wrote", in_one_line(error)) from error
    if not isinstance(content, kind):
        raise InputError(str(path), "a file that a run wrote", type(content).__name__)
    return content


@dataclass(frozen=True, eq=False, repr=False)
class RunComparison(SavedTables):
    """Runs side by side; differences are to the first one."""

    runs: Mapping[str, Run]  # by their names

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings that differ: name of the setting to name of the run to its value."""
        flat = {name: flattened(run.settings) for name, run in self.runs.items()}
        keys = dict.fromkeys(key for settings in flat.values() for key in settings)
        columns = {key: {name: settings.get(key) for name, settings in flat.items()} for key in keys}
        return {key: values for key, values in columns.items() if len(set(map(repr, values.values()))) > 1}

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Figures: name of the figure to name of the run to its value."""
        summaries = {name: run.summary() for name, run in self.runs.items()}
        keys = dict.fromkeys(key for summary in summaries.values() for key in summary)
        return {key: {name: summary.get(key) for name, summary in summaries.items()} for key in keys}

    @property
    def differences(self) -> dict[str, dict[str, MeanInterval]]:
        """Mean differences to the first run over equal samples: name of the figure to name of the run to the mean."""
        first, *others = self.runs
        found = dict[str, dict[str, MeanInterval]]()
        for name in others:
            for figure, values in paired_differences(self.runs[first], self.runs[name]).items():
                found.setdefault(figure, {})[name] = student(values)
        return found

    @property
    def rows(self) -> list[Row]:
        """One row for each run: its name, the settings that differ, and its figures."""
        columns = {**self.settings, **self.figures}
        return [{"run": name, **{key: values[name] for key, values in columns.items()}} for name in self.runs]

    def summary(self) -> dict[str, Any]:
        """Return the number of runs and the settings that differ, by name."""
        return {"runs": len(self.runs), "differ": list(self.settings)}

    def markdown(self) -> str:
        """Return three tables in Markdown: settings that differ, figures, paired differences."""
        names, differences = list(self.runs), self.differences
        first, note = names[0], "Mean difference to {} over the samples that both have, with a 95 % interval (Student)."
        tables = [
            ("Settings that differ", "", names, self.settings, _text),
            ("Figures", "", names, self.figures, _text),
            ("Differences", note.format(first), names[1:], differences, _interval),
        ]
        texts = []
        for title, text, columns, content, show in tables:
            rows = [[key, *(show(values.get(name)) for name in columns)] for key, values in content.items()]
            if rows:
                texts.append(Table(title, text, (title.split()[0].lower().rstrip("s"), *columns), rows).markdown())
        return "\n\n".join(texts) + "\n"

    def _draw(self, figure: Figure) -> None:
        draw_runs(figure, self.runs)


@checked
def compare_runs(*folders: str | Path) -> RunComparison:
    """Compare runs: the settings that differ, figures side by side, and differences paired by sample.

    Samples are the same where they have the same name; where they have numbers alone, if the data are the same too.

    Args:
        folders: two or more, as in `read_run`; the first is the one that others are compared with.

    Returns:
        The tables, as text, rows and files.

    Raises:
        InputError: there are fewer than two, one is given twice, or one is no folder of a run.
    """
    if len(folders) < 2:
        raise InputError("runs", "two folders or more", len(folders))
    runs = [read_run(folder) for folder in folders]
    paths = [run.folder.resolve() for run in runs]
    if twice := [str(run.folder) for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]:
        raise InputError("runs", "each folder once", twice[0])
    counts = Counter(path.name for path in paths)
    names = [path.name if counts[path.name] == 1 else str(run.folder) for run, path in zip(runs, paths, strict=True)]
    return RunComparison(dict(zip(names, runs, strict=True)))


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dots in their names, without those that only say where and how a job ran.

    >>> flattened({"optimizer": {"class_path": "adam", "init_args": {"lr": 0.1}}, "out": "runs/a"})
    {'optimizer': 'adam', 'optimizer.lr': 0.1}
    """
    flat = dict[str, Any]()
    for key, value in settings.items():
        name = {"class_path": prefix.rstrip("."), "init_args": prefix.rstrip(".")}.get(key, f"{prefix}{key}")
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{name}.")
        elif prefix or key not in PLACE_SETTINGS:
            flat[name] = value
    return flat


def paired_differences(first: Run, other: Run) -> dict[str, list[float]]:
    """Return the differences, other minus first, of each figure over the samples that both tables have."""
    tables = [_by_sample(run) for run in (first, other)]
    columns = [figure for figure in means(other) if figure in means(first)]
    same_data = all(first.settings.get(key) == other.settings.get(key) for key in DATA)
    if not columns or tables[0][0] != tables[1][0] or not (same_data or tables[0][0] == ("name",)):
        return {}
    (_, a), (_, b) = tables
    shared = [key for key in a if key in b]
    differences = {name: [float(b[key][name]) - float(a[key][name]) for key in shared] for name in columns}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in differences.items()}
    return {name: values for name, values in finite.items() if values}


def _by_sample(run: Run) -> tuple[Sequence[str], dict[tuple[Any, ...], Row]]:
    """Return the columns that tell samples apart, and the rows by them; none where they tell not all apart."""
    columns = next((keys for keys in KEYS if run.results and all(key in run.results[0] for key in keys)), ())
    rows = {tuple(row[key] for key in columns): row for row in run.results}
    return (columns, rows) if len(rows) == len(run.results) else ((), {})


def _text(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _interval(difference: MeanInterval | None) -> str:
    if difference is None:
        return ""
    known = difference.high - difference.low < float("inf")
    return f"{difference.mean:+.4g}" + (f" [{difference.low:.3g}, {difference.high:.3g}]" if known else "")


def draw_runs(figure: Figure, runs: Mapping[str, Run]) -> None:
    """Draw the best loss of each run so far against its forwards, or by step where it has not tracked them."""
    axes, label = figure.subplots(), "step"
    for name, run in runs.items():
        lines = [line for line in run.metrics if isinstance(line.get("loss/best"), float | int)]
        if lines and all("cost/forwards" in line for line in lines):
            label = "forwards of a sample"
        costs = [line.get("cost/forwards", line["step"]) for line in lines]
        axes.plot(costs, [line["loss/best"] for line in lines], label=name)
    axes.set(xlabel=label, ylabel="best loss so far")
    axes.grid(alpha=0.3)
    axes.legend()
