"""Peak memory of the gradient of a large image through TAEF2: whole, checkpointed, in tiles, in half precision."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.study import study
from latentopt.errors import InputError
from latentopt.reports import Report, Row, Table
from latentopt.results import draw_shares
from latentopt.zoo.paths import data_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Peak resident memory of a process of its own that loads the decoder and computes the gradient of one image: with "
    "Python, torch and the weights, and above what the process held before. A GB has 1e9 bytes. CPU time is of the "
    "gradient. The difference is the greatest one of a value of the image from the whole one."
)
FORMS: dict[str, dict[str, Any]] = {
    "whole": {},
    "checkpoint": {"checkpoint": True},
    "tile=512": {"tile": 512},
    "tile=256": {"tile": 256},
    "bfloat16": {"precision": "bfloat16"},
}
CHILD = """
import json, resource, sys, time, torch
from latentopt.zoo.cards import load_generator
settings = json.loads(sys.argv[1])
torch.set_num_threads(settings["threads"])
whole = load_generator(settings["model"]).resized(settings["size"]).eval().requires_grad_(False)
whole.row_bytes = (1, 1)
generator = whole.economical(**settings["form"]) if settings["form"] else whole
z = generator.latents(1, seed=settings["seed"]).requires_grad_()
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, begun = peak(), time.process_time()
image = generator(z)
torch.autograd.grad(image.square().mean(), z)
after, seconds = peak(), time.process_time() - begun
difference = 0.0
if settings["form"]:
    with torch.no_grad():
        difference = (whole(z) - image).abs().max().item()
print(json.dumps({"peak": after, "above": after - before, "seconds": seconds, "difference": difference}))
"""


@study
def decoder_memory(size: int = 1024, seed: int = 0, quick: bool = False) -> Report:
    """Measure the peak memory of the gradient of one image through TAEF2, in every form.

    Args:
        size: height and width of the image, a multiple of 8.
        seed: seed of the latents.
        quick: an image of 64 x 64 pixels, whole and checkpointed, as a smoke test.
    """
    if size % 8:
        raise InputError("size", "a multiple of 8", size)
    folder = data_root() / "taef2"
    if not folder.is_dir():
        raise InputError("LATENTOPT_DATA", "a folder with taef2", str(folder.parent))
    forms = dict(list(FORMS.items())[:2]) if quick else FORMS
    size = 64 if quick else size
    settings = {"model": f"taesd:{folder}", "size": size, "seed": seed, "threads": 1}
    rows: list[Row] = [{"form": name, "size": size, **_measure({**settings, "form": f})} for name, f in forms.items()]
    cells = [
        [str(row["form"]), f"{row['peak'] / 1e9:.2f}", f"{row['above'] / 1e9:.2f}", f"{row['seconds']:.1f}"]
        for row in rows
    ]
    for row, cell in zip(rows, cells, strict=True):
        cell.append(f"{row['difference']:.1g}")
    table = Table(f"{size} x {size}", "", ["form", "GB", "above", "CPU s", "difference"], cells)
    return Report("Memory of a gradient through TAEF2", NOTE, [table], rows, lambda figure: _draw(figure, rows))


def _measure(settings: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a form, measured in a process of its own."""
    words = [sys.executable, "-c", CHILD, json.dumps(settings)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError("form", "one that runs", done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _draw(figure: Figure, rows: list[Row]) -> None:
    greatest = max(row["peak"] for row in rows)
    draw_shares(
        figure.subplots(), {row["form"]: row["peak"] / greatest for row in rows}, "peak memory, of the greatest"
    )
