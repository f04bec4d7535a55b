"""Text, table, picture and file of a result, the same for every kind of result."""

from __future__ import annotations

import html
import json
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum, IntEnum
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import cpu_tensor
from latentopt.errors import InputError, LatentOptError
from latentopt.files import is_folder, require_file, writing
from latentopt.io import write_atomically
from latentopt.pictures import tile, to_bytes
from latentopt.reports import PLOT, ROWS, TABLE, Row, csv_text, figure_bytes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

R = TypeVar("R", bound="SavedResult")
MAX_SHOWN = 16
"""Number of samples in a picture, the first ones."""
MAX_SIDE = 128
"""Pixels of a side of an image in a picture; larger images are thinned out."""


class ResultDisplay:
    """Short text, table and picture of a result, a dataclass that is declared with ``repr=False``."""

    @property
    def rows(self) -> list[Row]:
        """One row for each sample, of the fields that hold one number for each."""
        return [{"sample": sample, **row} for sample, row in enumerate(rows_of(columns_of(self)))]

    def summary(self) -> Any:
        """Return the number of samples, and the mean of each column of `rows`, by name."""
        columns = columns_of(self)
        means = {name: float(column.double().mean()) for name, column in columns.items()}
        return {"samples": len(next(iter(columns.values()))), **means} if columns else {}

    def _draw(self, figure: Figure) -> None:
        curves = {name: t for name, t in columns_of(self).items() if t.is_floating_point()}
        draw_sorted(figure.subplots(), curves, next(iter(curves)) if len(curves) == 1 else "value")

    def to_pandas(self) -> Any:
        """Return `rows` as a ``pandas.DataFrame``.

        Raises:
            LatentOptError: pandas is not installed.
        """
        try:
            pandas: Any = import_module("pandas")
        except ModuleNotFoundError as error:
            raise LatentOptError("to_pandas needs pandas: pip install pandas") from error
        return pandas.DataFrame(self.rows)

    @checked
    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the result; images are those of the first 16 samples.

        Args:
            path: PNG file to write; None: none.

        Returns:
            The figure of matplotlib.

        Raises:
            InputError: the file cannot be written there.
        """
        if path is not None and (is_folder(path) or not is_folder(Path(path).parent)):
            raise InputError("path", "a file in an existing folder", str(path))
        if path is not None and Path(path).suffix.lower() not in ("", ".png"):
            raise InputError("path", "a file that ends in .png (the figure's savefig writes others)", str(path))
        figure = new_figure()
        self._draw(figure)
        if path is not None:
            with writing("path", path, "a file"):
                write_atomically(Path(path), figure_bytes(figure))
        return figure

    def __repr__(self) -> str:
        figures = ", ".join(f"{name}={_short(value)}" for name, value in self.summary().items())
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors_of(self).items())
        lines = fill(shapes, 118, initial_indent="  ", subsequent_indent="  ")
        return f"{type(self).__name__}({figures})\n{lines}".rstrip()

    def _repr_html_(self) -> str:
        """Text and picture for notebooks."""
        text = f"<pre>{html.escape(repr(self))}</pre>"
        try:
            png = b64encode(figure_bytes(self.plot(), dpi=80)).decode()
        except Exception:  # a picture must not keep a result from being shown
            return text
        return f'{text}<img alt="plot" src="data:image/png;base64,{png}">'


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class SavedResult(ResultDisplay):
    """A result that can be written to a safetensors file."""

    @checked
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the result to a safetensors file, from which `load` returns it exactly.

        Args:
            path: path of the file, in an existing folder.
            overwrite: whether an existing file is replaced.

        Raises:
            InputError: the file exists and ``overwrite`` is not set, or its folder does not.
        """
        from safetensors.torch import save

        path = Path(path)
        if is_folder(path):
            raise InputError(str(path), "a new file", "a folder")
        if not is_folder(path.parent):
            raise InputError(str(path.parent), "an existing folder", "none")
        if os.path.lexists(path) and not overwrite:
            raise InputError(str(path), "a new file, or overwrite=True", "an existing one")
        tensors, texts = _packed(self)
        separate = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        with writing("path", path, "a file"):
            write_atomically(path, save(separate, {"class": type(self).__name__, **texts}))

    @classmethod
    @checked
    def load(cls, path: str | Path) -> Self:
        """Return a result that `save` wrote.

        Args:
            path: path of the file.

        Raises:
            InputError: there is no such file, or `save` of such a result did not write it.
        """
        from safetensors import SafetensorError, safe_open

        require_file(path)
        try:
            with safe_open(path, "pt") as file:
                tensors, texts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
            if "job" in texts:
                raise ValueError("a job's: lo.read_run(folder).tensor returns its tensor")
            if texts.get("class", cls.__name__) != cls.__name__:
                raise ValueError(f"of {texts['class']}")
            return _unpacked(cls, tensors, texts)
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(str(path), f"a {cls.__name__} saved by latentopt", f"another file ({error})") from error


class SavedTables(ResultDisplay):
    """A result whose files are a table in Markdown, its rows as CSV, and its plot."""

    def markdown(self) -> str:
        """Return the tables in Markdown."""
        raise NotImplementedError

    def csv(self) -> str:
        """Return `rows` as CSV."""
        return csv_text(self.rows)

    @checked
    def save(self, folder: str | Path, overwrite: bool = False) -> list[Path]:
        """Write ``results.csv``, ``table.md`` and ``plot.png``.

        Args:
            folder: where to; it is made if it does not exist.
            overwrite: replace an earlier comparison there.

        Returns:
            The files.

        Raises:
            InputError: the folder holds one of them, and `overwrite` is not set, or it cannot be written.
        """
        files = [Path(folder) / name for name in (ROWS, TABLE, PLOT)]
        existing = [path for path in files if path.exists()]
        if existing and not overwrite:
            raise InputError("folder", "one without a comparison, or overwrite=True", f"{existing[0]}")
        with writing("folder", folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
        contents = self.csv().encode(), self.markdown().encode(), figure_bytes(self.plot())
        for path, content in zip(files, contents, strict=True):
            write_atomically(path, content)
        return files


def tensors_of(result: Any) -> dict[str, Tensor]:
    """Return the tensors and arrays of a result by the names of their fields, those of a mapping as ``field/key``."""
    tensors = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor | np.ndarray):
            tensors[field.name] = value
        elif isinstance(value, Mapping):
            tensors |= {f"{field.name}/{key}": t for key, t in value.items() if isinstance(t, Tensor)}
    return tensors


def rows_of(columns: Mapping[str, Tensor | np.ndarray]) -> list[Row]:
    """Return the rows of a table with these columns (n,)."""
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def columns_of(result: Any) -> dict[str, Tensor]:
    """Return the fields (B,) of a result by name."""
    vectors = {name: cpu_tensor(t).detach() for name, t in tensors_of(result).items() if t.ndim == 1}
    size = len(next(iter(vectors.values()), ()))
    return {name: t for name, t in vectors.items() if len(t) == size}


def _packed(result: Any, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a result, and its other fields as JSON, by the names of the fields behind a prefix."""
    found, hints = tensors_of(result), get_type_hints(type(result))
    tensors = {prefix + name: cpu_tensor(t) for name, t in found.items()}
    texts = {prefix + name: json.dumps("array") for name, t in found.items() if isinstance(t, np.ndarray)}
    for field in fields(result):
        name, value = field.name, getattr(result, field.name)
        if isinstance(value, SavedResult):
            inner = _packed(value, f"{prefix}{name}/")
            tensors, texts = tensors | inner[0], texts | inner[1]
        elif _codes(hints[name]):
            tensors[prefix + name] = torch.tensor(value, device="cpu")
        elif not any(key.split("/")[0] == name for key in found):
            texts[prefix + name] = json.dumps(value.name if isinstance(value, Enum) else value)
    return tensors, texts


def _unpacked(cls: type[R], tensors: Mapping[str, Tensor], texts: Mapping[str, str], prefix: str = "") -> R:
    """Return a result of what `_packed` made of it."""
    values = {}
    for name, hint in get_type_hints(cls).items():
        key, kinds = prefix + name, [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, SavedResult)), None)
        below = {k.removeprefix(f"{key}/"): t for k, t in tensors.items() if k.startswith(f"{key}/")}
        if inner is not None and below:
            values[name] = _unpacked(inner, tensors, texts, f"{key}/")
        elif codes := _codes(hint):
            values[name] = tuple(codes(code) for code in tensors[key].tolist())
        elif key in tensors:
            values[name] = tensors[key].numpy() if key in texts else tensors[key]
        elif get_origin(hint) in (dict, Mapping) and (below or key not in texts):
            values[name] = below
        elif key in texts:
            value = json.loads(texts[key])
            enum = next((kind for kind in kinds if issubclass(kind, Enum)), None)
            values[name] = enum[value] if enum else tuple(value) if get_origin(hint) is tuple else value
    return cls(**values)


def _codes(hint: Any) -> type[IntEnum] | None:
    """Return the enumeration of a field that is a tuple of its members."""
    kind = get_args(hint)[0] if get_origin(hint) is tuple else None
    return kind if isinstance(kind, type) and issubclass(kind, IntEnum) else None


def draw_images(axes: Axes, columns: Mapping[str, Tensor]) -> None:
    """Draw the first images of each title side by side.

    Args:
        axes: empty ones.
        columns: title to images (B, C, H, W) in [0, 1], C 1 or 3.
    """
    images = [to_bytes(thinned(column[:MAX_SHOWN])) for column in columns.values()]
    per_row = min(4 if len(images) == 1 else 2, len(images[0]))
    axes.imshow(tile(images, per_row=per_row))
    axes.set_axis_off()
    axes.set_title(" | ".join(columns), fontsize=9)


def is_image(x: Tensor) -> bool:
    """Return whether ``x`` (B, *shape) are images of one or three channels."""
    return x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[0] > 0 and x.is_floating_point()


def thinned(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) of at most `MAX_SIDE` pixels a side, by leaving pixels out."""
    step = -(-max(images.shape[-2:]) // MAX_SIDE)
    return images[..., ::step, ::step]


def draw_shares(axes: Axes, shares: Mapping[str, float], label: str) -> None:
    """Draw a bar for each share, from top to bottom."""
    axes.barh(list(shares), list(shares.values()))
    axes.set(xlim=(0, 1), xlabel=label)
    axes.invert_yaxis()


def draw_sorted(axes: Axes, curves: Mapping[str, Tensor], label: str) -> None:
    """Draw the values (N,) of each name in rising order, on a logarithmic axis where all are positive."""
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values.detach().cpu().double().sort().values, "o-", ms=3, label=name)
    positive = all(bool((values > 0).all()) for values in curves.values())
    axes.set(xlabel="sample, sorted", ylabel=label, yscale="log" if positive else "linear")
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend()
