"""Reinforcement learning: better actions from a critic, attacks on policies."""
