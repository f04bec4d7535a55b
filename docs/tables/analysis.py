"""Tables of docs/analysis: capped ReLUs, activation regions, certified optima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from latentopt.jobs.analyze.capped_report import kinds, percent
from latentopt.reports import Table
from latentopt.statistics import MeanInterval, student
from tables.attacks import short_rate
from tables.stored import Cell, distinct, load, where
from tables.text import bare, table

COLUMNS = {
    "clean": "clean",
    "pgd": "PGD",
    "square": "Square",
    "pgd-straight-through": "straight through",
    "adr-gd": "ADR-GD",
    "worst": "worst",
    "cw-l2": "CW, L2",
    "adr-gd-l2": "ADR-GD, L2",
}
SHOWN = 1.0
"""Greatest cap in the tables; greater ones change nothing."""
USABLE = 0.05
"""Maximal loss of clean accuracy for a usable cap."""
ATTACKS = {
    "FGSM": "fgsm",
    "`pgd`, 100 steps": "pgd",
    "torchattacks APGD-CE": "torchattacks APGD-CE",
    "torchattacks APGD-DLR": "torchattacks APGD-DLR",
    "AutoAttack's APGD-CE": "AutoAttack's APGD-CE",
    "AutoAttack's APGD-DLR": "AutoAttack's APGD-DLR",
    "AutoAttack standard (with Square, 5,000 queries)": "AutoAttack standard",
    "the portfolio's stages, plain gradients instead of gates": "portfolio-ungated",
    "**`portfolio`** (the default of `lo.attack`)": "portfolio",
}
Key = tuple[str, float]


def one_model() -> Table:
    """Tabulate `mnist-mlp-capped` under every attack."""
    cells = load("attack-references-capped")
    rows = [
        [title, short_rate(cell), bare(cell["cpu_seconds_of_all"], 2)]
        for title, method in ATTACKS.items()
        for cell in where(cells, method=method)
    ]
    return table(["attack", "broken, 95 % interval", "CPU s"], rows)


def _percent(interval: MeanInterval) -> str:
    return percent(interval).replace("±", "+-")


def capped(training: str, data: str = "mnist", most: float = SHOWN) -> Table:
    """Tabulate every layer and cap for one kind of training."""
    cells = where(load(f"capped-{data}"), training=training)
    rows = []
    for (layer, beta), own in kinds(cells).items():
        if layer != "none" and beta > most:
            continue
        texts = [_percent(student([cell[name] for cell in own])) for name in COLUMNS]
        zero = f"{100 * np.mean([cell['zero_gradients'] for cell in own]):.1f}"
        failure = ", ".join(sorted({str(cell["failure"]).split()[0] for cell in own if cell["failure"]}))
        rows.append([layer, "" if layer == "none" else f"{beta:g}", *texts, zero, failure])
    return table(["cap on", "beta", *COLUMNS.values(), "zero gradients", "gradients"], rows)


def claims() -> Table:
    """Compare the smallest usable cap with no cap, paired by seed."""
    rows = []
    for training in distinct(load("capped-mnist"), "training"):
        cells = kinds(where(load("capped-mnist"), training=training))
        plain = cells.pop(("none", float("inf")))
        for layer in dict.fromkeys(layer for layer, _ in cells):
            beta, own = min((beta, own) for (name, beta), own in cells.items() if name == layer and _usable(own, plain))
            gains = [_gain(own, plain, name) for name in ("pgd", "worst")]
            rows.append([training, layer, f"{beta:g}", *map(_percent, gains)])
    return table(["training", "cap on", "beta", "gain under PGD, %", "gain in the worst case, %"], rows)


def _gain(own: Sequence[Cell], plain: Sequence[Cell], name: str) -> MeanInterval:
    return student([a[name] - b[name] for a, b in zip(own, plain, strict=True)])


def _usable(own: Sequence[Cell], plain: Sequence[Cell]) -> bool:
    return bool(np.mean([c["clean"] for c in own]) > np.mean([c["clean"] for c in plain]) - USABLE)


def regions() -> Table:
    """Compare the trajectories of GD and ADR-GD on mnist-cnn."""
    cells = load("regions-mnist")
    names = {"gd": "GD", "adr-gd-soft": "ADR-GD, soft gates"}
    own = {name: where(cells, optimizer=name) for name in names}

    def row(title: str, values_of: Mapping[str, Sequence[float]], digits: int) -> list[str]:
        return [title, *(f"{np.mean(values):,.{digits}f}" for values in values_of.values())]

    ends = {name: [-cell["objective"][-1] for cell in group] for name, group in own.items()}
    crossed = {name: [sum(cell["crossings"]) for cell in group] for name, group in own.items()}
    flips = {name: [np.mean([c["flips"][step] for c in group]) for step in (0, -1)] for name, group in own.items()}
    switched = ["flips in the first step; in the last", *(f"{a:.0f}; {b:g}" for a, b in flips.values())]
    ways = {cell["optimiser"]: cell for cell in load("regions-mnist-ways")}
    start = ["nearest boundary at the start, along the first step"]
    start += [bare(ways[name]["nearest boundary"], 4) for name in names]
    length = ["length of the way", *(f"{ways[name]['length of the way']:.1f}" for name in names)]
    rows = [row("cross-entropy at the end", ends, 2), start, length, row("boundaries crossed", crossed, 0), switched]
    return table(["", *names.values()], rows)


def maxima() -> Table:
    """Tabulate values and bounds of random nets A."""
    rows = [
        [
            str(cell["seed"]),
            f"{cell['value']:.3f}",
            f"{cell['bound']:.3f}",
            f"{cell['gap']:.1f}",
            f"{cell['boxes']:,}",
            f"{cell['seconds']:.0f}",
        ]
        for cell in load("certify-random-A")
    ]
    return table(["seed", "value", "bound", "gap %", "boxes", "CPU s"], rows)


def optimisers() -> Table:
    """Tabulate the optimisers' gaps to the bounds on the closed networks."""
    bounds = {cell["seed"]: cell for cell in load("certify-random-A") if cell["status"] == "OPTIMAL"}
    cells = {int(cell["case"].split()[-1]): cell for cell in load("certify-random-A-optimisers")}
    seeds = sorted(set(bounds) & set(cells))
    names = [key.removeprefix("value_") for key in cells[seeds[0]] if key.startswith("value_")]
    rows = []
    for name in names:
        gaps = [(bounds[s]["bound"] - cells[s][f"value_{name}"]) / abs(bounds[s]["value"]) for s in seeds]
        rows.append([f"`{name}`", bare(100 * float(np.mean(gaps)), 3), bare(100 * max(gaps), 3)])
    return table([f"{len(seeds)} networks", "mean gap at most %", "worst gap at most %"], rows)


def digits() -> Table:
    """Tabulate a small classifier's margins, and the optimisers' gaps to them."""
    cells = load("certify-digits")
    names = [key.removeprefix("value_") for key in cells[0] if key.startswith("value_")]
    rows = []
    for cell in cells:
        gaps = [max(0.0, (cell["value"] - cell[f"value_{name}"]) / abs(cell["value"])) for name in names]
        figures = [f"{cell['value']:.4f}", f"{cell['bound']:.4f}", str(cell["verdict"]), f"{cell['seconds']:.1f}"]
        rows.append([str(cell["case"]).split()[-1], *figures, *(f"{100 * gap:.1f}" for gap in gaps)])
    return table(["image", "margin", "bound", "", "CPU s", *(f"`{name}` below it, %" for name in names)], rows)


BLOCKS = {
    "capped-one-model": one_model,
    "capped-plain": lambda: capped("plain"),
    "capped-fgsm": lambda: capped("fgsm"),
    "capped-claims": claims,
    "capped-cifar10": lambda: capped("plain", "cifar10", np.inf),
    "regions-mnist": regions,
    "certify-maxima": maxima,
    "certify-optimisers": optimisers,
    "certify-digits": digits,
}
