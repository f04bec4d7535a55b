"""Sizes that were best on images that the benchmark does not use: `latentopt bench attack --tune`.

By data set; of each method its size (`latentopt.bench.attack_methods`).
"""

from __future__ import annotations

TUNED: dict[str, dict[str, float]] = {}
