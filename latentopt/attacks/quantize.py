"""Adversarial images as PNG files of 8 bits a pixel, rounded within their balls."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.attacks.checks import SLACK, range_slack
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.batch_math import by_row, cpu_tensor
from latentopt.errors import InputError, warn
from latentopt.files import writing
from latentopt.networks.classifier import range_for
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.sets import Norm, length

BATCH_SIZE = 256
"""Images that the model sees at a time."""


@checked
def save_png(
    folder: str | Path,
    adversarial: AttackResult,
    model: Callable[[Tensor], Tensor],
    *,
    names: Sequence[str] | None = None,
    verify: bool = True,
) -> Tensor | None:
    """Write the images of an attack as PNG files, and check that these are still a success.

    Each pixel is rounded to 8 bits so that the image stays in its ball: towards the clean image where plain rounding
    would leave the ball. In results of `latentopt.minimum_norm` and `latentopt.carlini_wagner`, which lie just beyond
    the decision boundary, it is rounded away from the clean image: by less than a byte, and no ball is asked for.

    Args:
        folder: folder of the files; made if it does not exist.
        adversarial: result of `latentopt.attack` on images (B, C, H, W), C 1 or 3.
        model: the classifier that was attacked. 0 and 255 stand for the ends of its ``input_range``, by default [0, 1].
        names: B different file names; by default ``0000.png``, ``0001.png`` ...
        verify: read each file back and run the model on it.

    Returns:
        Which files are a success, and in the ball where there is one, (B,) bool; None without ``verify``.

    Raises:
        InputError: the inputs are no images, the names are not B different file names, or a file exists; nothing is
            written then.

    Warns:
        AttackWarning: some successful images are no success as files.
    """
    low, high = range_for(model, adversarial.x)
    if not str(folder).strip():
        raise InputError("folder", "a folder", repr(folder))
    with writing("folder", folder):
        paths = _new_paths(Path(folder), adversarial, names)
        images = quantized(adversarial, low, high)
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, image in zip(paths, images, strict=True):
            _write(path, image)
    if not verify:
        return None
    success = _verify(paths, adversarial, model, low, high)
    if lost := int((adversarial.success & ~success).sum()):
        total = int(adversarial.success.sum())
        warn(f"{lost} of the {total} images that succeed do not as 8-bit files", AttackWarning)
    return success


def _new_paths(folder: Path, adversarial: AttackResult, names: Sequence[str] | None) -> list[Path]:
    shape = tuple(adversarial.x.shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InputError("adversarial", "images (B, C, H, W) of 1 or 3 channels", shape)
    names = [f"{number:04d}.png" for number in range(shape[0])] if names is None else list(names)
    if len(set(names)) != shape[0] or any(Path(name).name != name or not name.endswith(".png") for name in names):
        raise InputError("names", f"{shape[0]} different file names that end in .png", names)
    paths = [folder / name for name in names]
    for path in paths:
        if os.path.lexists(path):
            raise InputError(str(path), "a new file", "an existing one")
    return paths


def quantized(adversarial: AttackResult, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
    """Return the images (B, *shape) of an attack as bytes on the CPU, as `save_png` writes them."""
    if not adversarial.minimal:
        return quantize(adversarial.x, adversarial.clean, adversarial.eps, adversarial.norm, low, high)
    low, high = _on_cpu(low), _on_cpu(high)
    scale, slack = 255 / (high - low), 255 * range_slack(low, high, adversarial.x.dtype) / (high - low)
    x, clean = ((t.detach().cpu().double() - low) * scale for t in (adversarial.x, adversarial.clean))
    outward = torch.where(x > clean, (x - slack).ceil(), (x + slack).floor())
    return torch.where((x - clean).abs() <= slack, x.round(), outward).clamp(0, 255).to(torch.uint8)


def quantize(
    x: Tensor, clean: Tensor, eps: Tensor, norm: Norm, low: float | Tensor = 0.0, high: float | Tensor = 1.0
) -> Tensor:
    """Round inputs ``x`` (B, *shape) in [low, high] to bytes on the CPU.

    They lie within ``eps`` of ``clean`` (B, *shape) wherever whole numbers do: (B,), or in Linf (B, *shape).
    """
    low, high = _on_cpu(low), _on_cpu(high)
    scale, rounding = 255 / (high - low), _byte_slack(x, low, high)
    x, clean = ((t.detach().cpu().double() - low) * scale for t in (x, clean))
    eps, rounded = eps.detach().cpu().double() + rounding, x.round()
    if norm == "linf":
        radius = (eps if eps.ndim > 1 else by_row(eps, x)) * scale
        lowest, greatest = (clean - radius).ceil(), (clean + radius).floor()
        rounded = torch.where(lowest <= greatest, rounded.clamp(lowest, greatest), clean.round())
    else:
        first = cpu_tensor(scale).flatten()[0]
        rounded = _round_into_l2_ball(x, clean, rounded, eps * first, first / scale)
    return rounded.clamp(0, 255).to(torch.uint8)


def _on_cpu(end: float | Tensor) -> float | Tensor:
    return end.cpu().double() if isinstance(end, Tensor) else end


def _byte_slack(x: Tensor, low: float | Tensor, high: float | Tensor) -> float:
    """Return how far rounding may put images off the values of bytes: a quarter of a byte at most."""
    width = cpu_tensor(high - low, torch.float64).min().item()
    return min(range_slack(low, high, x.dtype), width / 255 / 4)


def _round_into_l2_ball(x: Tensor, clean: Tensor, rounded: Tensor, eps: Tensor, unit: Tensor) -> Tensor:
    """Round pixels the other way, those nearest to half first, until each sample lies in its ball.

    ``unit``: length of a byte, (C, 1, 1) where channels have ranges of their own.
    """
    inward = torch.where(rounded > x, x.floor(), x.ceil())
    change = (rounded - clean) * unit
    gain = (change.square() - ((inward - clean) * unit).square()).clamp(min=0).flatten(1)
    excess = change.flatten(1).square().sum(1) - eps.square()
    order = torch.where(gain > 0, (x - rounded).abs().flatten(1), -1.0).argsort(1, descending=True)
    gain_before = gain.gather(1, order).cumsum(1) - gain.gather(1, order)
    turned = torch.zeros_like(gain).scatter(1, order, (gain_before < excess[:, None]).double())
    return torch.where((turned * gain > 0).reshape(x.shape), inward, rounded)


def _write(path: Path, image: Tensor) -> None:
    from PIL import Image

    pixels = image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)


def _read(path: Path) -> Tensor:
    from PIL import Image

    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


@torch.no_grad()
def _verify(
    paths: Sequence[Path],
    adversarial: AttackResult,
    model: Callable[[Tensor], Tensor],
    low: float | Tensor,
    high: float | Tensor,
) -> Tensor:
    """Return which files are a success, and in the ball where there is one, (B,) bool."""
    x, clean, eps = adversarial.x, adversarial.clean.double(), adversarial.eps.double()
    files = torch.stack([_read(path) for path in paths]).to(x.device, torch.float64)
    files = low + files * (high - low) / 255
    change, network = files - clean, adapt(model, "model", is_classifier=True)
    with frozen(model):
        logits = torch.cat([network(part) for part in files.to(x.dtype).split(BATCH_SIZE)])
    reached = adversarial.goal.is_reached(logits)
    if adversarial.minimal:
        return reached
    limit = (eps + _byte_slack(x, low, high)) * (1 + SLACK)
    return reached & (
        (change.abs() <= limit).flatten(1).all(1) if limit.ndim > 1 else length(change, adversarial.norm) <= limit
    )
