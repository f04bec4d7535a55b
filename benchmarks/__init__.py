"""Studies behind docs/results: `python -m benchmarks NAME` writes a table, its rows, a plot and the environment."""
