"""`latentopt compare RUN RUN ...`: finished runs side by side."""

from __future__ import annotations

from latentopt.errors import InputError
from latentopt.jobs.experiment import expanded_folder
from latentopt.jobs.runs import compare_runs
from latentopt.reports import PLOT, ROWS, TABLE


def compare(folders: list[str], words: list[str]) -> int:
    """Print the comparison of runs, and with --out write it; return the exit code.

    Args:
        folders: of the runs.
        words: the options.

    Raises:
        InputError: a folder holds no run, an option is not known, or files would be replaced.
    """
    out = None
    if words:
        option, separator, value = words[0].partition("=")
        values = [value] if separator else words[1:]
        if option != "--out" or len(values) != 1 or len(words) > 2 or not values[0].strip():
            raise InputError("compare", "folders of runs, and --out FOLDER", " ".join(words))
        out = expanded_folder("--out", values[0])
    comparison = compare_runs(*folders)
    if out is not None and (existing := [out / name for name in (ROWS, TABLE, PLOT) if (out / name).exists()]):
        raise InputError("--out", "a folder without a table or a plot", existing[0])
    files = [] if out is None else comparison.save(out)
    print(comparison.markdown())
    for file in files:
        print(f"  {file}")
    return 0
