"""Step sizes by generator, chosen on other images by ``latentopt bench reconstruct --tune``."""

TUNED: dict[str, dict[str, float]] = {}
