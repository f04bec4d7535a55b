"""The loop that runs every method, its state, its checkpoint and its result."""

from latentopt.solver import callbacks

__all__ = ["callbacks"]
