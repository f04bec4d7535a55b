"""Pictures of the gallery that look into networks: regions, gates, margins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gallery_images import save_gif
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import latentopt as lo
from latentopt.analysis import regions
from latentopt.classification import Misclassify, margin
from latentopt.sets import bounded_ball
from latentopt.zoo.cards import load_classifier, load_generator
from latentopt.zoo.random_nets import random_net

BLUE, ORANGE = "#0072B2", "#D55E00"


def canvas(figure: Figure, dpi: int) -> np.ndarray:
    """A figure as a picture (H, W, 3) of bytes."""
    figure.set_dpi(dpi)
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    return np.asarray(drawn.buffer_rgba())[..., :3].copy()


def landscape(path: Path) -> None:
    net = random_net((2, 16, 16, 1), seed=8, dtype=torch.float64)
    start, plain = torch.zeros(1, 2, dtype=torch.float64), lo.GD(lr=0.05, normalize=True)
    paths = dict[str, Tensor]()
    for name, optimizer in {"gradient ascent": plain, "ADR-GD, soft gates": lo.ADRGD(lo.SoftGates(), plain)}.items():
        trajectory = lo.callbacks.Trajectory()
        settings = {"low": -1.0, "high": 1.0, "shape": (2,), "steps": 61, "start": start, "seed": 0}
        lo.maximize(net, optimizer=optimizer, callbacks=[trajectory], **settings)
        paths[name] = trajectory.stacked()[:, 0]
    u, v = torch.eye(2, dtype=torch.float64)
    plane = regions.landscape(net, lambda output: output[:, 0], start[0], u, v, extent=1.0, resolution=300)
    shots = []
    for t in [*range(1, 62, 2), 61]:
        figure = Figure(layout="constrained")
        so_far = {name: walked[:t] for name, walked in paths.items()}
        regions.draw_landscape(figure, plane, so_far, "random network 2-16-16-1, seed 8", "output, maximised")
        shots.append(canvas(figure, 75))
    save_gif(path, shots, [110] * (len(shots) - 1) + [3000], colors=200)


def digit(index: int, *names: str) -> tuple[Tensor, Tensor, list[lo.Classifier]]:
    """An image of the VAE (1, 1, 28, 28) in double precision, its class, and classifiers that agree on it."""
    vae, models = load_generator("mnist-vae").double(), [load_classifier(name).double() for name in names]
    images = vae(vae.latents(60, seed=0).double()).detach()
    classes = torch.stack([model(images).argmax(1) for model in models])
    agreed = (classes == classes[0]).all(0).nonzero()[:, 0]
    chosen = agreed[index]
    return images[chosen : chosen + 1], classes[0][chosen : chosen + 1], models


def climbed(model: lo.Classifier, x: Tensor, y: Tensor, optimizer: lo.PGD | lo.ADRGD, steps: int) -> Tensor:
    """The iterates (steps, 1, 1, 28, 28) of an attack that does not stop at success."""
    trajectory = lo.callbacks.Trajectory()
    problem = lo.Problem(model, Misclassify("ce", y), x.shape[1:], 1, bounded_ball(x, 0.15, "linf", 0.0, 1.0), like=x)
    lo.solve(problem, optimizer, steps=steps, start=x, seed=0, callbacks=[trajectory])
    return trajectory.stacked()


def gates(path: Path) -> None:
    x, y, (model,) = digit(0, "mnist-cnn")
    walks = {"PGD": lo.PGD(), "PGD through soft gates": lo.ADRGD(lo.SoftGates(), lo.PGD())}
    figure = Figure(figsize=(10, 5.6), dpi=90, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[2.2, 1])
    last = len(lo.gates.sites(model, x)) - 1
    paths = {name: climbed(model, x, y, optimizer, 41) for name, optimizer in walks.items()}
    open_now = {name: regions.pattern(model, walk[:, 0], [last]) for name, walk in paths.items()}
    moving = torch.stack([is_open.float().std(0) > 0 for is_open in open_now.values()]).any(0)
    for index, (name, walk) in enumerate(paths.items()):
        picture = open_now[name][:, moving].T
        axes[0, index].imshow(picture, aspect="auto", cmap="cividis", interpolation="nearest")
        axes[0, index].set(title=name, ylabel="units of the last hidden layer" if index == 0 else "")
        flips = regions.trajectory_statistics(model, walk, crossings=False).flips[:, 0]
        axes[1, index].bar(range(1, len(flips) + 1), flips, color=(BLUE, ORANGE)[index])
        axes[1, index].set(xlabel="step", ylabel="gates that flip" if index == 0 else "")
        axes[1, index].spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def plateaus(path: Path) -> None:
    names = ("mnist-cnn", "mnist-mlp-capped")
    x, y, models = digit(2, *names)
    figure = Figure(figsize=(10.5, 4.9), dpi=90, layout="constrained")
    axes, size = figure.subplots(1, 2, sharey=True), 0.4
    chance = torch.randn(x[0].shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype).sign()
    for axis, name, model in zip(axes, names, models, strict=True):
        attacked = lo.attack(model, x, y, eps=0.15, seed=0)
        toward = (attacked.x - x)[0] / 0.15  # greatest change 1
        plane = regions.landscape(
            model, lambda logits: margin(logits, y.expand(len(logits))), x[0], toward, chance, size, 160
        )
        box = [-size, size, -size, size]
        limit = float(plane.values.abs().max())
        shades = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, "extent": box, "origin": "lower"}
        picture = axis.imshow(plane.values, **shades, interpolation="nearest")
        axis.contour(plane.a, plane.b, plane.values, levels=14, colors="#444444", linewidths=0.5, linestyles="solid")
        axis.contour(plane.a, plane.b, plane.values, levels=[0.0], colors="black", linewidths=2.4)
        axis.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=9)
        axis.set(title=name, xlabel="towards an attack (largest change of a pixel)")
        figure.colorbar(picture, ax=axis, shrink=0.8, label="best other logit - the label's")
    axes[0].set_ylabel("a random direction (change of a pixel)")
    figure.savefig(path)
