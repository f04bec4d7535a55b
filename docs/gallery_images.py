"""Pictures of the gallery that show images: reconstructions, walks, adversarial examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

import latentopt as lo
from latentopt.zoo.cards import load_classifier, load_generator

ORANGE, GREEN = "#D55E00", "#009E73"
LEGIBLE = [0, 14, 26, 35, 37, 27, 34, 8, 13, 3]
"""Indices of the legible images of `mnist-dcgan` with seed 3."""


def sheet(rows: Mapping[str, Tensor], titles: Sequence[tuple[str, str]] = ()) -> Figure:
    """Images (N, 1, h, w) in rows with names, with a title (text, colour) above each column."""
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(0.92 * count + 1.2, 0.95 * len(rows) + 0.35), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        color = GREEN if name.startswith("found") else "black"
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=11, color=color)
    for axis, (text, color) in zip(axes[0], titles, strict=False):
        axis.set_title(text, color=color, fontsize=12)
    figure.subplots_adjust(left=1.1 / (0.92 * count + 1.2), right=0.995, top=0.88 if titles else 0.99, bottom=0.01)
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    return figure


def save_gif(path: Path, frames: Sequence[np.ndarray], milliseconds: Sequence[int] | int, colors: int = 64) -> None:
    """Write an endless animation of pictures (H, W, 3) bytes; all share one palette, so that it is small."""
    sample = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]]))
    palette = sample.quantize(colors, method=Image.Quantize.MAXCOVERAGE)  # thin lines keep their colours
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    options: dict[str, Any] = {"duration": milliseconds, "loop": 0, "optimize": True}
    images[0].save(path, save_all=True, append_images=images[1:], **options)


def handwriting(path: Path) -> None:
    digits = torch.tensor(load_digits(return_X_y=True)[0][:12].reshape(-1, 1, 8, 8) / 16).float()
    operator = lo.operators.Compose([lo.operators.Crop(20), lo.operators.Downsample(2.5)])
    result = lo.reconstruct(
        load_generator("mnist-vae"), digits, operator=operator, prior=lo.priors.GaussianPrior(2e-5), steps=200
    )
    sheet({"8 x 8, real": digits, "found": result.output}).savefig(path)


def smooth_fill(images: Tensor, hole: lo.operators.Hole) -> Tensor:
    """Each hidden pixel the mean of its neighbours."""
    filled, missing = hole(images), hole(torch.ones_like(images)) == 0
    kernel = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])[None, None] / 4
    for _ in range(500):
        filled = torch.where(missing, F.conv2d(filled, kernel, padding=1), filled)
    return filled


def inpainting(path: Path) -> None:
    gan, hole = load_generator("mnist-dcgan"), lo.operators.Hole(10)
    truth = gan(gan.latents(40, seed=3)[LEGIBLE]).detach()
    prior = lo.priors.GaussianPrior(5e-5)
    images = lo.reconstruct(load_generator("mnist-vae"), truth, operator=hole, prior=prior, steps=200).output
    hidden = torch.where(hole(torch.ones_like(truth)) == 0, 0.5, truth)
    sheet({"truth": truth, "measured": hidden, "found": images, "smooth fill": smooth_fill(truth, hole)}).savefig(path)


def strip(images: Tensor, per_row: int, scale: int = 3) -> np.ndarray:
    """Images (N, 1, h, w) in rows, enlarged and smoothed, as a picture (H, W, 3) of bytes."""
    big = F.interpolate(images, scale_factor=scale, mode="bicubic").clamp(0, 1)
    big = F.pad(big, (2,) * 4, value=0.25)
    rows = [torch.cat(list(big[first : first + per_row]), 2) for first in range(0, len(big), per_row)]
    grey = (torch.cat(rows, 1)[0] * 255).byte().numpy()
    return np.repeat(grey[..., None], 3, 2)


@torch.no_grad()
def descent(path: Path) -> None:
    gan, count, starts = load_generator("mnist-dcgan"), 8, 4
    target = gan(gan.latents(count, seed=11))
    trajectory = lo.callbacks.Trajectory()
    problem = lo.Reconstruction(gan, target)
    result = lo.solve(problem, "adr-gd-soft", steps=150, restarts=starts, seed=0, callbacks=[trajectory])
    walk = trajectory.stacked().reshape(-1, starts, count, *gan.latent_shape)
    best = torch.stack([walk[:, restart, index] for index, restart in enumerate(result.restart.tolist())], 1)
    steps = sorted({round(150 ** (index / 44)) - 1 for index in range(45)})
    shots = [strip(torch.cat([target, gan(best[t])]), count) for t in steps]
    shots.append(strip(torch.cat([target, result.output]), count))
    save_gif(path, shots, [90] * (len(shots) - 1) + [2500], colors=32)


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The point (B, n) on the great circle from one latent to the other."""
    angle = torch.acos(F.cosine_similarity(first, second, dim=1).clamp(-1, 1))[:, None]
    return (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)


@torch.no_grad()
def walk(path: Path) -> None:
    gan, count, stops, between = load_generator("mnist-dcgan"), 10, 6, 8
    latents = gan.latents(count * stops, seed=5).reshape(stops, count, -1)
    latents = latents / latents.norm(dim=2, keepdim=True) * gan.latent_shape[0] ** 0.5
    points = [
        slerp(latents[stop], latents[(stop + 1) % stops], step / between)
        for stop in range(stops)
        for step in range(between)
    ]
    save_gif(path, [strip(gan(z), 5) for z in points], 100, colors=16)


def adversarial(path: Path) -> None:
    vae, plain, robust = load_generator("mnist-vae"), load_classifier("mnist-cnn"), load_classifier("mnist-cnn-robust")
    images = vae(vae.latents(300, seed=0)).detach()
    probabilities = [model(images).softmax(1) for model in (plain, robust)]
    labels = probabilities[0].argmax(1)
    sure = (labels == probabilities[1].argmax(1)) & (torch.stack(probabilities).amax(2).amin(0) > 0.9)
    first = [int((sure & (labels == digit)).nonzero()[0]) for digit in range(10)]
    x, y = images[first], labels[first]
    attacked = [lo.attack(model, x, y, eps=0.15, seed=0) for model in (plain, robust)]
    rows, titles = dict[str, Tensor](), list[list[tuple[str, str]]]()
    for name, one in zip(("mnist-cnn", "robust"), attacked, strict=True):
        rows |= {f"change x 3,\n{name}": 0.5 + 3 * (one.x - x), f"attacked\n{name}": one.x}
        pairs = zip(y.tolist(), one.predicted.tolist(), one.success.tolist(), strict=True)
        titles.append([(f"{old} → {new}", ORANGE if fooled else "black") for old, new, fooled in pairs])
    figure = sheet({"clean": x, **rows})
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.5)
    figure.subplots_adjust(top=0.99, hspace=0.28)
    axes = np.array(figure.axes).reshape(5, 10)
    for row, texts in zip((2, 4), titles, strict=True):
        for axis, (text, color) in zip(axes[row], texts, strict=True):
            axis.set_title(text, color=color, fontsize=11, pad=2)
    figure.savefig(path)
