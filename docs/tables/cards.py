"""Tables from the cards of the shipped models; a model's training writes its card."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from latentopt.reports import Table
from tables.text import bare, table

MODELS = Path(__file__).parents[2] / "models"
TRAINED = {
    "mnist-cnn": "as they are",
    "mnist-cnn-robust": "against PGD at eps .25, 7 steps",
    "mnist-mlp-capped": "as they are; its ReLUs are capped at .1",
}


@cache
def card(name: str) -> dict[str, Any]:
    return yaml.safe_load((MODELS / name / "card.yaml").read_text(encoding="utf-8"))


def quality(name: str) -> dict[str, Any]:
    return card(name)["quality"]


def classifiers() -> Table:
    """Tabulate accuracy, clean and under the portfolio."""
    rows = []
    for name, how in TRAINED.items():
        own = quality(name)
        clean = _percent(own["test_accuracy"], own["test_accuracy_standard_error"], 2)
        robust = _percent(own["robust_accuracy"], own["robust_accuracy_standard_error"], 1)
        rows.append([f"`{name}`", how, clean, f"{robust} at eps {bare(own['robust_eps'], 2).rstrip('0')}"])
    return table(["", "trained", "test images", "under attack"], rows)


def _percent(share: float, error: float, digits: int) -> str:
    return f"{100 * share:.{digits}f} +- {bare(100 * error, digits)} %"


def generators() -> Table:
    """Tabulate errors on real images, and the share of own images recovered."""
    rows = []
    for name in ("mnist-vae", "mnist-dcgan", "mnist-stylegan2"):
        own = quality(name)
        error = f"{bare(own['test_mse'], 4)} +- {bare(own['test_mse_standard_error'], 4)}"
        rows.append([f"`{name}`", error, f"{100 * own['in_span_recovered']:.0f} %", f"{own['frechet_distance']:.0f}"])
    return table(["", "MSE of the first 64 test images", "own images found again", "Frechet distance"], rows)


def policies() -> Table:
    """Tabulate returns of the shipped policies."""
    rows = []
    for name in ("coinrun-cnn", "fruitbot-cnn"):
        own = quality(name)
        texts = [
            f"{bare(own[key], 2)} +- {bare(own[f'{key}_standard_error'], 2)}" for key in ("return", "random_return")
        ]
        rows.append([f"`{name}`", *texts])
    return table(["", "return on 200 new levels", "actions at random"], rows)


BLOCKS = {"generators": generators, "classifiers": classifiers, "policies": policies}
