"""Printed output of the command line: results of jobs, and errors in one line. Printers return the exit code."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from latentopt.errors import printable
from latentopt.files import read_metadata

SKIPPED_SOME = 3
MAX_ROWS = 20
"""Rows of a table of results that are printed."""
NO_TYPE_OF_UNION = r"Does not validate against any .* Subtypes: \[(.*)\] Errors: - (.*?) - .* Given value: (.*)"


def one_line(text: str) -> str:
    """Return the text of an error, a parser's too, without line breaks and the names of Python's types."""
    text = re.sub(r"^Parser key \"([^\"]*)\":", r"\1:", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    text = re.sub(r"Expected an? (?:typing\.)?(.*)\. Got value: ", r"expected \1, got ", text)
    text = " ".join(text.split())
    if union := re.search(NO_TYPE_OF_UNION, text):
        kinds, first, value = union.groups()
        kinds = re.sub(r"(?:typing|collections\.abc|torch)\.|, NoneType", "", kinds)
        text = text[: union.start()] + (first if "class_path" in first else f"expected one of {kinds}, got {value}")
    return printable(text)


def print_reconstruction(result: Any) -> int:
    """Print the table of results, the means, and the files of a reconstruction job."""
    if result.rank:
        return 0
    columns = {"mse": ".5f", "psnr": ".2f", "ssim": ".4f", "loss": ".5f", "forwards": ".0f", "backwards": ".0f"}
    width = max(len(row["name"]) for row in result.rows)
    print(f"{result.compared + 's compared':{width}s} " + "".join(f"{name:>10s}" for name in columns) + "   seconds")
    means = {name: sum(row[name] for row in result.rows) / len(result.rows) for name in [*columns, "seconds"]}
    for row in [*result.rows[:MAX_ROWS], {"name": "mean", **means}]:
        if row["name"] == "mean":
            _print_rest(result.rows)
        figures = "".join(f"{row[name]:>10{form}}" for name, form in columns.items())
        print(f"{row['name']:{width}s} {figures}{row['seconds']:>10.2f}")
    code = _print_skipped(result.skipped)
    print(f"{len(result.rows)} done, {len(result.skipped)} skipped, {result.seconds:.1f} s")
    _print_files(result.files)
    return code


def print_diagnosis(result: Any) -> int:
    """Print a diagnosis."""
    print(result.diagnosis)
    code = _print_skipped(result.skipped)
    _print_files(result.files)
    return code


def print_attack(result: Any) -> int:
    """Print the table of results, the rates, the mean cost, and the files of an attack."""
    if result.rank:
        return 0
    for warning in result.warnings:
        print(f"latentopt: warning: {one_line(warning)}", file=sys.stderr)
    columns = {"index": "d", "label": "d", "clean": "d", "adversarial": "d", "success": "d", "target": "d"}
    columns |= {"margin": ".3f", "loss": ".3f", "distance": ".4f", "forwards": "d", "backwards": "d"}
    _print_rows(result.rows, columns, 12)
    shares = {"clean accuracy": result.rates.clean, "robust accuracy": result.rates.robust}
    for name, share in {**({} if result.targeted else shares), "attack succeeds": result.rates.success}.items():
        low, high = (f"{100 * end:.1f}" for end in share.interval)
        print(f"{name:16s}{100 * share.rate:6.1f} %  [{low}, {high}]  ({share.part} of {share.whole})")
    means = {name: sum(row[name] for row in result.rows) / len(result.rows) for name in columns}
    print(f"mean margin {means['margin']:.3f}, forwards {means['forwards']:.1f}, backwards {means['backwards']:.1f}")
    left_out = f", {result.left_out} of the target's class left out" if result.left_out else ""
    print(f"{len(result.rows)} done{left_out}, {result.seconds:.1f} s")
    _print_files(result.files)
    return 0


def print_policy_attack(result: Any) -> int:
    """Print the returns of each episode, their means, how often the action changed, and the files."""
    from latentopt.statistics import bootstrap

    columns = {"episode": "d", "unattacked_return": ".2f", "attacked_return": ".2f", "changed": ".1%"}
    _print_rows(result.rows, columns, 19)
    for name, values in result.returns.items():
        low, high = bootstrap(values)
        print(f"{name:12s}{values.mean():8.2f}  [{low:.2f}, {high:.2f}]")
    print(f"the action changed in {result.changed:.1%} of the steps; {result.seconds:.1f} s")
    _print_files(result.files)
    return 0


def print_refinement(result: Any) -> int:
    """Print the table of episodes, the mean change, its cost, and the files."""
    columns = {"seed": "d", "plain": ".1f", "refined": ".1f", "difference": ".1f", "gain": ".3f", "steps": "d"}
    columns["refined_steps"] = "d"
    _print_rows(result.rows, columns, 14, all_of_them=True)
    gain = sum(row["gain"] for row in result.rows) / len(result.rows)
    count = len(result.rows)
    error = f" +- {result.error:.1f} in {count} episodes" if count > 1 else " in 1 episode"  # of one there is no error
    print(f"return {result.difference:+.1f}{error}, ", end="")
    print(f"Q {gain:+.3f} a step, {result.milliseconds:.2f} ms of CPU an action, {result.seconds:.1f} s")
    _print_files(result.files)
    return 0


def print_training(result: Any) -> int:
    """Print the table of agents, and the files."""
    columns = {"seed": "d", "end": ".1f", "whole": ".1f", "best": ".1f", "gain": ".3f", "seconds": ".1f"}
    _print_rows(result.rows, columns, 14, all_of_them=True)
    print(f"{len(result.rows)} agent{'s' * (len(result.rows) > 1)}, {result.seconds:.1f} s")
    _print_files(result.files)
    return 0


def print_model(folder: Path) -> int:
    """Print the measured quality of a model."""
    import yaml

    print(f"{folder}: {json.dumps(yaml.safe_load((folder / 'card.yaml').read_text())['quality'])}")
    return 0


def print_encoder(file: Path) -> int:
    """Print the measured quality of a trained encoder."""
    about = json.loads(read_metadata(file)["encoder"])
    print(f"{file}: {json.dumps(about['quality'])}")
    return 0


def print_report(report: Any) -> int:
    """Print the tables of a report, and its files."""
    print(report.markdown)
    for file in report.files:
        print(file)
    return 0


def _print_rows(rows: list[dict[str, Any]], columns: dict[str, str], width: int, all_of_them: bool = False) -> None:
    print("".join(f"{name:>{width}s}" for name in columns))
    for row in rows if all_of_them else rows[:MAX_ROWS]:
        print("".join(f"{row[name]:>{width}{form}}" for name, form in columns.items()))
    if not all_of_them:
        _print_rest(rows)


def _print_rest(rows: list[dict[str, Any]]) -> None:
    if len(rows) > MAX_ROWS:
        print(f"... {len(rows) - MAX_ROWS} more in results.csv")


def _print_skipped(skipped: list[tuple[str, str]]) -> int:
    for name, reason in skipped:
        print(f"skipped {name}: {one_line(reason)}", file=sys.stderr)
    return SKIPPED_SOME if skipped else 0


def _print_files(files: list[Path]) -> None:
    for file in files:
        print(f"  {printable(file)}")
