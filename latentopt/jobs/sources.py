"""Sources of a job's images: files, folders, one array or a named data set, read by position."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentopt.errors import InputError, positive
from latentopt.zoo import datasets

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Source:
    """Images by position; `read` returns an array, (H, W), (H, W, C) or (C, H, W), or raises `InputError`."""

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
        targets: image files (turned as their EXIF orientation says) and folders of images; or one ``.npy`` or
            ``.npz`` array; or one data set's name.
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
    first = Path(targets[0])
    if len(targets) == 1 and first.suffix in (".npy", ".npz") and _is(Path.is_file, first):
        return _array(first, limit)
    if len(targets) == 1 and targets[0].isidentifier() and not _is(Path.exists, first):
        return None
    return _files([file for target in targets for file in _listed(Path(target))][:limit])


def check_targets(targets: Sequence[str], root: str | None, split: str, download: bool) -> None:
    """Raise `InputError` where ``targets`` names a data set that is not there."""
    if len(targets) == 1 and targets[0].isidentifier() and not _is(Path.exists, Path(targets[0])):
        datasets.check_dataset(targets[0], root, split, download)


def check_labelled(data: str, root: str | None, split: str, download: bool) -> None:
    """Raise `InputError` unless there is a data set of this name, or a file of this path."""
    if data.isidentifier():
        datasets.check_dataset(data, root, split, download)
    elif not _is(Path.is_file, Path(data)):
        raise InputError("data", "a data set's name, or an .npz file with images and labels", f"no file {data}")


def _is(test: Callable[[Path], bool], path: Path) -> bool:
    try:
        return test(path)
    except OSError:  # a name no file can have
        return False


def _listed(path: Path) -> list[Path]:
    if _is(Path.is_dir, path):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(str(path), f"a folder with images ({', '.join(IMAGE_SUFFIXES)})", "none in it")
        return files
    if not _is(Path.is_file, path):
        raise InputError("targets", "an existing file or folder, or the name of a data set", repr(str(path)))
    return [path]


def _files(paths: list[Path]) -> Source:
    def read(index: int) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(paths[index]) as image:
                return _pixels(datasets.upright(image))
        except UnidentifiedImageError:
            raise InputError(str(paths[index]), "an image", "a file in no known image format") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(str(paths[index]), "a readable image", str(error)) from error

    short = [path.name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise InputError("targets", "each file once", "a file named twice")
    return Source(names, read, _digest(paths))


def _pixels(image: Any) -> np.ndarray:
    if image.mode in ("1", "P"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA", "PA"):
        alpha = np.asarray(image.getchannel("A"))
        if alpha.min() < 255:
            raise InputError("image", "no transparent pixels", "some that are")
        image = image.convert(image.mode[:-1])
    if image.mode == "I" and image.format != "PNG":  # PNG has no 32 bits
        raise InputError("image", "8 or 16 bits a pixel", "32")
    array = np.asarray(image)
    if array.ndim == 3:
        return array.transpose(2, 0, 1)
    return array.astype(np.uint16) if image.mode.startswith("I") else array


def _array(path: Path, limit: int | None) -> Source:
    try:
        array = _load(path)
    except KeyError as error:
        raise InputError(str(path), "one array, or one named images", "several, none of that name") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(str(path), "a NumPy file of numbers", str(error).splitlines()[0]) from error
    if array.ndim not in (3, 4) or not len(array):
        raise InputError(str(path), "images (N, H, W), (N, H, W, C) or (N, C, H, W)", f"shape {array.shape}")
    count = len(array[:limit])
    names = [f"{path.stem}-{index:06d}" for index in range(count)]
    return Source(names, lambda index: np.asarray(array[index]), _digest([path]))


def _dataset(name: str, root: str | None, split: str, download: bool, limit: int | None) -> Source:
    dataset = datasets.open_dataset(name, root, split, download)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    width = len(str(len(dataset) - 1))
    names = [f"{name.lower()}-{index:0{width}d}" for index in range(count)]
    return Source(names, lambda index: np.asarray(datasets.upright(dataset[index])), _content(dataset, count))


def _load(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        file.seek(0)
        several = np.load(file, allow_pickle=False)
        if isinstance(several, np.ndarray):
            raise ValueError("pickled data")
        return several[several.files[0] if len(several.files) == 1 else "images"]


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
        whole.update(f"{path.name}\0".encode())
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:  # `read` will report this file
            whole.update(str(error).encode())
    return whole.hexdigest()[:16]
