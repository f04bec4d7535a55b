"""What a job prints when it is done."""

from __future__ import annotations

import sys
from typing import Any

from latentopt.cli.said import one_line
from latentopt.statistics import bootstrap


def print_report(report: Any, most: int = 20) -> None:
    """The table of results, the mean, and what was written."""
    columns = {"mse": ".5f", "psnr": ".2f", "ssim": ".4f", "loss": ".5f", "forwards": ".0f", "backwards": ".0f"}
    width = max(len(row["name"]) for row in report.rows)
    print(f"{report.compared + 's compared':{width}s} " + "".join(f"{name:>10s}" for name in columns) + "   seconds")
    means = {name: sum(row[name] for row in report.rows) / len(report.rows) for name in [*columns, "seconds"]}
    for row in [*report.rows[:most], {"name": "mean", **means}]:
        if row["name"] == "mean" and len(report.rows) > most:
            print(f"... {len(report.rows) - most} more in results.csv")
        figures = "".join(f"{row[name]:>10{form}}" for name, form in columns.items())
        print(f"{row['name']:{width}s} {figures}{row['seconds']:>10.2f}")
    print_skipped(report.skipped)
    print(f"{len(report.rows)} done, {len(report.skipped)} skipped, {report.seconds:.1f} s")
    for file in report.files:
        print(f"  {file}")


def print_skipped(skipped: list[tuple[str, str]]) -> None:
    for name, reason in skipped:
        print(f"skipped {name}: {one_line(reason)}", file=sys.stderr)


def print_attack(report: Any, most: int = 20) -> None:
    """The table of results, the rates, the mean cost, and what was written."""
    columns = {"index": "d", "label": "d", "clean": "d", "adversarial": "d", "success": "d", "target": "d"}
    columns |= {"margin": ".3f", "loss": ".3f", "distance": ".4f", "forwards": "d", "backwards": "d"}
    print("".join(f"{name:>12s}" for name in columns))
    for row in report.rows[:most]:
        print("".join(f"{row[name]:>12{form}}" for name, form in columns.items()))
    if len(report.rows) > most:
        print(f"... {len(report.rows) - most} more in results.csv")
    shares = {"clean accuracy": report.rates.clean, "robust accuracy": report.rates.robust}
    for name, share in {**({} if report.targeted else shares), "attack succeeds": report.rates.success}.items():
        low, high = (f"{100 * end:.1f}" for end in share.interval)
        print(f"{name:16s}{100 * share.rate:6.1f} %  [{low}, {high}]  ({share.part} of {share.whole})")
    means = {name: sum(row[name] for row in report.rows) / len(report.rows) for name in columns}
    print(f"mean margin {means['margin']:.3f}, forwards {means['forwards']:.1f}, backwards {means['backwards']:.1f}")
    left_out = f", {report.left_out} of the target's class left out" if report.left_out else ""
    print(f"{len(report.rows)} done{left_out}, {report.seconds:.1f} s")
    for file in report.files:
        print(f"  {file}")


def print_policy(report: Any, most: int = 20) -> None:
    """The returns of each episode, their means, how often the action changed, and what was written."""
    columns = {"episode": "d", "unattacked_return": ".2f", "attacked_return": ".2f", "changed": ".1%"}
    print("".join(f"{name:>19s}" for name in columns))
    for row in report.rows[:most]:
        print("".join(f"{row[name]:>19{form}}" for name, form in columns.items()))
    if len(report.rows) > most:
        print(f"... {len(report.rows) - most} more in results.csv")
    for name, values in report.returns.items():
        low, high = bootstrap(values)
        print(f"{name:12s}{values.mean():8.2f}  [{low:.2f}, {high:.2f}]")
    print(f"the action changed in {report.changed:.1%} of the steps; {report.seconds:.1f} s")
    _print_files(report)


def print_refined(report: Any) -> None:
    """The table of episodes, the mean change, its cost, and what was written."""
    columns = {"seed": "d", "plain": ".1f", "refined": ".1f", "difference": ".1f", "gain": ".3f", "steps": "d"}
    columns["refined_steps"] = "d"
    _print_rows(report.rows, columns)
    gain = sum(row["gain"] for row in report.rows) / len(report.rows)
    print(f"return {report.difference:+.1f} +- {report.error:.1f} in {len(report.rows)} episodes, ", end="")
    print(f"Q {gain:+.3f} a step, {report.milliseconds:.2f} ms of CPU an action, {report.seconds:.1f} s")
    _print_files(report)


def print_trained(report: Any) -> None:
    """The table of agents, and what was written."""
    _print_rows(
        report.rows, {"seed": "d", "end": ".1f", "whole": ".1f", "best": ".1f", "gain": ".3f", "seconds": ".1f"}
    )
    print(f"{len(report.rows)} agents, {report.seconds:.1f} s")
    _print_files(report)


def _print_rows(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    print("".join(f"{name:>14s}" for name in columns))
    for row in rows:
        print("".join(f"{row[name]:>14{form}}" for name, form in columns.items()))


def _print_files(report: Any) -> None:
    for file in report.files:
        print(f"  {file}")
