"""Pictures for people: grids, animations, plots of convergence and histograms."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.reports import new_plot

_GAP, _WHITE, _LINE, _PLOT = 2, 255, 14, 64


def to_bytes(images: Tensor) -> Tensor:
    """Convert images in [0, 1] to bytes, rounded; values outside are clamped."""
    return (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def to_pictures(samples: Tensor) -> Tensor:
    """Convert samples in [0, 1] to pictures of bytes, whatever they are.

    Args:
        samples: images (B, C, H, W); of volumes (B, C, D, H, W) the middle slice is taken; others become a line plot.

    Returns:
        (B, 1 or 3, H, W); the mean of other numbers of channels.
    """
    if samples.ndim == 5:
        samples = samples[:, :, samples.shape[2] // 2]
    if samples.ndim != 4:
        samples = _draw_lines(samples.detach().float())
    return to_bytes(samples if samples.shape[1] in (1, 3) else samples.float().mean(1, keepdim=True))


def _draw_lines(signals: Tensor) -> Tensor:
    """Draw each signal (..., L) of samples (B, ...) in [0, 1] as a black line on white, (B, 1, _PLOT, at most 256)."""
    lines = signals.reshape(len(signals), -1, signals.shape[-1])
    if lines.shape[-1] > 256:
        lines = F.interpolate(lines, 256, mode="linear")
    heights = (1 - lines.clamp(0, 1)) * (_PLOT - 1)
    before = torch.cat([heights[..., :1], heights[..., :-1]], -1)
    rows = torch.arange(_PLOT, device=signals.device)[:, None]
    above, below = torch.minimum(heights, before).round(), torch.maximum(heights, before).round()
    drawn = (rows >= above[..., None, :]) & (rows <= below[..., None, :])
    return 1 - drawn.any(1, keepdim=True).float()


def tile(columns: Sequence[Tensor], per_row: int = 2, side: int = 112) -> np.ndarray:
    """Tile images into one picture: those of a sample side by side, ``per_row`` samples a row.

    Args:
        columns: for each column the images (B, C, H, W) of bytes, C 1 or 3. Sizes may differ between columns; images
            are enlarged without smoothing to about ``side`` pixels.
        per_row: samples in a row of the picture.
        side: height of an image in the picture.

    Returns:
        The picture (height, width, 3) of bytes.
    """
    enlarged = [_enlarge(column, side) for column in columns]
    tallest = max(column.shape[-2] for column in enlarged)  # whole pixels of 20 come to 120, of 28 to 112
    enlarged = [_heighten(column, tallest) for column in enlarged]
    samples = [torch.cat([_frame(images[i]) for images in enlarged], dim=2) for i in range(len(enlarged[0]))]
    samples += [torch.full_like(samples[0], _WHITE)] * (-len(samples) % per_row)
    space = torch.full((3, samples[0].shape[1], 4 * _GAP), _WHITE, dtype=torch.uint8)
    rows = [
        torch.cat([part for sample in samples[start : start + per_row] for part in (space, sample)], dim=2)
        for start in range(0, len(samples), per_row)
    ]
    return torch.cat(rows, dim=1).permute(1, 2, 0).numpy()


def add_captions(images: Tensor, captions: Sequence[str], lines: int = 1, side: int = 112) -> Tensor:
    """Enlarge images (B, C, H, W) as `tile` does, and add to each its caption of at most ``lines`` lines."""
    from PIL import Image, ImageDraw, ImageFont

    enlarged, font = _enlarge(images, side), ImageFont.load_default(10)
    size = (enlarged.shape[-1], _LINE * lines)
    strips = []
    for caption in captions:
        strip = Image.new("RGB", size, "white")
        ImageDraw.Draw(strip).text((size[0] / 2, 0), caption, "black", font, anchor="ma", align="center", spacing=3)
        strips.append(torch.from_numpy(np.array(strip)).permute(2, 0, 1))
    return torch.cat([enlarged, torch.stack(strips)], 2)


def short_name(name: str, most: int = 19) -> str:
    """Return a name as a caption of one image: its end, where it is long."""
    return name if len(name) <= most else f"..{name[2 - most :]}"


def _enlarge(images: Tensor, side: int) -> Tensor:
    scale = max(1, round(side / images.shape[-2]))
    big = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2).expand(-1, 3, -1, -1)
    short = max(0, side - big.shape[-1])
    return _heighten(F.pad(big, (short // 2, short - short // 2), value=_WHITE), side)


def _heighten(images: Tensor, height: int) -> Tensor:
    """Centre the images in white ones of at least this height."""
    short = max(0, height - images.shape[-2])
    return F.pad(images, (0, 0, short // 2, short - short // 2), value=_WHITE)


def _frame(image: Tensor) -> Tensor:
    return F.pad(image, (_GAP,) * 4, value=_WHITE)


def save_png(path: Path, picture: np.ndarray, titles: Sequence[str] = (), per_row: int = 2) -> None:
    """Write a picture, with the columns' titles above each sample's column."""
    from PIL import Image, ImageDraw, ImageFont

    head = 22 if titles else 0
    sheet = Image.new("RGB", (picture.shape[1], picture.shape[0] + head), "white")
    sheet.paste(Image.fromarray(picture), (0, head))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    width = picture.shape[1] / (per_row * len(titles)) if titles else 0
    for column in range(per_row * len(titles)):
        centre = (column + 0.5) * width + 4 * _GAP * 0.5
        draw.text((centre, 5), titles[column % len(titles)], fill="black", font=font, anchor="mt")
    sheet.save(path)


def encode_png(picture: np.ndarray) -> bytes:
    """Return a picture (height, width, 3) or (height, width) of bytes as the content of a PNG."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "png")
    return content.getvalue()


def save_gif(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 80) -> None:
    """Write an endless GIF from pictures of one size; the last one stays for two seconds."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    durations = [milliseconds] * (len(images) - 1) + [2000]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)


def save_convergence(path: Path, curves: np.ndarray, label: str, all_of: int | None = None) -> None:
    """Plot the best loss so far by step: the curves, their median, and the middle half.

    Args:
        path: path of the PNG.
        curves: best loss (N, steps), N at least 1; the first 64 are drawn one by one.
        label: name of the loss.
        all_of: number of all images, for the title, if the curves are those of the first ones alone.
    """
    figure, axes = new_plot()
    steps = np.arange(1, curves.shape[1] + 1)
    for curve in curves[:64]:
        axes.plot(steps, curve, color="tab:blue", alpha=0.15, linewidth=0.8)
    part = f", first {len(curves)} of {all_of} images" if all_of and all_of > len(curves) else ""
    low, median, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
    axes.fill_between(steps, low, high, color="tab:blue", alpha=0.25, label="middle half of the images")
    axes.plot(steps, median, color="tab:blue", label="median")
    axes.set(
        yscale="log" if median.max() > 0 else "linear",
        xlabel="step",
        ylabel=label,
        title=f"best so far over all restarts{part}",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=130)


def draw_histogram(values: Sequence[float], label: str) -> bytes:
    """Return a histogram as the content of a PNG; its axis is logarithmic if all finite values are positive."""
    finite = np.array([value for value in values if np.isfinite(value)])
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    logarithmic = 0 < low < high
    bins = np.geomspace(low, high, 31).tolist() if logarithmic else 30
    figure, axes = new_plot(3.2)
    axes.hist(finite, bins=bins, color="tab:blue")
    axes.set(xscale="log" if logarithmic else "linear", xlabel=label, ylabel="images")
    if logarithmic:
        ticks = np.geomspace(low, high, 6)
        axes.minorticks_off()
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, dpi=130, format="png")
    return content.getvalue()
