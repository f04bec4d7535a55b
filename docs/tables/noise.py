"""Table of few photons and outliers in docs/benchmarks/inversion.md."""

from __future__ import annotations

import numpy as np

from latentopt.reports import Table
from latentopt.statistics import student
from tables.stored import Cell, distinct, load, where
from tables.text import plus_minus, signed, table

RESULT = "poisson-mnist-vae"
KINDS = "own", "real"


def noise_models() -> Table:
    """Tabulate the errors by noise and method, and those above the likelihood's with the latents' own prior."""
    cells, rows = load(RESULT), list[list[str]]()
    for noise, method in distinct(cells, "noise", "method"):
        texts = [text for kind in KINDS for text in _texts(where(cells, noise=noise, images=kind), method)]
        rows.append([noise, method, *texts])
    heads = [head for kind in KINDS for head in (f"{kind} digits", "against the first", "weight")]
    return table(["noise", "method", *heads], rows)


def _texts(cells: list[Cell], method: str) -> list[str]:
    cell, base = where(cells, method=method)[0], cells[0]
    difference = "" if cell is base else signed(student(np.subtract(cell["mse"], base["mse"]).tolist()), 5)
    return [plus_minus(cell["mse"], 5), difference, "" if cell["weight"] in (None, "") else f"{cell['weight']:g}"]


BLOCKS = {"noise-models": noise_models}
