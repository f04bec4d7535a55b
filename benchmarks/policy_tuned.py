"""Sizes that were best on states of other levels than the benchmark's: `latentopt bench attack-policy --tune`.

By game; of each method its size (`benchmarks.policy_methods`). From CoinRun: 256 states of 64
levels (of the paper's and the authors' forms 128 of 32) at 3/255 and 5/255 with 40 forwards and backwards; FruitBot has
the same.
"""

from __future__ import annotations

_COINRUN = {
    "pgd": "2, margin",
    "apgd": "margin",
    "adr-gd": "0.3, 1, margin",
    "adr-gd-paper": "10, margin",
    "adr-gd-reference": "10, margin",
}
TUNED: dict[str, dict[str, str]] = {"coinrun": _COINRUN, "fruitbot": _COINRUN}
