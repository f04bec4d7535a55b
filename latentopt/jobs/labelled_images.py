"""Images with labels, from a data set by name or from one file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.jobs.targets import to_tensor
from latentopt.zoo import datasets


def open_labelled(
    data: str, root: str | None = None, split: str = "test", limit: int | None = None, download: bool = False
) -> tuple[Tensor, Tensor]:
    """Read images with their labels.

    Args:
        data: an ``.npz`` file with the arrays ``images`` and ``labels``; or a data set's name.
        root, split, download: of a named data set (`latentopt.zoo.datasets.load_labelled`).
        limit: number of images, the first ones; None reads all.

    Returns:
        The images (N, C, H, W), float32 in [0, 1], and their classes (N,), long.

    Raises:
        InputError: the data are missing or have another form.
    """
    if limit is not None:
        positive("limit", limit, integer=True)
    if data.isidentifier():
        return datasets.load_labelled(data, root, split, limit, download)
    return _read_npz(Path(data), limit)


def _read_npz(path: Path, limit: int | None) -> tuple[Tensor, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            "data", "a data set's name, or an .npz file with images and labels", f"{path} ({reason})"
        ) from error
    if images.ndim not in (3, 4) or not len(images):
        raise InputError(f"{path}: images", "(N, H, W), (N, H, W, C) or (N, C, H, W)", f"shape {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        got = f"{labels.dtype} of shape {labels.shape}"
        raise InputError(f"{path}: labels", f"{len(images)} whole numbers >= 0", got)
    tensors = torch.stack([to_tensor(image) for image in images[:limit]])
    return tensors, torch.from_numpy(labels[:limit].astype(np.int64))
