"""Tables, rows and plot of the attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.attack_runs import AttackCase, AttackOutcome
from benchmarks.statistics import signs
from latentopt.reports import Row, Table
from latentopt.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class AttackResults:
    """Outcome of one method with one budget on one case."""

    part: str  # table, curve, references, ablation or tuning
    group: str  # the form of ADR-GD, or the method that is tuned; else the part
    name: str
    case: AttackCase
    evaluations: int  # gradient evaluations that an image may take
    judged: AttackOutcome

    @property
    def label(self) -> str:
        """In plots."""
        return f"{self.group}: {self.name}" if self.part == "ablation" else self.name

    @property
    def rate(self) -> float:
        return self.judged.success.float().mean().item()


NOTE = (
    "Success: share of images that end inside the ball and the range of pixels and are misclassified, with Wilson's 95 "
    "% interval. For every method it includes the images that are misclassified without an attack. `+ -`: number of "
    "images on which only the method succeeds, and only the control (bold); p of the exact sign test. Loss and margin "
    "are those of the returned image: our methods stop at an image's first success, PGD of other packages continues, "
    "and their APGD returns the clean image if it fails. Forwards and backwards are means per image, counted at the "
    "model; CPU seconds are for all images together."
)
COLUMNS = (
    "method",
    "success [95 %]",
    "+ -",
    "p",
    "loss: mean",
    "median",
    "margin: mean",
    "forwards",
    "backwards",
    "CPU s",
)


def heading(case: AttackCase) -> str:
    """Return the title of a case."""
    pixels = f"{255 * case.eps:g}/255" if case.data in ("cifar10", "imagenet") else f"{case.eps:g}"
    return f"{case.network}, eps {pixels}"


def table(
    title: str, note: str, cells: Sequence[AttackResults], control: str, missing: Sequence[tuple[str, str]] = ()
) -> Table:
    """Cells of one case against the one named ``control``; ``missing`` are names and why there is no cell."""
    (base,) = (cell for cell in cells if cell.name == control)

    def row(cell: AttackResults) -> list[str]:
        judged, count = cell.judged, int(cell.judged.success.sum())
        low, high = wilson(count, len(judged.success))
        against = signs(judged.success.tolist(), base.judged.success.tolist())
        figures = (judged.loss.mean(), judged.loss.median(), judged.margin.mean())
        return [
            f"**{cell.name}**" if cell is base else cell.name,
            f"{cell.rate:.1%} [{low:.1%}, {high:.1%}]",
            "" if cell is base else f"{against.wins} {against.losses}",
            "control" if cell is base else f"{against.p:.2g}",
            *(f"{figure.item():.3g}" for figure in figures),
            f"{judged.forwards:.0f}",
            f"{judged.backwards:.0f}",
            f"{judged.seconds:.2f}",
        ]

    gone = [[name, reason, *[""] * (len(COLUMNS) - 2)] for name, reason in missing]
    return Table(title, note, COLUMNS, [*map(row, cells), *gone])


def curve(title: str, note: str, cells: Sequence[AttackResults]) -> Table:
    """Tabulate success and CPU seconds: a row for each method, a column for each budget."""
    budgets = sorted({cell.evaluations for cell in cells})
    by_method = {(cell.name, cell.evaluations): cell for cell in cells}

    def text(cell: AttackResults | None) -> str:
        return "" if cell is None else f"{cell.rate:.1%} ({cell.judged.seconds:.1f} s)"

    names = dict.fromkeys(cell.name for cell in cells)
    rows = [[name, *(text(by_method.get((name, budget))) for budget in budgets)] for name in names]
    return Table(title, note, ["method", *(str(budget) for budget in budgets)], rows)


def rows_of(cells: Sequence[AttackResults]) -> list[Row]:
    """Return a row for each image and cell."""
    return [row for cell in cells for row in _rows(cell)]


def _rows(cell: AttackResults) -> list[Row]:
    case, judged = cell.case, cell.judged
    reported = [""] * len(case.x) if judged.told is None else judged.told.tolist()
    common = {
        "part": cell.part,
        "group": cell.group,
        "network": case.network,
        "eps": case.eps,
        "box": case.box,
        "method": cell.name,
        "evaluations": cell.evaluations,
    }
    whole = {
        "mean_forwards": judged.forwards,
        "mean_backwards": judged.backwards,
        "cpu_seconds_of_all": round(judged.seconds, 4),
    }
    return [
        {
            **common,
            "image": case.first + index,
            "label": int(case.y[index]),
            "clean_error": bool(case.errors[index]),
            "success": bool(judged.success[index]),
            "inside": bool(judged.inside[index]),
            "margin": float(judged.margin[index]),
            "loss": float(judged.loss[index]),
            "distance": float(judged.distance[index]),
            "backwards": reported[index],
            **whole,
        }
        for index in range(len(case.x))
    ]


def draw(cells: Sequence[AttackResults], figure: Figure) -> None:
    """Plot each case's success against gradient evaluations and CPU seconds, a line for each method."""
    drawn = [cell for cell in cells if cell.part != "ablation"] or list(cells)
    cases = list(dict.fromkeys(heading(cell.case) for cell in drawn))
    figure.set_size_inches(13, 4 * len(cases) + 1)
    panels = figure.subplots(len(cases), 2, squeeze=False, sharey="row")
    axes: tuple[tuple[str, Callable[[AttackResults], float]], ...] = (
        ("gradient evaluations that an image may take", lambda cell: cell.evaluations),
        ("CPU s of an image, mean", lambda cell: cell.judged.seconds / len(cell.case.x)),
    )
    for row, name in zip(panels, cases, strict=True):
        mine = [cell for cell in drawn if heading(cell.case) == name]
        for ax, (label, x) in zip(row, axes, strict=True):
            _lines(ax, mine, x)
            ax.set(xscale="log", xlabel=label, ylabel="success", title=name)
            ax.grid(alpha=0.3)
        row[1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))


def _lines(ax: Any, cells: Sequence[AttackResults], x: Callable[[AttackResults], float]) -> None:
    for index, name in enumerate(dict.fromkeys(cell.label for cell in cells)):
        unique = {cell.evaluations: cell for cell in cells if cell.label == name}
        points = sorted((max(x(cell), 1e-6), cell.rate) for cell in unique.values())
        marker = "os^vD*"[index // 10 % 6]
        ax.plot(
            *zip(*points, strict=True), marker=marker, color=f"C{index % 10}", label=name, markersize=4, linewidth=1
        )
