"""Images resized to a shape, their aspect kept or not, and turned grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from latentopt.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Fit = Literal["crop", "pad", "stretch"]


def fit_to_shape(image: Tensor, shape: Sequence[int], fit: Fit = "crop") -> Tensor:
    """Return an image (C, H, W) with the channels and the size of a shape (C, H, W).

    Raises:
        InputError: it has neither 1 nor 3 channels.
    """
    if image.shape[0] != shape[0]:
        image = to_grey(image).expand(shape[0], -1, -1)
    return image if tuple(image.shape) == tuple(shape) else resize_image(image, shape[1:], fit)


def resize_image(image: Tensor, size: Sequence[int], fit: Fit) -> Tensor:
    """Return an image (C, H, W) at another size (H, W): bilinear, with antialiasing.

    Args:
        image: (C, H, W).
        size: (H, W).
        fit: of another aspect: ``crop``, it is resized until it covers the size, and its middle is kept; ``pad``, until
            the size covers it, and the rest is black; ``stretch``, to the size, which distorts it.
    """
    from torch.nn import functional as F

    scales = [wanted / side for wanted, side in zip(size, image.shape[1:], strict=True)]
    sides = list(size)
    if fit != "stretch":
        scale = max(scales) if fit == "crop" else min(scales)
        sides = [max(1, round(side * scale)) for side in image.shape[1:]]
    resized = F.interpolate(image[None], sides, mode="bilinear", antialias=True)[0].clamp(image.min(), image.max())
    for axis, (side, wanted) in enumerate(zip(sides, size, strict=True), start=1):
        if side > wanted:
            resized = resized.narrow(axis, (side - wanted) // 2, wanted)
    rest = [wanted - side for side, wanted in zip(resized.shape[1:], size, strict=True)]
    top, left = (each // 2 for each in rest)
    return F.pad(resized, (left, rest[1] - left, top, rest[0] - top))


def to_grey(image: Tensor) -> Tensor:
    """Return an image (C, H, W) as one channel (1, H, W), by the weights of ITU-R BT.601.

    Raises:
        InputError: it has neither 1 nor 3 channels.
    """
    if image.shape[0] == 1:
        return image
    if image.shape[0] != 3:
        raise InputError("image", "1 or 3 channels", f"{image.shape[0]}")
    weights = image.new_tensor([0.299, 0.587, 0.114])
    return (weights[:, None, None] * image).sum(0, keepdim=True)
