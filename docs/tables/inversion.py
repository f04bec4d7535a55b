"""Tables of docs/benchmarks/inversion.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from statistics import median
from typing import Any

import numpy as np

from benchmarks.inversion_methods import RECOVERED
from latentopt.reports import Table
from latentopt.statistics import student
from tables.stored import Cell, distinct, load, made, named, one, several, where
from tables.text import plus_minus, table

REAL = ("dcgan64", "mnist-dcgan", "celeba-vae")
OWN = ("celeba-vae", "dcgan64")
RESTORED = ("super-resolution", "inpainting", "deblurring")
OUTSIDE = (
    "a hand-written Adam loop",
    "deepinv CSGM",
    "a hand-written Adam loop with restarts",
    "no network",
    "total variation",
    "deepinv's total variation",
    "mean of 4 hand-written Adam loops",
    "encoder",
)
"""Methods of other libraries, with their names in the tables."""


def code(name: str) -> str:
    return name if name in OUTSIDE else f"`{name}`"


def recovered(cells: Sequence[Cell], seconds: float) -> str:
    """Return the share of targets recovered in this time (mean squared error of 1e-4 or less)."""
    times = [time for cell in cells for time in cell["recovered_at"] if time != "-"]
    return f"{100 * sum(time <= seconds for time in times) / sum(len(cell['mse']) for cell in cells):.0f} %"


def until_all(cell: Cell) -> str:
    """Format the CPU seconds until all targets were recovered; "-" if they were not."""
    times = cell["recovered_at"]
    return f"{cell['seconds']:.1f}" if times and "-" not in times and max(cell["mse"]) < RECOVERED else "-"


def own() -> Table:
    """Tabulate the generators' own images, three seeds."""
    columns, sides = ["method"], list[list[Cell]]()
    for index, generator in enumerate(OWN):
        sides.append(load(f"inversion-own-{generator}"))
        columns += [f"`{generator}`: {'' if index else 'recovered '}@ 5 s", "@ 10 s", "s to all"]
    rows = []
    for method in distinct(sides[0], "method"):
        results = [where(cells, method=method) for cells in sides]
        texts = [[recovered(f, 5), recovered(f, 10), ", ".join(map(until_all, f))] for f in results]
        rows.append([code(method), *chain.from_iterable(texts)])
    return table(columns, rows)


def others() -> Table:
    """Tabulate the other generators, one seed: share recovered, and time until all are."""
    cells = load("inversion-own-others")
    generators = sorted(distinct(cells, "generator"), key=lambda name: (name == "road-gan", name))

    def text(method: str, generator: str) -> str:
        cell = one(cells, generator=generator, method=method)
        time = until_all(cell)
        return recovered([cell], 10) + ("" if time == "-" else f", {time}")

    rows = [[code(method), *(text(method, name) for name in generators)] for method in distinct(cells, "method")]
    return table(["method", *(f"`{name}`" for name in generators)], rows)


def vaes() -> Table:
    """Tabulate the VAEs of MNIST: seconds until all own images are recovered, and error on real images."""
    latest = {(cell["generator"], cell["method"]) for cell in load("inversion-mnist-vae")}
    cells = [c for c in load("inversion-vaes") if (c["generator"], c["method"]) not in latest]
    cells = load("inversion-mnist-vae") + cells
    rows = []
    for method in sorted(distinct(cells, "method"), key=distinct(load("inversion-vaes"), "method").index):
        texts = []
        for generator in ("mnist-vae", "mlp-vae"):
            mine = where(cells, generator=generator, method=method)
            texts.append(", ".join(until_all(cell) for cell in where(mine, targets="own")))
            texts.append(plus_minus(where(mine, targets="real")[0]["mse"], 5))
        rows.append([code(method), *texts])
    columns = ["`mnist-vae`: s to all", "real images, 5 s", "`mlp-vae`: s to all", "real images, 5 s"]
    return table(["method", *columns], rows)


def final(generator: str) -> dict[str, list[float]]:
    """Return errors on real images by method; a later run of a method replaces its earlier one."""
    cells = several(f"inversion-real-{generator}", *named(f"inversion-real-{generator}-csgm"))
    return {cell["method"]: cell["mse"] for cell in cells}


def real() -> Table:
    """Tabulate errors on real images at equal CPU time, at half and at the end of it."""
    ends = {name: final(name) for name in REAL}
    again = {name: {c["method"] for n in named(f"inversion-real-{name}-csgm") for c in load(n)} for name in REAL}

    def half(generator: str, method: str) -> str:
        results = where(load(f"inversion-real-{generator}-times"), method=method)
        text = str(results[0]["MSE @ 10 s"]) if results and method not in again[generator] else "-"
        return "-" if text in ("inf", "-") else f"{float(text):.5f}"

    rows = []
    for method in ends[REAL[0]]:
        texts = [[half(g, method), plus_minus(ends[g][method], 5)] if method in ends[g] else ["", ""] for g in REAL]
        rows.append([code(method), *chain.from_iterable(texts)])
    heads = chain.from_iterable([f"`{name}` @ 10 s", "in the end"] for name in REAL)
    return table(["method", *heads], rows)


PAIRS = (
    ("reconstruct", "adam-regression"),
    ("reconstruct", "adam"),
    ("adr-gd-soft-regression", "adam-regression"),
    ("adr-gd-soft", "adam"),
)


def pairs() -> Table:
    """Tabulate by how much the first method's error is below the second's, paired by image."""
    rows = []
    for ours, theirs in PAIRS:
        texts = []
        for generator in REAL:
            ends = final(generator)
            gain = np.subtract(ends[theirs], ends[ours])
            error = student(gain.tolist()).error
            texts.append(f"{gain.mean():+.4f} +- {error:.4f} ({(gain > 0).sum()} of {len(gain)})")
        rows.append([f"{code(ours)} against {code(theirs)}", *texts])
    return table(["lower error by", *(f"`{name}`" for name in REAL)], rows)


def _sensing(cells: Sequence[Cell], with_seconds: bool, digits: int = 4) -> Table:
    methods = distinct(cells, "method")

    def text(m: Any, method: str, seconds: bool) -> str:
        results = where(cells, m=m, method=method)
        if not results:
            return ""
        return f"{results[0]['seconds']:.1f}" if seconds else plus_minus(results[0]["mse"], digits)

    blocks = [False, True] if with_seconds else [False]
    columns = ["m", *(f"CPU s: {name}" if seconds else name for seconds in blocks for name in methods)]
    rows = [[str(m), *(text(m, name, s) for s in blocks for name in methods)] for m in distinct(cells, "m")]
    return table(columns, rows)


def faces() -> Table:
    return _sensing(sorted(several(*named("sensing-celeba-vae-*")), key=lambda cell: cell["m"]), True)


def matrices() -> Table:
    """Tabulate `mlp-vae` at m = 25 with three matrices."""
    names = {0: "sensing-mlp-vae", 1: "sensing-mlp-vae-matrix-1", 2: "sensing-mlp-vae-matrix-2"}
    results = {seed: where(load(name), m=25, method=("reconstruct", "csgm")) for seed, name in names.items()}
    rows = [
        [f"`{method}`", *(plus_minus(one(cells, method=method)["mse"], 4) for cells in results.values())]
        for method in ("reconstruct", "csgm")
    ]
    return table(["m = 25", *(f"`--seed {seed}`" for seed in names)], rows)


def posterior() -> Table:
    """Tabulate the coverage of posterior intervals by method, and their cost."""
    shares = [f"{of}_{level}" for of in ("latents", "pixels") for level in ("0.5", "0.9", "0.95")]
    rows = [
        [
            f"`{cell['method']}`",
            *(f"{100 * student(cell[key]).mean:.1f} +- {100 * student(cell[key]).half_width:.1f}" for key in shares),
            f"{median(cell['r_hat']):.2f}",
            f"{median(cell['ess']):.0f}",
            f"{(cell['seconds'] + cell['search']) / cell['search']:.1f}",
        ]
        for cell in load("posterior-mnist-vae")
    ]
    ends = [f"{of}, {level} %" for of in ("latents", "pixels") for level in (50, 90, 95)]
    return table(["method", *ends, "R-hat", "ESS", "time / search"], rows)


def learnt_starts() -> Table:
    """Tabulate the error and the cost of a trained encoder and of regression, by steps."""
    rows = [
        [
            f"`{cell['start']}`",
            str(cell["restarts"]),
            str(cell["steps"]),
            f"{cell['images']:,}",
            f"{cell['mse']:.5f} +- {cell['standard_error']:.5f}",
            f"{cell['evaluations']:.0f}",
            f"{1000 * cell['seconds'] / cell['images']:.1f}",
            f"{cell['learning']:.0f}",
        ]
        for cell in load("learnt-starts-mnist-vae")
    ]
    columns = ["start", "restarts", "steps", "digits", "MSE", "evaluations", "CPU s for 1,000", "CPU s once"]
    return table(columns, rows)


def face_dcgan() -> Table:
    """Tabulate `face-dcgan`: its own images, and faces."""
    ours, others = load("inversion-own-face-dcgan"), load("inversion-real-face-dcgan")
    rows = []
    for method in list(dict.fromkeys([*distinct(ours, "method"), *distinct(others, "method")])):
        own_cell, real_cell = where(ours, method=method), where(others, method=method)
        texts = [recovered(own_cell, s) if own_cell else "" for s in (10, 20, 60)]
        texts += [until_all(own_cell[0]) if own_cell else "", plus_minus(real_cell[0]["mse"], 4) if real_cell else ""]
        rows.append([code(method), *texts])
    return table(["method", "recovered @ 10 s", "@ 20 s", "@ 60 s", "s to all", "faces, MSE"], rows)


def decoders(*names: str) -> Table:
    """Tabulate the photographs through a decoder of stored runs, by task or size."""
    rows = []
    for name in names:
        size = str(made(name)["commands"][0]).partition("--size ")[2].partition(" ")[0] or "256"
        for task, method in distinct(load(name), "task", "method"):
            cell, base = (one(load(name), task=task, method=m) for m in (method, OUTSIDE[0]))
            gain = student(np.subtract(cell["psnr"], base["psnr"]).tolist())
            texts = [plus_minus(cell["psnr"], 2), "" if cell is base else f"{gain.mean:+.2f} +- {gain.error:.2f}"]
            texts += [f"{np.mean(cell['seconds']):.1f}", _ratio(cell, base, "until")]
            if task == "inversion":
                texts.append(_ratio(cell, base, "until_best"))
            rows.append([f"{size} x {size}" if task == "inversion" else task, code(method), *texts])
    columns = ["", "method", "PSNR", "against the Adam loop", "CPU s", "time to its PSNR", "time to the best PSNR"]
    return table(columns[: len(rows[0])], rows)


def _ratio(cell: Cell, base: Cell, column: str) -> str:
    """Format the mean ratio of times, and on how many photographs the cell has one; "-": on none."""
    pairs = zip(cell.get(column, ()), base.get(column, ()), strict=False)  # none where no time is known
    ratios = [mine / theirs for mine, theirs in pairs if "-" not in (mine, theirs)]
    of = f" ({len(ratios)} of {len(cell['psnr'])})" if len(ratios) < len(cell["psnr"]) else ""
    return f"{np.mean(ratios):.2f}{of}" if ratios else "-"


def decoder_memory() -> Table:
    """Tabulate the peak memory of a gradient through TAEF2, by form."""
    rows = [
        [
            f"`{c['form']}`",
            f"{c['peak'] / 1e9:.1f}",
            f"{c['above'] / 1e9:.1f}",
            f"{c['seconds']:.0f}",
            f"{c['difference']:.0g}",
        ]
        for c in load("decoder-memory")
    ]
    return table(["form", "GB", "above the process", "CPU s", "greatest difference"], rows)


def spaces() -> Table:
    """Tabulate the spaces of `mnist-stylegan2`."""
    cells = load("style-spaces")
    rows = []
    for cell in cells:
        error = student(cell["mse"])
        rows.append([cell["method"], f"{error.mean:.2g} +- {error.error:.1g}", f"{cell['seconds']:.0f}"])
    return table(["", "MSE", "CPU s"], rows)


def nonlinear() -> Table:
    """Tabulate images from saturated, quantised and compressed ones, by generator, images and operator."""
    names = {"own": "own", "real": "test"}
    methods = ("degraded", "ignore", "through", "consistent", "adam")
    rows = list[list[str]]()
    for name in named("nonlinear-*"):
        cells = load(name)
        for generator, part, operator in distinct(cells, "generator", "part", "operator"):
            mine = [
                one(cells, generator=generator, part=part, operator=operator, method=method)["mse"]
                for method in methods
            ]
            gain = student(np.subtract(mine[1], mine[3]).tolist())
            texts = [plus_minus(errors, 5) for errors in mine]
            rows.append([f"`{generator}`, {names[part]}", operator, *texts, f"{gain.mean:+.5f} +- {gain.error:.5f}"])
    heads = ["measurement", "ignored", "least squares", "`Consistent`", OUTSIDE[0], "gain on ignored"]
    return table(["images", "operator", *heads], rows)


def phases() -> Table:
    """Tabulate images from magnitudes, by images and method."""
    cells = load("phase-retrieval")
    methods = ("linear", "reconstruct", "reconstruct-random", "adam", "spectral")
    rows = list[list[str]]()
    for part, name in {"own": "own", "real": "test"}.items():
        mine = [one(cells, part=part, method=method) for method in methods]
        seconds = (f"{mine[k]['seconds']:.1f}" for k in (1, 2, 3))
        rows.append([name, *(plus_minus(cell["mse"], 5) for cell in mine), *seconds])
    heads = [
        "linear",
        "`reconstruct`",
        "random starts",
        OUTSIDE[0],
        "spectral image",
        "CPU s: `reconstruct`",
        "CPU s: random starts",
        "CPU s: Adam",
    ]
    return table(["images", *heads], rows)


def blind() -> Table:
    """Tabulate images of unknown blur, by method."""
    cells, rows = load("blind-deblur"), list[list[str]]()
    mine = [one(cells, method=method) for method in ("known", "unknown", "adam")]
    names = ("known width", "`reconstruct`, unknown width", OUTSIDE[0])
    for name, cell in zip(names, mine, strict=True):
        error, off = student(cell["mse"]), np.array(cell["width_error"])
        ratios = [f"{1e6 * value:.2f}" for value in (error.mean, error.error, median(cell["mse"]))]
        texts = [f"{ratios[0]} +- {ratios[1]}", ratios[2], f"{error.mean / np.mean(mine[0]['mse']):.2f}"]
        if name == names[0]:
            widths = ["", "", ""]
        else:
            widths = [f"{100 * off.mean():.2f} %", f"{100 * off.max():.2f} %", f"{(off < 0.05).sum()} of {len(off)}"]
        rows.append([name, *texts, *widths, f"{cell['seconds']:.1f}"])
    heads = ["MSE, 1e-6", "median", "by the known one's", "error of width", "greatest", "within 5 %", "CPU s"]
    return table(["", *heads], rows)


ADR = ("adr-gd-regression", "adr-gd-gates-off-regression")
WHITE = ("adr-gd-whitened", "lbfgs-whitened")
GATED: tuple[tuple[str, str, tuple[str, str], dict[str, Any]], ...] = (
    ("`face-dcgan`, its own images", "inversion-own-face-dcgan", ADR, {}),
    ("`face-dcgan`, faces", "inversion-real-face-dcgan", ADR, {}),
    ("TAEF2, photographs", "decoders-inversion-256", WHITE, {}),
    *((f"TAEF2, {task}", "decoders-restored", WHITE, {"task": task}) for task in RESTORED),
    ("`mnist-stylegan2`, w", "style-spaces", ("w by ADR-GD", "w by ADR-GD without gates"), {}),
    ("`mnist-vae`, 100 measurements", "sensing-mnist-vae-layers", ("adr-gd", "adr-gd-gates-off"), {"m": 100}),
)
"""Cases: title, result, methods with gates on and off, and which rows."""


def gates() -> Table:
    """Tabulate what gates change, paired by image."""
    rows = []
    for title, name, methods, wanted in GATED:
        on, off = (one(load(name), method=method, **wanted) for method in methods)
        column, unit, digits = ("psnr", " dB", 2) if "psnr" in on else ("mse", "", 5)
        gain = np.subtract(on[column], off[column]) * (1 if column == "psnr" else -1)
        error, better = student(gain.tolist()), f"{(gain > 0).sum()} of {len(gain)}"
        texts = [f"{np.mean(cell[column]):.{digits}f}{unit}" for cell in (on, off)]
        texts.append(f"{error.mean:+.{digits}f} +- {error.error:.{digits}f}")
        rows.append([title, *texts, better])
    return table(["", "gates on", "off", "better by", "better on"], rows)


BLOCKS = {
    "nonlinear": nonlinear,
    "phase-retrieval": phases,
    "blind-deblur": blind,
    "inversion-gates": gates,
    "style-spaces": spaces,
    "inversion-face-dcgan": face_dcgan,
    "decoders-inversion": lambda: decoders("decoders-inversion-256", "decoders-inversion-128"),
    "decoder-memory": decoder_memory,
    "decoders-restored": lambda: decoders("decoders-restored"),
    "inversion-own": own,
    "inversion-own-others": others,
    "inversion-vaes": vaes,
    "inversion-real": real,
    "inversion-pairs": pairs,
    "sensing-mnist-vae": lambda: _sensing(load("sensing-mnist-vae"), True),
    "sensing-layers": lambda: _sensing(load("sensing-mnist-vae-layers"), True, 5),
    "sensing-mlp-vae": lambda: _sensing(load("sensing-mlp-vae"), False),
    "sensing-celeba-vae": faces,
    "sensing-matrices": matrices,
    "posterior": posterior,
    "learnt-starts": learnt_starts,
}
