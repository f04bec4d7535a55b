"""Choose the sizes of methods with Optuna, on problems that a study itself does not use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from latentopt.errors import InputError
from latentopt.reports import Report, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Grids = Mapping[str, Mapping[str, Sequence[Any]]]
"""Sizes by group and method."""
NOTE = "Every size of every method. Bold: the best one, by the first score, then by the others."


def tuning_report(
    title: str, grids: Grids, score: Callable[[str, str, Any], tuple[float, ...]], scores: Sequence[str]
) -> Report:
    """Try every size of every method in each group, and report the best ones.

    Args:
        title: of the report.
        grids: sizes by group and method.
        score: from group, method and size; greater is better, the first number counts most.
        scores: names of the numbers.

    Returns:
        A table a group, and the best sizes as a part of tuned.yaml.

    Raises:
        InputError: Optuna is not installed.
    """
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("tune", "Optuna: pip install -r requirements-tuning.txt", "none") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows, best = list[Row](), dict[str, dict[str, Any]]()
    for group, methods in grids.items():
        best[group] = {}
        for method, sizes in methods.items():
            study = optuna.create_study(direction="maximize", sampler=_grid(optuna, len(sizes)))

            def objective(trial: Any, group: str = group, method: str = method, sizes: Sequence[Any] = sizes) -> float:
                values = score(group, method, sizes[trial.suggest_int("size", 0, len(sizes) - 1)])
                trial.set_user_attr("scores", values)
                return values[0]

            study.optimize(objective, n_trials=len(sizes))
            scores_of = {trial.params["size"]: trial.user_attrs["scores"] for trial in study.trials}
            best[group][method] = _plain(sizes[max(sorted(scores_of), key=scores_of.__getitem__)])
            rows += [
                {"group": group, "method": method, "size": _plain(sizes[size])}
                | dict(zip(scores, scores_of[size], strict=True))
                for size in sorted(scores_of)
            ]
    tables = [_table(group, [row for row in rows if row["group"] == group], best[group], scores) for group in grids]
    appendix = f"```yaml\n{yaml.safe_dump(best, sort_keys=False, width=118)}```"
    return Report(title, NOTE, tables, rows, partial(_draw, rows, scores[0]), appendix)


def _grid(optuna: Any, count: int) -> Any:
    return optuna.samplers.GridSampler({"size": list(range(count))}, seed=0)


def _plain(size: Any) -> Any:
    return list(size) if isinstance(size, tuple) else size


def _table(group: str, rows: Sequence[Row], best: Mapping[str, Any], scores: Sequence[str]) -> Table:
    def cells(row: Row) -> list[str]:
        size = f"**{row['size']}**" if best[row["method"]] == row["size"] else str(row["size"])
        return [row["method"], size, *(f"{row[name]:.6g}" for name in scores)]

    return Table(group, "", ["method", "size", *scores], [cells(row) for row in rows])


def _draw(rows: Sequence[Row], score: str, figure: Figure) -> None:
    """Plot the first score of every size."""
    figure.set_size_inches(8, 0.22 * len(rows) + 1)
    axes = figure.subplots()
    axes.plot([row[score] for row in rows], [f"{row['group']}: {row['method']} {row['size']}" for row in rows], "o")
    axes.set(xlabel=score)
    axes.grid(alpha=0.3)
