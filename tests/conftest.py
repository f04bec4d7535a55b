"""Property tests take few, fixed examples and leave nothing on disk."""

from hypothesis import settings

settings.register_profile("latentopt", max_examples=25, deadline=None, database=None, derandomize=True)
settings.load_profile("latentopt")
