"""The benchmarks: each one command, `latentopt bench NAME`, that writes a table, its rows, a plot and how it ran."""
