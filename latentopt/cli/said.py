"""What went wrong, in one line."""

from __future__ import annotations

import re

NONE_OF_A_UNION = r"Does not validate against any .* Subtypes: \[(.*)\] Errors: - (.*?) - .* Given value: (.*)"


def one_line(text: str) -> str:
    """The text of an error, a parser's too, without line breaks and the names of Python's types."""
    text = re.sub(r"^Parser key \"([^\"]*)\":", r"\1:", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    text = re.sub(r"Expected an? (?:typing\.)?(.*)\. Got value: ", r"expected \1, got ", text)
    text = " ".join(text.split())
    if found := re.search(NONE_OF_A_UNION, text):
        kinds, first, value = found.groups()
        kinds = re.sub(r"(?:typing|collections\.abc|torch)\.|, NoneType", "", kinds)
        said = first if "class_path" in first else f"expected one of {kinds}, got {value}"
        text = text[: found.start()] + said
    return text
