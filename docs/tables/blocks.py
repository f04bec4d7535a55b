"""Every block and figure by its name."""

from __future__ import annotations

from importlib import import_module

from tables import prose
from tables.marks import Blocks, Figures

NAMES = ("actions", "agents", "analysis", "attacks", "cards", "dynamics", "inversion", "overview", "policies")
PAGES = [import_module(f"tables.{name}") for name in (*NAMES, "noise", "random_networks", "readme", "research")]
BLOCKS: Blocks = {name: make for page in PAGES for name, make in page.BLOCKS.items()}
FIGURES: Figures = prose.FIGURES
assert len(BLOCKS) == sum(len(page.BLOCKS) for page in PAGES)  # no name is taken twice
