"""Which of its eight settings a method has, by family and network: the best on the seeds of tuning."""

TUNED: dict[tuple[str, str], dict[str, int]] = {}
