"""YAML as plain data, with unique keys and bounded aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from latentopt.errors import InputError, in_one_line
from latentopt.files import require_file

MOST = 100_000
"""Greatest number of values in a file, with each repetition by an alias."""
MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path, expected: str = "YAML") -> Any:
    """Read a YAML file.

    Raises:
        InputError: it cannot be read, is no YAML, has a key twice, or its aliases expand to too many values.
    """
    try:
        return parse_yaml(require_file(path, expected).read_text(encoding="utf-8"))
    except InputError:
        raise
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, OSError) as error:
        raise InputError(str(path), expected, in_one_line(error)[:300]) from error


def parse_yaml(text: str) -> Any:
    """Parse YAML text into strings, numbers, dates, lists and mappings."""
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(yaml.SafeLoader):
    """A `yaml.SafeLoader` that refuses a key that occurs twice."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MOST:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MOST} values", node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set[tuple[str, str]]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if (key.tag, key.value) in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
            keys.add((key.tag, key.value))
        return node


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node, with each repetition by an alias; a node within itself counts as endless."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST + 1  # while its parts are counted: it may be one of them
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
