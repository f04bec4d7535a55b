"""Reinforcement learning: better actions from a critic."""
