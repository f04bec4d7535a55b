"""Named image data sets with their labels: scikit-learn's digits, and every image data set of torchvision."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentopt.errors import InputError, with_nearest
from latentopt.files import image_array, is_file, is_folder, read_array
from latentopt.zoo.paths import data_root, shipped_folder

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["images", "labels"]
SHIPPED = 500
"""Number of MNIST's test images that ship, the first ones."""
LOCAL = ("digits", "mnist", "cifar10")
"""Data sets that are read here, without torchvision."""


def open_dataset(
    name: str, root: str | None = None, split: str = "test", download: bool = False, limit: int | None = None
) -> Any:
    """A data set by name: something with a length, whose items are arrays or PIL images.

    Args:
        name: ``digits`` (8x8 handwriting that scikit-learn ships, (N, 8, 8) float32 in [0, 1], the same in both
            splits), or the name of a torchvision data set, in any case (``mnist``, ``FashionMNIST``, ``CIFAR10``).
        root: torchvision's ``root``. MNIST is also read from a folder that holds the four gzipped idx files, CIFAR10
            from one that holds ``cifar10_train*.npz`` and ``cifar10_test*.npz`` (``images`` (N, 32, 32, 3) bytes and
            ``labels``), whole or a part of it. Default: the environment variable LATENTOPT_DATA.
        split: ``train`` or ``test``.
        download: fetch what is not there, where torchvision can.
        limit: number of images that are needed, the first ones: MNIST's first 500 test images ship.

    Raises:
        InputError: unknown name or split, or the data are not there.
    """
    return _open("images", name, root, split, download, limit)


def load_labelled(
    name: str, root: str | None = None, split: str = "test", limit: int | None = None, download: bool = False
) -> tuple[Tensor, Tensor]:
    """Read the first ``limit`` images (N, C, H, W), float32 in [0, 1], and their classes (N,), long, from 0.

    Args:
        name, root, split, download: as in `open_dataset`.
        limit: default all.

    Raises:
        InputError: as `open_dataset`; or the labels are not there, or are not one whole number >= 0 an image.

    >>> images, labels = load_labelled("digits", limit=3)
    >>> images.shape, labels
    (torch.Size([3, 1, 8, 8]), tensor([0, 1, 2]))
    """
    import torch

    images = as_images(_open("images", name, root, split, download, limit), limit)
    source = _open("labels", name, root, split, download, limit)
    labels = np.asarray([source[index] for index in range(len(source))][:limit])
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        came = f"{labels.dtype} of shape {labels.shape} for {len(images)} images"
        raise InputError(f"data set {name}", "one whole number >= 0 for each image, its class", came)
    return images, torch.tensor(labels, dtype=torch.long)


def as_images(source: Sequence[Any] | NDArray[Any], limit: int | None = None) -> Tensor:
    """Return the first ``limit`` items of a data set as images (N, C, H, W), float32; bytes are divided by 255.

    Images of Pillow are read as `latentopt.files.read_image` reads those of files.

    Raises:
        InputError: they differ in shape.
    """
    import torch

    count = len(source) if limit is None else min(limit, len(source))
    array = source[:count] if isinstance(source, np.ndarray) else [image_array(source[i]) for i in range(count)]
    if len(shapes := {image.shape for image in array}) > 1:
        raise InputError("data set", "images of one shape", sorted(shapes))
    images = torch.tensor(np.asarray(array))
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images / 255 if images.dtype == torch.uint8 else images


def _open(part: Part, name: str, root: str | None, split: str, download: bool, limit: int | None) -> Any:
    """Open the images or the labels of a data set, as `open_dataset` describes them."""
    if split not in ("train", "test"):
        raise InputError("split", "train or test", repr(split))
    folder = Path(root) if root else data_root()
    match name.lower():
        case "digits":
            from sklearn.datasets import load_digits

            pixels, labels = load_digits(return_X_y=True)
            return labels if part == "labels" else pixels.reshape(-1, 8, 8).astype(np.float32) / 16
        case "mnist":
            kind = "t10k" if split == "test" else "train"
            images, labels = f"{kind}-images-idx3-ubyte.gz", f"{kind}-labels-idx1-ubyte.gz"
            shipped = [shipped_folder("data") / "mnist"] if _ships(name, root, split, download, limit) else []
            for place in (folder, folder / "mnist", *shipped):
                if is_file(place / images):
                    return read_idx(place / (labels if part == "labels" else images))
        case "cifar10":
            for place in (folder, folder / "cifar10"):
                for path in sorted(place.glob(f"cifar10_{split}*.npz")):
                    return read_array(path, part, strict=True)
    return _torchvision(part, name, folder, split, download)


def _ships(name: str, root: str | None, split: str, download: bool, limit: int | None) -> bool:
    """Return whether the images that ship are enough, and neither a folder nor a download is asked for."""
    enough = name.lower() == "mnist" and split == "test" and limit is not None and limit <= SHIPPED
    return enough and root is None and not download and not is_folder(data_root() / "MNIST")


def check_dataset(
    name: str, root: str | None = None, split: str = "test", download: bool = False, limit: int | None = None
) -> None:
    """Raise `InputError` where `open_dataset` would, reading no more than file names where these tell.

    Sets that only torchvision reads are opened.
    """
    folder, known = Path(root) if root else data_root(), name.lower()
    files = {
        "mnist": f"{'t10k' if split == 'test' else 'train'}-images-idx3-ubyte.gz",
        "cifar10": f"cifar10_{split}*.npz",
    }
    places = (folder, folder / known)
    local = known in files and any(any(place.glob(files[known])) for place in places)
    there = download or known == "digits" or local or _ships(name, root, split, download, limit)
    if split not in ("train", "test") or not there:
        open_dataset(name, root, split, download, limit)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of bytes (the format of MNIST).

    Raises:
        InputError: the file has another format or is truncated.
    """
    try:
        with gzip.open(path) as file:
            head = file.read(4)
            sizes = file.read(4 * head[3]) if head[:3] == b"\x00\x00\x08" and len(head) == 4 else b""
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            content = file.read(prod(shape) + 1) if sizes else b""  # no more: a small file may hold gigabytes
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(str(path), "a gzipped idx file", str(error)) from error
    if not sizes or len(sizes) < 4 * head[3]:
        raise InputError(str(path), "an idx file of bytes", f"one that starts with {head + sizes[:12]!r}")
    if len(content) != prod(shape):
        raise InputError(
            str(path), f"{prod(shape)} values", "more" if len(content) > prod(shape) else f"{len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


class _ItemParts:
    """The images (0) or the labels (1) of a torchvision data set."""

    def __init__(self, dataset: Any, part: int) -> None:
        self.dataset, self.part = dataset, part

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.part]


def names() -> list[str]:
    """Return the names of the data sets that `open_dataset` reads."""
    from torchvision import datasets

    return ["digits", *sorted(name for name in datasets.__all__ if name[0].isupper())]


def _torchvision(part: Part, name: str, root: Path, split: str, download: bool) -> _ItemParts:
    from torchvision import datasets

    kinds = {known.lower(): getattr(datasets, known) for known in names()[1:]}
    if name.lower() not in kinds:
        raise InputError("data set", "digits, or the name of a torchvision data set", with_nearest(name, names()))
    kind = kinds[name.lower()]
    arguments = kind.__init__.__code__.co_varnames
    options: dict[str, Any] = {"train": split == "train"} if "train" in arguments else {"split": split}
    if download and "download" in arguments:
        options["download"] = True
        if part == "images":
            print(f"latentopt: data set {name}: downloaded to {root} where it is not there", file=sys.stderr)
    try:
        return _ItemParts(kind(str(root), **options), 1 if part == "labels" else 0)
    except Exception as error:  # whatever a broken file does
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        where = f"its files under {root}, or --download true"
        where += f" (--limit {SHIPPED} or less needs neither)" if name.lower() == "mnist" and split == "test" else ""
        raise InputError(f"data set {name}", where, reason.split(". You can use download")[0]) from error
