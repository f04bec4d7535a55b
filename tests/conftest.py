"""Property tests take few examples, the same ones in every run; all is done on one thread, as the tensors are small."""

import gc
import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start
os.environ["LATENTOPT_CACHE"] = tempfile.mkdtemp()

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("latentopt", max_examples=25, deadline=None, database=None, derandomize=True)
settings.load_profile("latentopt")


def pytest_collection_finish() -> None:
    """Keep what is imported and collected, which stays to the end, out of every garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()
