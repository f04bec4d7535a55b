"""Shipped recipes and models: listed and shown; recipes are copied, and read by name or file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentopt.errors import InputError, with_nearest
from latentopt.files import is_file
from latentopt.zoo.strict_yaml import read_yaml


def read_recipe(name: str) -> dict[str, Any]:
    path = path_of(name)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(str(path), "a recipe: keys and values", type(content).__name__)
    if content.get("job") in ("reconstruct", "diagnose") and not isinstance(content.get("targets") or [], list):
        raise InputError(f"{path}: targets", "a list", repr(content["targets"]))
    return content


def path_of(name: str) -> Path:
    from latentopt.zoo.paths import shipped_folder

    return named_file("recipe", name, shipped_folder("recipes"))


def named_file(kind: str, name: str, folder: Path) -> Path:
    """Return the YAML file of a name in a folder, or else the file of this path.

    Raises:
        InputError: there is neither.
    """
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if name not in known and not is_file(name):
        raise InputError(kind, f"a file, or one of {', '.join(sorted(known))}", with_nearest(name, known))
    return known.get(name, Path(name))


def recipes(words: list[str]) -> int:
    from latentopt.zoo.paths import shipped_folder

    match words:
        case ["list"]:
            for path in sorted(shipped_folder("recipes").glob("*.yaml"), key=lambda path: path.stem):
                print(f"{path.stem:24s} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        case ["show", name]:
            print(path_of(name).read_text(encoding="utf-8"), end="")
        case ["copy", name, file]:
            _copy(path_of(name), Path(file))
        case _:
            raise InputError("recipes", "list, show NAME or copy NAME FILE", _got(words, "list", "show", "copy"))
    return 0


def _got(words: list[str], *known: str) -> str:
    return with_nearest(words[0], known) if words and words[0] not in known else " ".join(words) or "nothing"


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        raise InputError(str(target), "a new file", "an existing one")
    if not target.parent.is_dir():
        raise InputError(str(target.parent), "an existing folder", "none")
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    print(target)


def models(words: list[str]) -> int:
    from latentopt.zoo import card

    match words:
        case ["list"]:
            for name in card.names():
                print(f"{name:20s} {card.read_card(name).summary}")
        case ["show", name]:
            print((card.find(name) / card.CARD).read_text(encoding="utf-8"), end="")
        case _:
            raise InputError("models", "list or show NAME", _got(words, "list", "show"))
    return 0
