"""Sources of a job's images: files, folders, one array or a named data set, read by position."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentopt.errors import InputError, positive, printable
from latentopt.files import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    image_array,
    images_below,
    is_file,
    is_folder,
    is_image_name,
    read_array,
    read_image,
    require_file,
)
from latentopt.zoo import datasets

HELD = ("images", "measurements", "adversarial")
"""Names of the array that is read of several in one file."""
LABELS = "labels.csv"
"""Name of the list of labels in a folder of images."""


@dataclass(frozen=True)
class Source:
    """Images by position; `read` returns an array, (H, W), (H, W, C) or (C, H, W), or raises `InputError`.

    An array file may hold measurements, signals or volumes (N, ...) too.
    """

    names: Sequence[str]  # unique, what a person calls each image
    read: Callable[[int], np.ndarray]
    fingerprint: str  # differs where the images may differ


def open_source(
    targets: Sequence[str],
    root: str | None = None,
    split: str = "test",
    download: bool = False,
    limit: int | None = None,
) -> Source:
    """Find the images that ``targets`` names.

    Args:
        targets: image files (`latentopt.files.read_image`) and folders of images (`list_images`); or one array file
            (``.npy``, ``.npz``, ``.safetensors``, ``.pt``); or one data set's name.
        root, split, download: of a named data set (`latentopt.zoo.datasets.open_dataset`).
        limit: only the first so many.

    Raises:
        InputError: nothing there, or nothing that holds images.
    """
    if limit is not None:
        positive("limit", limit, integer=True)
    return open_files(targets, limit) or _dataset(targets[0], root, split, download, limit)


def open_files(targets: Sequence[str], limit: int | None = None) -> Source | None:
    """Open ``targets`` as `open_source` does, where they are files; None where they are a data set.

    Raises:
        InputError: nothing there, or nothing that holds images.
    """
    if not targets:
        raise InputError("targets", "image files, a folder, an array or a data set's name", "nothing")
    if "" in targets:
        raise InputError("targets", "paths of images", "an empty one")
    first = Path(targets[0])
    if len(targets) == 1 and first.suffix.lower() in ARRAY_SUFFIXES and is_file(first):
        return _array(first, limit)
    if len(targets) == 1 and _is_dataset(targets[0]):
        return None
    files = [file for target in targets for file in list_images(Path(target))]
    if arrays := [path for path in targets if Path(path).suffix.lower() in ARRAY_SUFFIXES and is_file(path)]:
        raise InputError("targets", "one array file alone, or image files", f"{arrays[0]} among {len(targets)}")
    return open_paths(files[:limit])


def check_targets(
    targets: Sequence[str], root: str | None, split: str, download: bool, limit: int | None = None
) -> None:
    """Raise `InputError` where ``targets`` names a data set that is not there."""
    if len(targets) == 1 and _is_dataset(targets[0]):
        datasets.check_dataset(targets[0], root, split, download, limit)
    else:
        require_unused(root, split, download)


def require_unused(root: str | None, split: str, download: bool) -> None:
    """Raise `InputError` where settings of a named data set would be ignored, as the images are files."""
    for name, value, unset in (("root", root, None), ("split", split, "test"), ("download", download, False)):
        if value != unset:
            raise InputError(name, "nothing, as no data set is named", repr(value))


def check_labelled(data: str, root: str | None, split: str, download: bool, limit: int | None = None) -> None:
    """Raise `InputError` unless there is a data set of this name, or a file or folder of this path."""
    if is_dataset(data):
        datasets.check_dataset(data, root, split, download, limit)
    elif data and (is_file(data) or is_folder(data)):
        require_unused(root, split, download)
    else:
        expected = (
            "a data set's name, a folder with a subfolder for each class, or an array file with images and labels"
        )
        raise InputError("data", expected, f"no file {data!r}")


def is_dataset(data: str) -> bool:
    """Return whether labelled data are named; a file or folder comes before all but the names that are known here."""
    return data.lower() in datasets.LOCAL or _is_dataset(data)


def _is_dataset(target: str) -> bool:
    return target.isidentifier() and not is_file(target) and not is_folder(target)


def list_images(path: Path) -> list[tuple[Path, str]]:
    """Return an image file, or those of a folder, in the order of their names.

    A folder without an image of its own is searched with its subfolders. Hidden files and folders are left out.

    Returns:
        Paths, and names: of files, relative to the folder.

    Raises:
        InputError: there is nothing, or a folder has no image.
    """
    if not is_folder(path):
        if not is_file(path):
            raise InputError("targets", "an existing file or folder, or the name of a data set", repr(str(path)))
        return [(path, path.name)]
    files = [file for file in path.iterdir() if is_image_name(file)]
    if not files:
        files = images_below(path)
    if not files:
        raise InputError(str(path), f"a folder with images ({', '.join(IMAGE_SUFFIXES)})", "none in it")
    return [(file, file.relative_to(path).as_posix()) for file in sorted(files)]


def open_paths(files: Sequence[tuple[Path, str]]) -> Source:
    """Return image files, each with its name, as a source.

    Raises:
        InputError: a file is there twice.
    """
    paths, names = [path for path, _ in files], [printable(name) for _, name in files]
    if len(set(names)) < len(names):
        names = [printable(path) for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError("targets", "each file once", f"{twice} twice")

    def read(index: int) -> np.ndarray:
        array = read_image(paths[index])
        return array.transpose(2, 0, 1) if array.ndim == 3 else array

    return Source(names, read, _digest(paths))


def _array(path: Path, limit: int | None) -> Source:
    array = read_array(path, *HELD)
    if array.ndim < 2 or not array.size:
        expected = "images (N, H, W), (N, H, W, C) or (N, C, H, W), or measurements (N, ...)"
        raise InputError(str(path), expected, f"shape {array.shape}")
    return Source(numbered(path, len(array[:limit])), lambda index: np.asarray(array[index]), _digest([path]))


def numbered(path: Path, count: int) -> list[str]:
    """Return the names of the images of an array file."""
    return [f"{printable(path.stem)}-{index:06d}" for index in range(count)]


def _dataset(name: str, root: str | None, split: str, download: bool, limit: int | None) -> Source:
    dataset = datasets.open_dataset(name, root, split, download, limit)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    width = len(str(len(dataset) - 1))
    names = [f"{name.lower()}-{index:0{width}d}" for index in range(count)]

    def read(index: int) -> np.ndarray:
        try:
            return image_array(dataset[index])
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError("image", "a readable image", str(error)) from error

    return Source(names, read, _content(dataset, count))


def _content(dataset: Any, count: int) -> str:
    """One checksum of the first images of a data set: another one may have its name and length."""
    whole = hashlib.sha256()
    for index in range(count):
        try:
            image = np.ascontiguousarray(dataset[index])
        except OSError as error:  # `read` will report this image
            whole.update(str(error).encode())
        else:
            whole.update(f"{image.dtype}{image.shape}".encode() + image.tobytes())
    return whole.hexdigest()[:16]


def _digest(paths: Sequence[Path]) -> str:
    """One checksum of the files' names and what they hold."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(os.fsencode(path.name) + b"\0")
        try:
            with require_file(path).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except (OSError, InputError) as error:  # `read` will report this file
            whole.update(printable(error).encode())
    return whole.hexdigest()[:16]
