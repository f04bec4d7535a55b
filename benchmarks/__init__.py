"""Studies behind docs/results: `python -m benchmarks NAME` writes a table, its rows, a plot and how it ran."""
