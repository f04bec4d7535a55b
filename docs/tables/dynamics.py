"""Tables of docs/analysis/dynamics.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt.jobs.analyze.dynamics_report import FLIPS, median
from latentopt.reports import Table
from tables.stored import Cell, distinct, load, where
from tables.text import table

FORMULAS = ("first-order", "eigen", "region-exact")
IMAGES = {"dynamics": "as they are", "dynamics-noise": "with noise"}
GROWN = "a m l_1 = 0.5"
STEPS = 10
DOUBTS = {
    "dynamics-step": (0, 1e-4, 1e-2, 0.5, 1.1),
    "dynamics-robust": (0, 1e-2, 0.5, 1.1),
}
Column = NDArray[np.float64]


def column(cells: Sequence[Cell], name: str) -> Column:
    return np.array([cell[name] for cell in cells], dtype=float)


def short(value: float, digits: int = 2) -> str:
    """Format significant digits, without the zero before the point: .031, 5.8e-5, 7.4e-15."""
    if np.isnan(value):
        return "-"
    text = f"{value:#.{digits}g}" if value < 1e3 else f"{value:.{digits - 1}e}"
    head, exponent, power = text.rstrip(".").partition("e")
    return f"{head}e{int(power)}" if exponent else head.replace("0.", ".", 1) if value < 1 else head


def ends() -> Table:
    """Tabulate median errors after the last step; in brackets for images without a flip."""
    rows = []
    for setting in ("a m l_1 = 0.02", GROWN):
        for result, images in IMAGES.items():
            cells = where(load(result), setting=setting)
            inside = column(cells, "first_flip") > STEPS
            errors = [_both(column(cells, f"error_{name}"), inside) for name in FORMULAS]
            flips = f"{np.median(column(cells, 'flips')):g}"
            held_pattern = short(median(column(cells, "held_eigen")))
            without = f"{inside.sum()} of {len(inside)}"
            rows.append([images, setting.rpartition(" ")[2], flips, without, *errors, held_pattern])
    return table(["images", "`a m l_1`", "flips", "without a flip", *FORMULAS, "eigen, held"], rows)


def _both(errors: Column, inside: NDArray[np.bool_]) -> str:
    text = short(median(errors))
    return f"{text} ({short(median(errors, inside))})" if inside.any() else text


def by_flips() -> Table:
    """Tabulate errors by the number of flips, with noise."""
    cells = where(load("dynamics-noise"), setting=GROWN)
    flips, rows = column(cells, "flips"), []
    for low, high in FLIPS:
        among = (flips >= low) & (flips <= (np.inf if high is None else high))
        if among.any():
            label = f"{low} and more" if high is None else str(low) if low == high else f"{low} to {high}"
            errors = [short(median(column(cells, f"error_{name}"), among)) for name in FORMULAS]
            rows.append([label, str(among.sum()), *errors, short(median(column(cells, "held_eigen"), among))])
    return table(["flips", "images", *FORMULAS, "eigen, held"], rows)


def by_step() -> Table:
    """Tabulate errors by step, over all images and over the images without a flip so far, while there are any."""
    rows = []
    for cell in where(load("dynamics-noise-steps"), **{"step sizes": GROWN}):
        if cell["without a flip"]:
            pairs = [_pair(cell[name]) for name in ("eigen", "region-exact")]
            rows.append([str(cell["m"]), str(cell["without a flip"]), *pairs])
    return table(["step", "without a flip", "eigen", "region-exact"], rows)


def _pair(text: str) -> str:
    return " / ".join(short(float(word)) for word in text.split(" / "))


def doubt() -> Table:
    """Tabulate gradients at the end point by 1 - p_y, for two classifiers."""
    rows = []
    for result, borders in DOUBTS.items():
        last = distinct(load(result), "setting")[-1]
        cells = where(load(result), setting=last)
        model = "mnist-cnn-robust" if "robust" in result else "mnist-cnn"
        title = f"{model}, {short(column(cells, 'step')[0], 3)}"
        columns_of = {name: column(cells, name) for name in cells[0] if name not in ("setting", "image")}
        for index, (low, high) in enumerate(pairwise(borders)):
            among = (columns_of["doubt"] >= low) & (columns_of["doubt"] < high)
            head = f"over {low:g}" if high > 1 else f"under {high:g}" if not low else f"{low:g} to {high:g}"
            rows.append(["" if index else title, head, str(among.sum()), *_grown(columns_of, among)])
    columns = ["model, a", "1 - p_y", "images", "`a m l_1`", "input", "eigen formula", "gates held", "parameters"]
    return table([*columns, "share, clean", "share, end"], rows)


def _grown(columns: dict[str, Column], among: NDArray[Any]) -> list[str]:
    names = ("input_end", "input_eigen", "input_region")
    ratios = [median(columns[name] / columns["input_clean"], among) for name in names]
    ratios.append(median(columns["parameters_end"] / columns["parameters_clean"], among))
    shares = [columns[name][among].sum() / columns[name].sum() for name in ("parameters_clean", "parameters_end")]
    size = short(median(columns["step"] * STEPS * columns["top"], among))
    return [size, *(short(ratio, 3) for ratio in ratios), *(f"{short(100 * s, 3)} %" for s in shares)]


BLOCKS = {
    "dynamics-ends": ends,
    "dynamics-flips": by_flips,
    "dynamics-steps": by_step,
    "dynamics-doubt": doubt,
}
