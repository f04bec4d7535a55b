"""Pictures of an attack: what it changed, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from latentopt.attacks.result import draw_success
from latentopt.jobs.attack_rates import count_rates
from latentopt.pictures import add_captions, save_png, short_name, tile, to_bytes
from latentopt.reports import new_plot


def save_grid(
    path: Path,
    rows: Sequence[dict[str, Any]],
    clean: Tensor,
    adversarial: Tensor,
    norm: str,
    names: Sequence[str],
    classes: Sequence[str] = (),
) -> None:
    """Clean image, change and adversarial image of each row, with classes, margins and the loss.

    Args:
        path: of the PNG.
        rows: of an attack's results, one an image.
        clean, adversarial: (B, C, H, W) in [0, 1], C 1 or 3.
        norm: of the distances.
        names: of the images.
        classes: names of the classes; empty: they have numbers.
    """

    def changed(row: dict[str, Any], key: str) -> str:
        both = int(row["label"]), int(row[key])
        return " -> ".join(short_name(classes[i] if i < len(classes) else str(i), 12) for i in both)

    change = adversarial - clean
    scale = 0.5 / max(change.abs().max().item(), 1e-9)
    captions = [
        [
            f"{changed(row, 'clean')}\nmargin {row['clean_margin']:.3g}\n{short_name(name)}"
            for row, name in zip(rows, names, strict=True)
        ],
        [f"{norm} {row['distance']:.3g}\n{_aim(row)}" for row in rows],
        [f"{changed(row, 'adversarial')}\nmargin {row['margin']:.3g}\nloss {row['loss']:.3g}" for row in rows],
    ]
    images = [clean, 0.5 + scale * change, adversarial]
    columns = [add_captions(to_bytes(image), texts, lines=3) for image, texts in zip(images, captions, strict=True)]
    titles = ["clean", f"change x {scale:.3g}, grey: 0", "adversarial"]
    save_png(path, tile(columns), titles)


def _aim(row: dict[str, Any]) -> str:
    return "" if row["target"] < 0 else f"towards {row['target']}"


def save_curve(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The share of the attacked images that succeed, by the gradient evaluations an image takes."""
    attacked = [row for row in rows if row["first_success"] != 0]
    firsts, backwards = ([row[name] for row in attacked] for name in ("first_success", "backwards"))
    figure, axes = new_plot()
    draw_success(axes, firsts, backwards, count_rates(rows).success.part)
    figure.savefig(path, dpi=130)
