"""Adversarial images as files of 8 bits a pixel, which are no longer what the attack found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentopt.attacks.checks import SLACK, range_slack
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.errors import InputError
from latentopt.networks.classifier import range_of
from latentopt.networks.freezing import frozen
from latentopt.sets import Norm, length
from latentopt.solver.rows import as_rows

CHUNK = 256
"""Images that the model sees at a time."""


def save_png(
    folder: str | Path,
    adversarial: AttackResult,
    model: Callable[[Tensor], Tensor],
    *,
    names: Sequence[str] | None = None,
    verify: bool = True,
) -> Tensor | None:
    """Write the images that an attack found as PNG files, and look whether those still fool the classifier.

    Each pixel is rounded to 8 bits so that the image stays in the ball: towards the clean image where plain rounding
    would leave it.

    Args:
        folder: where; made if it is not there.
        adversarial: result of `latentopt.attack` on images (B, C, H, W), C 1 or 3.
        model: the classifier that was attacked. 0 and 255 stand for the ends of its ``input_range``, [0, 1] if it has
            none.
        names: of the files, B different ones; by default ``0000.png``, ``0001.png`` ...
        verify: read each file back and run the model on what it holds.

    Returns:
        Which files (B,) are in the ball and succeed as the attack means it; None without ``verify``.

    Raises:
        InputError: not images, names that are no B different file names, a file that is there already; then nothing
            is written.

    Warns:
        AttackWarning: some images that succeeded do so no longer, as files.
    """
    low, high = range_of(model)
    paths = _paths(Path(folder), adversarial, names)
    rounded = to_bytes(adversarial.x, adversarial.clean, adversarial.eps, adversarial.norm, low, high)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("folder", "one that can be written", f"{folder} ({error.strerror})") from error
    for path, image in zip(paths, rounded, strict=True):
        _write(path, image)
    return _verified(paths, adversarial, model, low, high) if verify else None


def _paths(folder: Path, adversarial: AttackResult, names: Sequence[str] | None) -> list[Path]:
    shape = tuple(adversarial.x.shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InputError("adversarial", "images (B, C, H, W) of 1 or 3 channels", shape)
    names = [f"{at:04d}.png" for at in range(shape[0])] if names is None else list(names)
    if len(set(names)) != shape[0] or any(Path(name).name != name or not name.endswith(".png") for name in names):
        raise InputError("names", f"{shape[0]} different file names that end in .png", names)
    paths = [folder / name for name in names]
    for path in paths:
        if path.exists():
            raise InputError(str(path), "a new file", "an existing one")
    return paths


def to_bytes(x: Tensor, clean: Tensor, eps: Tensor, norm: Norm, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Inputs ``x`` (B, *shape) in [low, high] as bytes, within ``eps`` (B,) of ``clean`` wherever whole numbers are."""
    scale, rounding = 255 / (high - low), _rounding(x, low, high)
    x, clean = ((t.detach().cpu().double() - low) * scale for t in (x, clean))
    eps = (eps.detach().cpu().double() + rounding) * scale
    rounded = x.round()
    if norm == "linf":
        reach = as_rows(eps, x)
        least, most = (clean - reach).ceil(), (clean + reach).floor()
        rounded = torch.where(least <= most, rounded.clamp(least, most), clean.round())
    else:
        rounded = _into_l2(x, clean, rounded, eps)
    return rounded.clamp(0, 255).to(torch.uint8)


def _rounding(x: Tensor, low: float, high: float) -> float:
    """By how much images may lie off the values of bytes through rounding: a quarter of one at most."""
    return min(range_slack(low, high, x.dtype), (high - low) / 255 / 4)


def _into_l2(x: Tensor, clean: Tensor, rounded: Tensor, eps: Tensor) -> Tensor:
    """Some pixels rounded the other way, those nearest to half first, until the sample lies in its ball."""
    inward = torch.where(rounded > x, x.floor(), x.ceil())
    gain = ((rounded - clean).square() - (inward - clean).square()).clamp(min=0).flatten(1)
    excess = (rounded - clean).flatten(1).square().sum(1) - eps.square()
    order = torch.where(gain > 0, (x - rounded).abs().flatten(1), -1.0).argsort(1, descending=True)
    before = gain.gather(1, order).cumsum(1) - gain.gather(1, order)
    turned = torch.zeros_like(gain).scatter(1, order, (before < excess[:, None]).double())
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
def _verified(
    paths: Sequence[Path], adversarial: AttackResult, model: Callable[[Tensor], Tensor], low: float, high: float
) -> Tensor:
    x, clean, eps = adversarial.x, adversarial.clean.double(), adversarial.eps.double()
    files = torch.stack([_read(path) for path in paths]).to(x.device, torch.float64)
    files = low + files * (high - low) / 255
    distance = length(files - clean, adversarial.norm)
    with frozen(model):
        logits = torch.cat([model(part) for part in files.to(x.dtype).split(CHUNK)])
    close = distance <= (eps + _rounding(x, low, high)) * (1 + SLACK)
    succeeds = adversarial.goal.is_reached(logits) & close
    lost = int((adversarial.success & ~succeeds).sum())
    if lost:
        found = int(adversarial.success.sum())
        warnings.warn(f"{lost} of the {found} images that succeed do not as 8-bit files", AttackWarning, stacklevel=3)
    return succeeds
