"""The tables and figures of README.md and docs: one small function for each, from the results in docs/results."""
