"""Images that a job writes: a PNG for each, named as its input, and all of them as one array."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from latentopt.pictures import encode_png

IMAGES, ARRAY = "images", "images.npy"
"""Subfolder of the PNGs, and file of the array."""
LONGEST = 100
"""Characters of a file's name without its ending."""


def file_names(names: Sequence[str]) -> list[str]:
    """Return a file name that ends in .png for each name of an image; all differ, whatever the file system.

    >>> file_names(["cats/a.jpg", "cats_a.png", "../b"])
    ['cats_a.png', 'cats_a-1.png', 'b.png']
    """
    taken, files = set[str](), []
    for index, name in enumerate(names):
        stem = re.sub(r"\.(png|jpe?g|webp|bmp|tiff?|gif)$", "", name, flags=re.IGNORECASE)
        stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[:LONGEST] or "image"
        if stem.casefold() in taken:
            stem = f"{stem}-{index}"
        taken.add(stem.casefold())
        files.append(f"{stem}.png")
    return files


def write_pngs(folder: Path, files: Sequence[str], images: Tensor) -> None:
    """Write images (B, C, H, W) of bytes, C 1 or 3, into a folder, which is made if it does not exist."""
    folder.mkdir(exist_ok=True)
    for name, image in zip(files, images, strict=True):
        pixels = image.permute(1, 2, 0).numpy()
        (folder / name).write_bytes(encode_png(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def write_array(path: Path, batches: Iterable[Tensor], count: int) -> None:
    """Write batches (B, *shape), ``count`` samples together, as one ``.npy`` file, a batch at a time."""
    partial, array, start = path.with_name(f".{path.name}.partial"), None, 0
    for batch in batches:
        values = batch.detach().cpu().numpy()
        if array is None:
            array = np.lib.format.open_memmap(partial, "w+", values.dtype, (count, *values.shape[1:]))
        array[start : start + len(values)] = values
        start += len(values)
    if array is not None:
        array.flush()
        partial.replace(path)
