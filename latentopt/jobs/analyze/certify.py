"""`latentopt analyze certify`: the true optimum of small networks, and how far from it every optimiser ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from latentopt.analysis.certify import Certificate, CertificateStatus, CertifyMethod
from latentopt.analysis.certify import certify as certified
from latentopt.classification import Misclassify
from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.analyze.certify_cases import RANDOM, Case, classifier_cases, critic_cases, random_cases
from latentopt.jobs.analyze.folder import Folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.tracker import WandbMode
from latentopt.optimizers.registry import require_name
from latentopt.reports import Report, Row, Table, Written
from latentopt.solver.loop import solve
from latentopt.solver.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STARTS = 32
NOTE = (
    "The maximum lies between the value and the bound. An optimiser's gap is at most what is told: from its value to "
    "the bound, as a share of the best value."
)


@job
def certify(
    model: str = "random-A",
    seeds: str = "0",
    data: str = "digits",
    eps: float | None = None,
    env: str | None = None,
    box: float = 0.1,
    limit: int = 5,
    optimizers: str = "pgd,apgd,adam,adr-gd-soft,cma-es",
    evaluations: int = 12800,
    seconds: float = 600.0,
    tolerance: float = 1e-3,
    method: CertifyMethod = "auto",
    seed: int = 0,
    out: str = "runs/analyze-certify",
    wandb: WandbMode = "offline",
) -> Written:
    """Bound the maximum of small networks, and price every optimiser's gap.

    Args:
        model: random-A (10-64-64-1) to random-E; digits, a small classifier that is trained first; a shipped
            classifier's name or folder; or an agent's .safetensors file.
        seeds: of the random networks, such as "0-3,7".
        data: of a classifier: a data set's name, or an .npz file with images and labels.
        eps: of a classifier: how far each pixel may change.
        env: of an agent: the environment whose states it meets; default states from a normal distribution.
        box: of an agent: how far an action may move, in units of half the range.
        limit: images of a classifier, or states of an agent.
        optimizers: names, between commas; each starts 32 times.
        evaluations: forwards and backwards that each optimiser gets.
        seconds: of CPU that each maximum gets.
        tolerance: the gap, relative to the value, at which it counts as found.
        method: split, milp or auto.
        seed: of random starts, and of the states.
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
    """
    folder = Folder("analyze-certify", locals())
    for name, value in (("limit", limit), ("evaluations", evaluations)):
        positive(name, value, integer=True)
    positive("seconds", seconds)
    nonnegative("tolerance", tolerance)
    methods = [name.strip() for name in optimizers.split(",") if name.strip()]
    for name in methods:
        require_name(name)
    _check_unused(model, eps, env)
    if model.startswith(RANDOM):
        cases = random_cases(model, seeds)
    elif model.endswith(".safetensors"):
        cases = critic_cases(model, env, box, limit, seed)
    else:
        cases = classifier_cases(model, data, eps, limit, seed)
    folder.open()
    rows = list[Row]()
    for case in tqdm(cases, unit="maximum", disable=None):
        results = {name: _optimised(case, name, evaluations, seed) for name in methods}
        best = min(results.values(), key=lambda result: float(result.value[0]), default=None)
        found = certified(case.problem, start=best, seconds=seconds, tolerance=tolerance, method=method, seed=seed)
        rows.append(_row(case, found, results))
        folder.log({f"certify/{key}": value for key, value in rows[-1].items() if isinstance(value, float)})
    report = Report(f"Certified maxima: {model}", NOTE, _tables(rows, methods), rows, partial(_draw, rows, methods))
    closed = sum(row["status"] == CertificateStatus.OPTIMAL.name for row in rows)
    return folder.write(report, {"closed": closed, "worst_gap": max(row["gap"] for row in rows)})


def _check_unused(model: str, eps: float | None, env: str | None) -> None:
    """Raise `InputError` where a setting is of another kind of model than this one."""
    agent = model.endswith(".safetensors")
    if eps is not None and (agent or model.startswith(RANDOM)):
        raise InputError("eps", "none, as only the images of a classifier have balls around them", eps)
    if env is not None and not agent:
        raise InputError("env", "none, as only an agent meets the states of an environment", env)


def _optimised(case: Case, name: str, evaluations: int, seed: int) -> Result:
    """So many evaluations of 32 starts, forwards and backwards alike, so that schedules run down."""
    steps = max(evaluations // (2 * STARTS), 1)
    return solve(case.problem, name, steps=steps, restarts=STARTS, seed=seed, evaluations=evaluations)


def _row(case: Case, found: Certificate, results: Mapping[str, Result]) -> Row:
    values = {name: -float(result.value[0]) for name, result in results.items()}
    size = abs(found.value) or 1.0
    gaps = {f"gap_{name}": max(found.bound - value, 0.0) / size for name, value in values.items()}
    told = {"value": found.value, "bound": found.bound, "gap": found.gap / size, "status": found.status.name}
    cost = {"method": found.method, "boxes": found.boxes, "seconds": found.seconds}
    told |= {"verdict": _verdict(found)} if isinstance(case.problem.objective, Misclassify) else {}
    return {"case": case.name, **told, **cost, **{f"value_{name}": value for name, value in values.items()}, **gaps}


def _verdict(margin: Certificate) -> str:
    """What the greatest margin of the other classes says of a classifier at an input."""
    return "robust" if margin.bound <= 0 else "not robust" if margin.value > 0 else "unknown"


def _tables(rows: Sequence[Row], methods: Sequence[str]) -> list[Table]:
    words = [name for name in ("status", "verdict", "method") if name in rows[0]]
    columns = ["", "value", "bound", "gap %", *words, "boxes", "CPU s"]
    lines = [
        [
            row["case"],
            f"{row['value']:.4f}",
            f"{row['bound']:.4f}",
            f"{100 * row['gap']:.3f}",
            *(row[name] for name in words),
            f"{row['boxes']:,}",
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    tables = [Table("Maxima", "", columns, lines)]
    if methods:
        tables.append(_priced(rows, methods))
    return tables


def _priced(rows: Sequence[Row], methods: Sequence[str]) -> Table:
    """Of each optimiser, how far it is from the bounds."""
    lines = list[list[str]]()
    for name in methods:
        values, gaps = [row[f"value_{name}"] for row in rows], [100 * row[f"gap_{name}"] for row in rows]
        best = sum(value >= row["value"] - 1e-4 * abs(row["value"]) for value, row in zip(values, rows, strict=True))
        below = [
            100 * (row["value"] - value) / (abs(row["value"]) or 1) for value, row in zip(values, rows, strict=True)
        ]
        shares = [f"{sum(part) / len(rows):.3f}" for part in (below, gaps)] + [f"{max(gaps):.3f}"]
        lines.append([name, f"{sum(values) / len(values):.4f}", *shares, f"{best} of {len(rows)}"])
    note = "At equal evaluations. `best`: how often it ends within .01 % of the best value known."
    return Table(
        "Optimisers", note, ["", "mean value", "below best known %", "mean gap <= %", "worst gap <= %", "best"], lines
    )


def _draw(rows: Sequence[Row], methods: Sequence[str], figure: Figure) -> None:
    """Every optimiser's gap to the bound, side by side, and what is left between the best value and the bound."""
    axes = figure.subplots()
    at = range(len(rows))
    for number, name in enumerate(methods):
        aside = 0.6 * ((number + 0.5) / len(methods) - 0.5)
        axes.plot([x + aside for x in at], [100 * row[f"gap_{name}"] for row in rows], "o", label=name)
    gaps = [100 * row["gap"] for row in rows]
    axes.hlines(gaps, [x - 0.4 for x in at], [x + 0.4 for x in at], "black", linewidth=1, label="best value known")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_xticks(list(at), [row["case"] for row in rows], rotation=90 if len(rows) > 6 else 0)
    axes.set_ylabel("gap to the bound, %")
    axes.legend()
