"""Images of files as arrays, upright, grey or RGB, whatever mode they are stored in."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from latentopt.errors import InputError, printable, warn
from latentopt.files.paths import is_folder, require_file

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
)
_SEVERAL = ("GIF", "TIFF", "WEBP", "PNG")
"""Formats whose further images count; those of a phone's JPEG are previews and depth."""

_warned = set[tuple[str, str]]()
"""Files, and what was said of them: a job reads some twice."""


class FileWarning(UserWarning):
    """A file was read in part: its first page, its colours without transparency, or fewer bits."""


def is_image_name(path: Path) -> bool:
    """Return whether a name in a folder is an image's: it has a known suffix, and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_below(folder: Path, *above: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, in the order of their paths.

    Hidden files and folders are left out. Links are followed, those to a folder above alone are not.

    Args:
        folder: path of the folder.
        above: folders that it was reached through, resolved.

    Raises:
        InputError: a folder cannot be read.
    """
    if (own := folder.resolve()) in above:
        return []
    try:
        entries = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX")
    except OSError as error:
        raise InputError(str(folder), "a folder that can be read", error.strerror) from error
    inner = [images_below(path, own, *above) if is_folder(path) else [path] for path in entries]
    return [path for paths in inner for path in paths if is_image_name(path)]


def read_image(path: Path, strict: bool = False) -> np.ndarray:
    """Read an image file.

    It is turned as its EXIF orientation says. Palettes, CMYK, YCbCr, HSV and LAB become RGB. Transparent pixels are put
    over white. The first of several pages or frames is read.

    Args:
        path: path of the file.
        strict: whether an image is refused of which a part would be left out.

    Returns:
        (H, W) or (H, W, 3): bytes, 16-bit values, booleans or floats.

    Raises:
        InputError: there is no such file, or it is no image that can be read.

    Warns:
        FileWarning: it has several pages, transparent pixels, or 16-bit colours, which are read with 8.
    """
    from PIL import Image, UnidentifiedImageError

    require_file(path, "an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about metadata and large images
            with Image.open(path) as image:
                array, remarks = _pixels(image)
    except InputError as error:
        raise InputError(str(path), error.expected, error.got) from error
    except UnidentifiedImageError:
        raise InputError(str(path), "an image", "a file in no known image format") from None
    except Exception as error:  # whatever a broken file does
        raise InputError(str(path), "a readable image", str(error) or type(error).__name__) from error
    if strict and remarks:
        raise InputError(str(path), "an image of one page, 8 bits a colour and no transparency", remarks[0])
    for remark in remarks:
        _warn_once(path, remark)
    return array


def image_array(item: Any) -> np.ndarray:
    """Return an item of a data set, an image of Pillow or an array, as `read_image` does."""
    return _pixels(item)[0] if hasattr(item, "getexif") else np.asarray(item)


def _pixels(image: Any) -> tuple[np.ndarray, list[str]]:
    """The pixels of an image of Pillow, and what of it was left out."""
    pages = getattr(image, "n_frames", 1) if image.format in _SEVERAL else 1
    deep = image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    bits = getattr(image, "tag_v2", {}).get(258, ())  # of a TIFF's samples
    kind = image.format
    image = _upright(image)
    image, see_through = _over_white(image)
    remarks = {
        f"the first of its {pages} pages is read": pages > 1,
        "its transparent pixels are put over white": see_through,
        "its colours of 16 bits are read with 8": deep,
    }
    array = np.asarray(_grey_or_rgb(image))
    if image.mode.startswith("I"):
        if image.mode == "I" and kind not in ("PNG", "PPM"):  # which have no 32 bits
            raise InputError("image", "8 or 16 bits a pixel", "32")
        array = array.astype(np.uint16)
        array = array / np.float32(4095) if bits == (12,) else array
    return array, [remark for remark, holds in remarks.items() if holds]


def _grey_or_rgb(image: Any) -> Any:
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "F") or image.mode.startswith("I") else image.convert("RGB")


def _over_white(image: Any) -> tuple[Any, bool]:
    """The image without an alpha channel, and whether some pixel was transparent."""
    from PIL import Image

    by_key = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if not by_key and image.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
        return image, False
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] < 255:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB"), True
    if image.mode in ("RGBA", "LA"):
        return image.convert(image.mode[:-1]), False
    return (layer.convert("RGB") if image.mode in ("P", "PA", "RGBa", "La") else image), False


def _upright(image: Any) -> Any:
    """The image, turned and mirrored as its EXIF orientation says; one that cannot be read is ignored."""
    from PIL import ImageOps

    image.load()  # what is wrong with the pixels is found here
    try:
        return ImageOps.exif_transpose(image)
    except (struct.error, SyntaxError, TypeError, ValueError, OSError, KeyError, IndexError):
        return image


def _warn_once(path: Path, remark: str) -> None:
    """Issue a `FileWarning`, once for each file."""
    if (str(path), remark) in _warned:
        return
    _warned.add((str(path), remark))
    warn(f"{printable(path.name)}: {remark}", FileWarning)
