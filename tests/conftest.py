"""Property tests take few examples, the same ones in every run."""

from hypothesis import settings

settings.register_profile("latentopt", max_examples=25, deadline=None, database=None, derandomize=True)
settings.load_profile("latentopt")
