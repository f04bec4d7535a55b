"""The tables and rows of `latentopt analyze dynamics`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.analysis.dynamics import Amplification, Dynamics
from latentopt.reports import Drawing, Report, Row, Table

NOTE = """\
delta <- delta + a g(x + delta), m times, against three formulas (arXiv 2205.15130): `first-order` a m g; `eigen`, the
Hessian held; `region-exact`, the gates held. The error is ||predicted - real|| / ||real||. `gates held` is the error
against the same ascent in a network whose gates stay as they are at the clean image: the error without flips. A flip is
a gate, or the index of a maximum, that differs from the clean image's."""
FLIPS = ((0, 0), (1, 3), (4, 10), (11, 30), (31, 100), (101, None))
DOUBTS = (0, 1e-8, 1e-6, 1e-4, 1e-2, 0.5, 1)
Mask = NDArray[np.bool_]


class DynamicsResult(NamedTuple):
    """One choice of step sizes and its results."""

    name: str
    labels: Tensor  # (N,) long
    a: Tensor  # (N,) step sizes
    dynamics: Dynamics
    norms: Amplification


def report(title: str, results: Sequence[DynamicsResult], draw: Drawing) -> Report:
    """Summarise the results."""
    tables = [_ends(results), _by_flips(results), _by_step(results), _by_doubt(results[-1])]
    rows = [row for result in results for row in _rows(result)]
    return Report(title, NOTE, tables, rows, draw, appendix(results))


def appendix(results: Sequence[DynamicsResult]) -> str:
    """State the error of the region-exact formula where it holds."""
    lines = []
    for one in results:
        errors = one.dynamics.error["region-exact"]
        m = torch.arange(1, len(errors) + 1, device=errors.device)[:, None]
        before = errors[m <= one.dynamics.first_flip]
        lines.append(f"- {one.name}: {before.max().item():.2g} ({len(before)} pairs of an image and a step)")
    head = "The largest error of `region-exact` up to the first flip, and at it, as that step still starts inside:"
    return "\n".join([head, "", *lines])


def _ends(results: Sequence[DynamicsResult]) -> Table:
    """Tabulate a row for each setting and formula."""
    rows = []
    for one in results:
        inside = _array(one.dynamics.inside[-1])
        for name, errors in one.dynamics.error.items():
            error, fixed_gates = _array(errors[-1]), _array(one.dynamics.held[name][-1])
            middles = [median(error), median(error, inside), median(error, ~inside), median(fixed_gates)]
            cosine = median(_array(one.dynamics.cosine[name][-1]))
            rows.append((one.name, name, *map(short, middles), f"{cosine:.4f}", f"{inside.sum()} of {len(inside)}"))
    columns = ("step sizes", "formula", "error", "no flip", "flips", "gates held", "cosine", "images without a flip")
    return Table("Error after the last step", "Medians over the images.", columns, rows)


def _by_flips(results: Sequence[DynamicsResult]) -> Table:
    """Tabulate a row for each setting and number of flips."""
    rows = []
    for one in results:
        flips = _array(one.dynamics.flips[-1])
        for low, high in FLIPS:
            among = (flips >= low) & (flips <= (flips.max() if high is None else high))
            if among.any():
                cells = [short(median(_array(errors[-1]), among)) for errors in one.dynamics.error.values()]
                fixed_gates = [short(median(_array(one.dynamics.held["eigen"][-1]), among))]
                label = f"{low} and more" if high is None else str(low) if low == high else f"{low} to {high}"
                rows.append((one.name, label, str(among.sum()), *cells, *fixed_gates))
    columns = ("step sizes", "flips", "images", *results[0].dynamics.error, "eigen, gates held")
    return Table("What flips explain", "Median error after the last step, by the number of flips there.", columns, rows)


def _by_step(results: Sequence[DynamicsResult]) -> Table:
    """Tabulate a row for each setting and step."""
    rows = []
    for one in results:
        for m, (flips, inside) in enumerate(zip(one.dynamics.flips, one.dynamics.inside, strict=True)):
            both = [(_array(errors[m]), _array(inside)) for errors in one.dynamics.error.values()]
            cells = [f"{short(median(error))} / {short(median(error, mask))}" for error, mask in both]
            rows.append((one.name, str(m + 1), f"{median(_array(flips)):g}", str(int(inside.sum())), *cells))
    note = "Median error of all images / of those without a flip so far."
    columns = ("step sizes", "m", "median flips", "without a flip", *results[0].dynamics.error)
    return Table("Error by step", note, columns, rows)


def _by_doubt(one: DynamicsResult) -> Table:
    """Tabulate a row for each range of 1 - p_y."""
    norms = {name: _array(value) for name, value in one.norms.__dict__.items()}
    rows = []
    for low, high in pairwise(DOUBTS):
        among = (norms["doubt"] >= low) & (norms["doubt"] < high) if high < 1 else norms["doubt"] >= low
        if among.any():
            ratio = [
                median(norms[name] / norms["input_clean"], among)
                for name in ("input_end", "input_eigen", "input_region")
            ]
            weights = median(norms["parameters_end"] / norms["parameters_clean"], among)
            shares = [norms[name][among].sum() / norms[name].sum() for name in ("parameters_clean", "parameters_end")]
            size = short(median(one.a.cpu().numpy() * len(one.dynamics.flips) * norms["top"], among))
            cells = [short(value) for value in (*ratio, weights)]
            rows.append((f"{low:g} to {high:g}", str(among.sum()), size, *cells, *(f"{s:.2%}" for s in shares)))
    columns = ("1 - p_y", "images", "a m l_1", "input", "eigen formula", "gates held", "parameters")
    columns = (*columns, "share, clean", "share, end")
    note = (
        "Medians. Gradient norms at the end point, in units of the clean image's: in the input (real, by the eigen "
        "formula, with the gates held), in the parameters. The shares are those of the sum over all images of the "
        f"norms in the parameters. Step sizes: {one.name}."
    )
    return Table("Gradients by confidence", note, columns, rows)


def _rows(one: DynamicsResult) -> list[Row]:
    """Return a row for each image."""
    end = one.dynamics
    columns: dict[str, Tensor] = {"label": one.labels, "step": one.a}
    columns |= {"first_flip": end.first_flip, "flips": end.flips[-1]}
    columns |= {"length": end.length[-1], "loss": end.value[-1]}
    for kind, figures in (("error", end.error), ("held", end.held), ("cosine", end.cosine)):
        columns |= {f"{kind}_{name}": values[-1] for name, values in figures.items()}
    columns |= {name: value for name, value in one.norms.__dict__.items() if name != "flips"}
    lists = [value.tolist() for value in columns.values()]
    return [
        {"setting": one.name, "image": image, **dict(zip(columns, values, strict=True))}
        for image, values in enumerate(zip(*lists, strict=True))
    ]


def step_figures(one: DynamicsResult) -> list[dict[str, float | str]]:
    """Return the tracked figures of each step, medians over the images."""
    steps = []
    for m in range(len(one.dynamics.flips)):
        figures: dict[str, float | str] = {"setting": one.name, "m": float(m + 1)}
        figures["flips"] = float(median(_array(one.dynamics.flips[m])))
        figures["loss/total"] = float(median(_array(one.dynamics.value[m])))
        figures |= {f"error/{name}": float(median(_array(e[m]))) for name, e in one.dynamics.error.items()}
        steps.append(figures)
    return steps


def median(values: NDArray[Any], among: Mask | None = None) -> float:
    """Return the median without NaNs; NaN where none is left."""
    chosen = values if among is None else values[among]
    chosen = chosen[~np.isnan(chosen)]
    return float(np.median(chosen)) if len(chosen) else float("nan")


def short(value: float) -> str:
    """Write a number with three digits; - for NaN."""
    return "-" if np.isnan(value) else f"{value:.3g}"


def _array(values: Tensor) -> NDArray[Any]:
    return values.detach().to("cpu", torch.float64 if values.is_floating_point() else None).numpy()
