"""Pictures of an attack: what it changed, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from latentopt.jobs.attack_rates import count_rates
from latentopt.jobs.pictures import add_captions, save_png, tile, to_bytes
from latentopt.reports import new_figure


def save_grid(path: Path, rows: Sequence[dict[str, Any]], clean: Tensor, adversarial: Tensor, norm: str) -> None:
    """Clean image, change and adversarial image of each row, with classes, margins and the loss.

    Args:
        path: of the PNG.
        rows: of an attack's results, one an image.
        clean, adversarial: (B, C, H, W) in [0, 1], C 1 or 3.
        norm: of the distances.
    """
    change = adversarial - clean
    scale = 0.5 / max(change.abs().max().item(), 1e-9)
    captions = [
        [f"{row['label']} -> {row['clean']}\nmargin {row['clean_margin']:.3g}" for row in rows],
        [f"{norm} {row['distance']:.3g}\n{_aim(row)}" for row in rows],
        [f"{row['label']} -> {row['adversarial']}\nmargin {row['margin']:.3g}\nloss {row['loss']:.3g}" for row in rows],
    ]
    images = [clean, 0.5 + scale * change, adversarial]
    columns = [add_captions(to_bytes(image), texts, lines=3) for image, texts in zip(images, captions, strict=True)]
    titles = ["clean", f"change x {scale:.3g}, grey: 0", "adversarial"]
    save_png(path, tile(columns), titles)


def _aim(row: dict[str, Any]) -> str:
    return "" if row["target"] < 0 else f"towards {row['target']}"


def save_curve(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The share of the attacked images that succeed, by the gradient evaluations an image takes."""
    success = count_rates(rows).success
    firsts = sorted(row["first_success"] for row in rows if row["first_success"] > 0)
    end = max([1, *(row["backwards"] for row in rows)])
    figure = new_figure(figsize=(7, 4.2))
    axes = figure.subplots()
    share = np.arange(1, len(firsts) + 1) / max(success.whole, 1)
    axes.step([0, *firsts, end], [0, *share, success.rate], where="post", color="tab:blue")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(
        xlim=(0, end),
        ylim=(-0.02, 1.02),
        xlabel="gradient evaluations of an image",
        ylabel="share that succeeds",
        title=f"{success.part} of {success.whole} attacked images ({100 * success.rate:.1f} %)",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=130)
