"""Import a finished run into docs/results, without unneeded columns and machine paths."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.study import ENVIRONMENT
from latentopt.errors import InputError
from latentopt.reports import ROWS, TABLE, Row, csv_text


class Layout(NamedTuple):
    """Layout of a command's stored rows."""

    packed: Sequence[str] = ()  # numbers per sample: one row per cell, with the samples' values separated by spaces
    bits: Sequence[str] = ()  # the same for successes: one digit per sample
    dropped: Sequence[str] = ()
    digits: int = 6  # significant, of floats


HELD = ("held_first-order", "held_region-exact")
COSINES = ("cosine_first-order", "cosine_eigen", "cosine_region-exact")
LAYOUTS: Mapping[str, Layout] = {
    "random-nets": Layout(("network", "value", "best_known"), (), ("optimizer",), digits=9),
    "attack": Layout(
        (), ("clean_error", "success"), ("label", "image", "inside", "margin", "loss", "distance", "backwards")
    ),
    "attack-policy": Layout(("return",), ("success",), ("case", "steps")),
    "reconstruct": Layout(
        ("mse", "recovered_at", "forwards", "backwards"), (), ("target", "psnr", "ssim", "name", "loss", "status")
    ),
    "duel": Layout(("seed", "problem", "by_seconds", "by_passes"), (), ("optimizer",)),
    "compressed-sensing": Layout(("mse",), (), ("image",)),
    "phase-retrieval": Layout(("mse",), (), ("image",)),
    "blind-deblur": Layout(("width", "mse", "width_error"), (), ("image",)),
    "nonlinear": Layout(("mse",), (), ("image",)),
    "posterior": Layout(
        (
            *(f"{of}_{level}" for of in ("latents", "pixels") for level in ("0.5", "0.9", "0.95")),
            *("r_hat", "ess"),
        ),
        (),
        ("image",),
        digits=4,
    ),
    "poisson": Layout(("mse",), (), ("image",)),
    "style-spaces": Layout(("mse",), (), ("image",)),
    "decoders": Layout(("psnr", "seconds", "until", "until_best"), (), ("image", "evaluations")),
    "actions": Layout(("gain", "held_out"), (), ("state", "before", "best", "forwards", "backwards")),
    "returns": Layout(("seed", "return", "steps", "gain")),
    "train-rl": Layout((), (), ("low", "high")),
    "analyze-dynamics": Layout((), (), ("label", "length", "loss", *HELD, *COSINES)),
    "analyze-regions": Layout(("step", "flips", "crossings", "objective")),
}
NOT_KEPT = ("job", "out", "wandb", "root", "overwrite", "device", "download")
HOW = ("versions", "cpu", "cores", "threads", "load_before", "load_after", "seconds")


def imported(folder: Path, title: str | None = None, command: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Return the CSV and the JSON of a run.

    Args:
        folder: with results.csv and environment.json or recipe.yaml; or with what `python -m benchmarks returns` has
            played so far.
        command: the commands, where the folder does not tell them.
        title: of a table in table.md, taken as it is instead of the rows: for figures that rows do not hold.

    Raises:
        InputError: the folder has none of these.
    """
    how = _how(folder, command)
    if title is not None:
        how.pop("kind")
        return csv_text(_of_table(folder / TABLE, title)), {**how, "table": title}
    rows, layout = _rows(folder), LAYOUTS.get(how.pop("kind"), Layout())
    packed = [{key: value for key, value in row.items() if key not in layout.dropped} for row in rows]
    columns = [name for name in (*layout.packed, *layout.bits) if any(name in row for row in packed)]
    bits = [name for name in columns if name in layout.bits]
    how |= {"packed": [name for name in columns if name not in bits], "bits": bits}
    how["dropped"] = [name for name in layout.dropped if name in rows[0]]
    return csv_text(_packed(packed, columns, bits, layout.digits)), how


def _packed(rows: Sequence[Row], columns: Sequence[str], bits: Sequence[str], digits: int) -> list[Row]:
    """Merge rows into one per cell, with its samples' values side by side."""
    cells: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = tuple(value for name, value in row.items() if name not in columns)
        fresh = {name: [] if name in columns else _short(value, digits) for name, value in row.items()}
        cell = cells.setdefault(key, fresh)
        for name in columns:
            cell[name].append(row[name])
    for cell in cells.values():
        for name in columns:
            cell[name] = _together(cell[name], name in bits, digits)
    return list(cells.values())


def _together(values: Sequence[str], bits: bool, digits: int) -> str:
    if not any(values):
        return ""
    if bits:
        return "".join(str(int(value in ("True", "1"))) for value in values)
    return " ".join(_short(value, digits) or "-" for value in values)


def _short(text: str, digits: int) -> str:
    """Round floats to ``digits`` significant digits; return other text unchanged."""
    if re.fullmatch(r"-?(\d*\.\d+(e[+-]?\d+)?|\d+e[+-]?\d+)", text):
        return f"{float(text):.{digits}g}"
    return text


def _how(folder: Path, command: Sequence[str]) -> dict[str, Any]:
    if command:
        recipe = folder / "recipe.yaml"
        kind = yaml.safe_load(recipe.read_text(encoding="utf-8"))["job"] if recipe.is_file() else _kind(command[0])
        return {"kind": kind, "commands": list(command)}
    if (folder / ENVIRONMENT).is_file():
        content = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        kind = content["command"].split()[3]
        return {"kind": kind, "commands": [_command(f"python -m benchmarks {kind}", content["settings"])]} | {
            k: content[k] for k in HOW
        }
    if (folder / "recipe.yaml").is_file():
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        name = recipe["job"].replace("-", " ", 1) if recipe["job"].startswith("analyze") else recipe["job"]
        return {"kind": recipe["job"], "commands": [_command(f"latentopt {name}", recipe)]}
    if (folder / "played").is_dir():
        content = [json.loads(path.read_text(encoding="utf-8"))["settings"] for path in _played(folder)]
        return {"kind": "returns", "commands": _playing(content), "versions": content[0]["versions"]}
    raise InputError("folder", f"{ENVIRONMENT}, recipe.yaml or played/ in it", str(folder))


def _kind(command: str) -> str:
    """The study of ``python -m benchmarks NAME ...``, or the job of ``latentopt KIND NAME ...``."""
    words = command.split()
    return words[3] if words[0] == "python" else words[2]


def _command(name: str, settings: Mapping[str, Any]) -> str:
    """Return the command line without its output folder, and with input paths relative to the data folder."""
    words = name.split()
    for key, value in settings.items():
        if key in NOT_KEPT or value is None or value is False or value == "":
            continue
        if isinstance(value, dict | list):
            raise InputError("recipe", f"scalars, or the command by --command (of {key})", type(value).__name__)
        text = re.sub(r"^/.*/(?=rl_sb3/)", "", str(value))
        words += [f"--{key.replace('_', '-')}", *([] if value is True else [shlex.quote(text)])]
    return " ".join(words)


def _played(folder: Path) -> list[Path]:
    return sorted((folder / "played").glob("*.json"))


def _playing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the commands of these cells: one for each method, critic and box, with its agents."""
    agents: dict[str, list[str]] = {}
    for one in settings:
        if one["method"] != "none":
            words = f"--methods {one['method']} --critics {one['critic']} --radii {one['box']:g} --steps {one['steps']}"
            words += f" --episodes {len(one['seeds'])} --seed {one['seeds'][0]}"
            agents.setdefault(words, []).append(one["agent"])
    return [f"python -m benchmarks returns --agents {','.join(names)} {words}" for words, names in agents.items()]


def _rows(folder: Path) -> list[dict[str, str]]:
    if (folder / "played").is_dir():
        return [row for path in _played(folder) for row in _episodes(json.loads(path.read_text(encoding="utf-8")))]
    with (folder / ROWS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _episodes(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of a cell as `python -m benchmarks returns` writes them."""
    settings, returns = content["settings"], content["found"]
    common = {name: settings[name] for name in ("agent", "method", "critic", "box")}
    common["seconds"] = round(returns["seconds"], 3)
    episodes = zip(settings["seeds"], returns["returns"], returns["steps"], returns["gains"], strict=True)
    rows = [{**common, "seed": s, "return": float(r), "steps": int(n), "gain": float(g)} for s, r, n, g in episodes]
    return [{key: str(value) for key, value in row.items()} for row in rows]


def _of_table(path: Path, title: str) -> list[Row]:
    """Return the rows of a table in a report."""
    text = path.read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    if title not in sections:
        raise InputError("table", f"one of {', '.join(sections)}", title)
    lines = [line for line in sections[title].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
