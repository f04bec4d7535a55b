"""Tables of README.md and of docs/models.md."""

from __future__ import annotations

import numpy as np

from latentopt.reports import Table
from tables.attacks import short_rate
from tables.inversion import final
from tables.stored import load, made, one
from tables.text import bare, plus_minus, table

MODELS = ("mnist-vae", "mnist-dcgan")
JOBS = {
    "default": "the default: L-BFGS, 8 starts by regression, those behind dropped",
    "adr-gd-soft": "`adr-gd-soft` (soft gates, Adam), 4 random starts",
    "adam": "`adam`",
    "gd": "`gd` (normalised, falling step)",
    "adr-gd-paper": "`adr-gd-paper` (as printed)",
    "adr-gd-paper-fixed": "the same, constraint weight fixed at .001, steps falling",
}
TIMED = {
    "reconstruct": "`lo.reconstruct`",
    "adr-gd-soft-regression": "`adr-gd-soft` from the same learnt start",
    "adam-regression": "`adam` from the same learnt start",
    "adam": "`adam`, random starts",
    "a hand-written Adam loop": "an Adam loop written by hand",
    "deepinv CSGM": "deepinv's CSGM",
}
GENERATORS = {
    "dcgan64": "DCGAN (64 latents, MNIST)",
    "mnist-dcgan": "`mnist-dcgan`",
    "celeba-vae": "VAE (10 latents, faces)",
}


def mnist() -> Table:
    """Tabulate errors on the first 64 test images with the shipped generators, at equal steps."""
    results = {(job, model): load(f"mnist-{job}-{model}") for job in JOBS for model in MODELS}
    best = {model: min(_errors(results[job, model]) for job in JOBS) for model in MODELS}
    rows = []
    for job, title in JOBS.items():
        texts = []
        for model in MODELS:
            cells = results[job, model]
            text = plus_minus(_all(cells, "mse"), 5 if _errors(cells) < 0.01 else 4, short=True)
            texts.append(f"**{text}**" if _errors(cells) == best[model] else text)
        rows.append([title, *texts, _passes(f"mnist-{job}-mnist-vae")])
    return table(["", *(f"`{model}`" for model in MODELS), "forwards + backwards an image"], rows)


def _passes(name: str) -> str:
    """Format mean passes per image; ``uncounted`` forwards, missing in a run's table, are shared by the images."""
    forwards, backwards = (_all(load(name), column) for column in ("forwards", "backwards"))
    return f"{np.mean(forwards) + made(name).get('uncounted', 0) / len(forwards):.0f} + {np.mean(backwards):.0f}"


def _all(cells: list[dict], name: str) -> list[float]:
    return [value for cell in cells for value in cell[name]]


def _errors(cells: list[dict]) -> float:
    return float(np.mean(_all(cells, "mse")))


def timed(errors_too: bool = False) -> Table:
    """Tabulate errors on real images in equal CPU time, with or without standard errors."""
    errors = {name: final(name) for name in GENERATORS}
    rows = []
    for method, title in TIMED.items():
        texts = [plus_minus(errors[name][method], 4, short=True) for name in GENERATORS]
        texts = texts if errors_too else [text.split(" ")[0] for text in texts]
        texts = [text + _otherwise(name, method) for name, text in zip(GENERATORS, texts, strict=True)]
        tops = [_clear(by_method, method) for by_method in errors.values()]
        rows.append([title, *(f"**{text}**" if top else text for text, top in zip(texts, tops, strict=True))])
    return table(["", *GENERATORS.values()], rows)


def _otherwise(generator: str, method: str) -> str:
    """Return the earlier result of a method that was run again with the tuned step."""
    earlier = one(load(f"inversion-real-{generator}"), method=method)["mse"]
    if earlier == final(generator)[method]:
        return ""
    return f" ({bare(float(np.mean(earlier)), 4)} with a step that was worse in tuning)"


def _clear(errors: dict[str, list[float]], method: str) -> bool:
    """Whether a method's error is more than 1 % below every other's."""
    return all(np.mean(errors[method]) < 0.99 * np.mean(errors[other]) for other in TIMED if other != method)


def portfolio() -> Table:
    """Compare the portfolio with AutoAttack."""
    cells = load("attack-references-mnist-pgd")
    radii = sorted({cell["eps"] for cell in cells})
    rows = []
    for method, title in (("portfolio", "`portfolio`"), ("AutoAttack standard", "AutoAttack standard")):
        texts = []
        for eps in radii:
            cell = one(cells, method=method, eps=eps)
            texts += [short_rate(cell), f"{cell['cpu_seconds_of_all']:.3g}"]
        rows.append([title, *texts])
    heads = [text for eps in radii for text in (f"eps {bare(eps, 2).rstrip('0')}", "CPU s")]
    return table(["first 100 MNIST test images, a network trained by PGD", *heads], rows)


BLOCKS = {"mnist": mnist, "inversion-timed": timed, "portfolio": portfolio}
