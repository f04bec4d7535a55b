"""Sizes by critic and box, one for all agents, chosen on states of episodes of seeds from 1000 on, at equal CPU time.

By ``latentopt bench actions --tune --states 64 --milliseconds 0.7 --exact 0``: the greatest mean over the agents of the
gain's share of the best one.
"""

from __future__ import annotations

TUNED: dict[tuple[str, float], dict[str, float]] = {
    ("first", 0.25): {
        "gradient ascent": 0.3,
        "normalised ascent": 1.0,
        "pgd": 0.3,
        "adam": 1.0,
        "adr-gd": 1.0,
        "adr-gd-paper": 1.0,
        "adr-gd-reference": 1.0,
        "multi-start adam": 1.0,
        "multi-start pgd": 1.0,
        "multi-start adr-gd": 1.0,
        "cem": 1.0,
        "cma-es": 0.5,
    },
    ("first", 1.0): {
        "gradient ascent": 0.1,
        "normalised ascent": 1.0,
        "pgd": 1.0,
        "adam": 0.3,
        "adr-gd": 0.3,
        "adr-gd-paper": 1.0,
        "adr-gd-reference": 0.3,
        "multi-start adam": 0.3,
        "multi-start pgd": 1.0,
        "multi-start adr-gd": 0.3,
        "cem": 1.0,
        "cma-es": 0.3,
    },
    ("min", 0.25): {
        "gradient ascent": 0.1,
        "normalised ascent": 1.0,
        "pgd": 1.0,
        "adam": 0.3,
        "adr-gd": 1.0,
        "adr-gd-paper": 1.0,
        "adr-gd-reference": 1.0,
        "multi-start adam": 1.0,
        "multi-start pgd": 1.0,
        "multi-start adr-gd": 1.0,
        "cem": 1.0,
        "cma-es": 1.0,
    },
    ("min", 1.0): {
        "gradient ascent": 0.1,
        "normalised ascent": 1.0,
        "pgd": 1.0,
        "adam": 0.3,
        "adr-gd": 0.3,
        "adr-gd-paper": 0.3,
        "adr-gd-reference": 0.3,
        "multi-start adam": 0.3,
        "multi-start pgd": 1.0,
        "multi-start adr-gd": 1.0,
        "cem": 1.0,
        "cma-es": 0.3,
    },
}
