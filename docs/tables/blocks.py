"""Every block and figure by its name."""

from __future__ import annotations

from tables import (
    actions,
    agents,
    analysis,
    attacks,
    cards,
    dynamics,
    inversion,
    overview,
    policies,
    prose,
    random_networks,
    readme,
    research,
)
from tables.marks import Blocks, Figures

PAGES = (
    actions,
    agents,
    analysis,
    attacks,
    cards,
    dynamics,
    inversion,
    overview,
    policies,
    random_networks,
    readme,
    research,
)
BLOCKS: Blocks = {name: make for page in PAGES for name, make in page.BLOCKS.items()}
FIGURES: Figures = prose.FIGURES
assert len(BLOCKS) == sum(len(page.BLOCKS) for page in PAGES)  # no name is taken twice
