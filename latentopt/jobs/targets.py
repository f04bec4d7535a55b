"""Targets of a job: one image (C, H, W) at a time, fitted to a generator; a bad one is reported in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from latentopt.arguments import checked
from latentopt.errors import InputError, as_shape, printable
from latentopt.files import scaled
from latentopt.jobs.sources import Source, open_source
from latentopt.zoo.fitting import Fit, resize_image, to_grey

Shape = tuple[int, ...]


def to_tensor(array: np.ndarray) -> Tensor:
    """An image as (C, H, W) float32 in [0, 1]: bytes divided by 255, 16-bit values by 65535, floats as they are.

    The channels are last where only the last dimension is 1 or 3.

    Raises:
        InputError: not a number, not finite, outside [0, 1], or not an image's shape.
    """
    image = as_floats(array)
    low, high = image.min().item(), image.max().item()
    if low < -1e-6 or high > 1 + 1e-6:
        raise InputError("image", "pixels in [0, 1]", f"[{low:.4g}, {high:.4g}]")
    return image.clamp(0, 1)


def as_floats(array: np.ndarray, shapes: Sequence[Shape] = ()) -> Tensor:
    """`to_tensor`, whose floats may have any finite value; those of these shapes, or of no image's, stay."""
    if (array.ndim == 2 and array.shape not in shapes) or (1, *array.shape) in shapes:
        array = array[None]
    elif array.shape in shapes:
        pass
    elif array.ndim == 3 and array.shape[-1] in (1, 3) and array.shape[0] not in (1, 3):
        array = array.transpose(2, 0, 1)
    if (array.ndim != 3 and not shapes) or 0 in array.shape:
        raise InputError("image", "shape (H, W), (H, W, C) or (C, H, W)", array.shape)
    if array.dtype == np.bool_:
        array = array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return torch.from_numpy(scaled(array))
    if array.dtype.kind != "f":
        raise InputError("image", "bytes, 16-bit values or floats in [0, 1]", array.dtype)
    image = torch.from_numpy(array.astype(np.float32))
    if not bool(image.isfinite().all()):
        raise InputError("image", "finite pixels", "NaN or infinity")
    return image


@checked
def load_images(*targets: str | Path, shape: Shape | None = None, fit: Fit = "crop") -> Tensor:
    """Load images from files, a folder, an array file or a named data set.

    Args:
        targets: image files and folders of images (in subfolders too, where none lies in the folder itself); or one
            array file (``.npy``, ``.npz``, ``.safetensors``, ``.pt``); or one data set's name. Photographs are upright,
            as their EXIF orientation says; all colour spaces become RGB; transparent pixels are put over white.
        shape: (C, H, W) that images are resized and their channels converted to, such as
            ``generator.output_shape()``; None: as they are, all of one shape.
        fit: of images of another aspect: ``crop``, they are resized until they cover the shape, and its middle is kept;
            ``pad``, until it covers them, and the rest is black; ``stretch``, to the shape, which distorts them.

    Returns:
        Images (B, C, H, W) in [0, 1], float32.

    Raises:
        InputError: nothing is there, a file is no image, or shapes differ.

    Warns:
        FileWarning: of a file only a part was read: its first page, or its colours without transparency.

    >>> load_images("digits", shape=(1, 16, 16)).shape
    torch.Size([1797, 1, 16, 16])
    """
    fitted = None
    if shape is not None:
        if len(shape := as_shape("shape", shape)) != 3:
            raise InputError("shape", "(C, H, W)", shape)
        fitted = Fitted(shape, shape, resize=True, convert=True, fit=fit)
    source = open_source([str(target) for target in targets])
    return fit_images(source, fitted, "targets", "shape=(C, H, W)")


def fit_images(source: Source, fitted: Fitted | None, name: str, remedy: str) -> Tensor:
    """Read all images (B, C, H, W) in [0, 1], and fit them.

    Args:
        source: where they come from.
        fitted: shapes to fit; None: any one.
        name: of the argument, for the message.
        remedy: what helps where shapes differ, for the message.

    Raises:
        InputError: one cannot be read or fitted, or their shapes differ.
    """
    images = [_fit_image(source, index, fitted) for index in range(len(source.names))]
    if len(shapes := {tuple(image.shape) for image in images}) > 1:
        raise InputError(name, f"images of one shape, or {remedy}", sorted(shapes))
    return torch.stack(images)


def _fit_image(source: Source, index: int, fitted: Fitted | None) -> Tensor:
    """Read one image (C, H, W) in [0, 1], and fit it; what is wrong with it is told with its name."""
    try:
        image = to_tensor(source.read(index))
        return image if fitted is None else fitted(image)
    except InputError as error:
        if source.names[index] in printable(error.name):
            raise
        raise InputError(f"{source.names[index]}: {error.name}", error.expected, error.got) from error


@dataclass(frozen=True)
class Fitted:
    """A job's rule for one image's shape."""

    image: Shape  # (C, H, W) of the generator's images
    measurement: Shape  # what the operator makes of them
    resize: bool = False
    convert: bool = False
    fit: Fit = "crop"  # as `load_images` has it

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise InputError("fit", f"one of {', '.join(get_args(Fit))}", repr(self.fit))

    def __call__(self, image: Tensor) -> Tensor:
        """The image in the shape of the generator's images or of their measurements.

        Grey images stored in colour lose nothing and are always accepted; all else only where asked.

        Raises:
            InputError: it has another shape.
        """
        channels, is_picture = self.image[0], image.ndim == len(self.image) == 3
        if is_picture and image.shape[0] == 3 and channels == 1 and bool((image == image[:1]).all()):
            image = image[:1]
        if is_picture and self.convert and image.shape[0] != channels:
            image = to_grey(image).expand(channels, -1, -1)
        shape = tuple(image.shape)
        if shape in (self.image, self.measurement):
            return image
        if is_picture and self.resize and image.shape[0] == channels:
            return resize_image(image, self.image[1:], self.fit)
        raise InputError("image", self._expected(), f"{shape}{self._remedy(shape)}")

    def _expected(self) -> str:
        both = f"shape {self.image}" if self.image == self.measurement else f"{self.image} or {self.measurement}"
        return f"{both} (channels, height, width)" if len(self.image) == 3 else both

    def _remedy(self, shape: Shape) -> str:
        if not len(shape) == len(self.image) == 3:
            return ""
        if shape[0] != self.image[0]:
            return "" if self.convert else "; --convert changes the channels"
        return "; --resize changes the size"


@dataclass(frozen=True)
class Target:
    """One image of a job, or why it cannot be read."""

    index: int
    name: str
    image: Tensor | None  # (C, H, W)
    error: str = ""


class Targets(Dataset[Target]):
    """The images of a source, fitted to a generator; a bad one is reported in its place, not raised.

    Args:
        source: where they come from.
        fitted: shapes to fit.
        kind: shape that all must have once fitted; None: whatever `fitted` allows.
        checked: returns a fitted target (C, H, W), or raises `InputError` where its values cannot be; None: all must
            be in [0, 1].
    """

    def __init__(
        self,
        source: Source,
        fitted: Fitted,
        kind: Shape | None = None,
        checked: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.source, self.fitted, self.kind, self.checked = source, fitted, kind, checked

    def __len__(self) -> int:
        return len(self.source.names)

    def __getitem__(self, index: int) -> Target:
        name = self.source.names[index]
        try:
            array = self.source.read(index)
            shapes = (self.fitted.image, self.fitted.measurement)
            image = self.fitted(as_floats(array, shapes) if self.checked else to_tensor(array))
            if self.kind is not None and image.shape != self.kind:
                raise InputError("image", f"shape {self.kind}", tuple(image.shape))
            return Target(index, name, self.checked(image) if self.checked else image)
        except InputError as error:
            reason = str(error)
            return Target(index, name, None, reason if name in reason.split(": expected")[0] else f"{name}: {reason}")

    def first_good(self) -> Tensor:
        """The first image (C, H, W) that can be read.

        Raises:
            InputError: there is none; it tells what is wrong with the first.
        """
        first: Target | None = None
        for index in range(len(self)):
            target = self[index]
            if target.image is not None:
                return target.image
            first = first or target
        reason = first.error if first else "none"
        others = f" (and {len(self) - 1} more)" if len(self) > 1 else ""
        raise InputError("targets", "at least one image that can be read", f"{reason}{others}")
