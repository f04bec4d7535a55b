"""Sizes by critic and box, chosen on other states, of episodes of seeds from 1000 on, at equal CPU time.

By ``latentopt bench actions --tune``: the greatest mean of the gains over the best gain of each agent.
"""

TUNED: dict[tuple[str, float], dict[str, float]] = {}
