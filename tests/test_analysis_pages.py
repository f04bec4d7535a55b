"""The page on capped ReLUs runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.filterwarnings("ignore:gradients:latentopt.AttackWarning")
def test_the_python_of_the_page_on_capped_relus_runs(capsys):
    text = (DOCS / "analysis/capped.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["found"].failure == "masked gradients"
    assert names["capped"](names["x"]).shape == (20, 10)


def test_the_pages_link_to_files_that_are_there():
    for page in [*DOCS.glob("*.md"), *DOCS.glob("*/*.md")]:
        named = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
        assert [name for name in named if not (page.parent / name).is_file()] == [], page
