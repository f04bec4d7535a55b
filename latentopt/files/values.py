"""Numbers of images and array files, such as masks and kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentopt.errors import InputError
from latentopt.files.arrays import ARRAY_SUFFIXES, read_array
from latentopt.files.images import is_image_name, read_image
from latentopt.files.paths import is_folder


def read_values(path: str | Path, *names: str) -> np.ndarray:
    """Read an image, a folder of images of one shape, or an array file.

    Args:
        path: path of the file or folder. Images must be of one page, without transparency.
        names: of the array, where a file holds several.

    Returns:
        An image (C, H, W), C 1 where all colours are grey, or images (N, C, H, W) of a folder in the order of their
        names, in [0, 1]; an array as it is, but bytes divided by 255.

    Raises:
        InputError: there is nothing, it cannot be read, or the images differ in shape.
    """
    if not str(path):
        raise InputError("path", "an image, a folder or an array file", "an empty path")
    path = Path(path)
    if is_folder(path):
        files = sorted(file for file in path.iterdir() if is_image_name(file))
        images = [_image(file) for file in files]
        shapes = sorted({image.shape for image in images})
        if len(shapes) != 1:
            raise InputError(str(path), "a folder of images of one shape", f"shapes {shapes}" if shapes else "no image")
        return np.stack(images)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return scaled(np.asarray(read_array(path, *names)))
    return _image(path)


def scaled(array: np.ndarray) -> np.ndarray:
    """Return bytes divided by 255, and 16-bit values by 65535, as float32; other arrays as they are."""
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return (array / np.float32(np.iinfo(array.dtype).max)).astype(np.float32)
    return array


def _image(path: Path) -> np.ndarray:
    image = scaled(read_image(path, strict=True))
    image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return image[:1] if (image == image[:1]).all() else image
