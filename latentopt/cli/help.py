"""Help that teaches by examples."""

from __future__ import annotations

from latentopt.cli.registry import COMMANDS, JOBS

ASKED = ("-h", "--help")
EXAMPLES = (
    "latentopt run digits",
    "latentopt reconstruct --model mnist-vae --targets my/*.png --resize --out runs/mine",
    "latentopt attack --model mnist-cnn-robust --data mnist --eps 0.2 --limit 100",
    "latentopt diagnose --model mnist-vae --targets mnist --limit 16",
    "latentopt recipes copy digits mine.yaml && latentopt run mine.yaml --optimizer adam",
    "latentopt run digits --steps 50 --dry-run",
    "latentopt doctor",
)
END = """\
latentopt COMMAND --help has a command's options and more examples; latentopt --version tells the version.
Every job takes --dry-run: it checks the input, prints the whole recipe, and does nothing.
Exit codes: 0 all done; 1 stopped by the system (a full disk, say), the same command goes on; 2 bad input, nothing done;
3 done, but some targets were skipped.
"""


def general() -> str:
    """Return the text of `latentopt --help`."""
    lines = [_line(name, command.takes, command.summary) for name, command in COMMANDS.items()]
    return (
        "usage: latentopt COMMAND ...\n\n"
        "Optimise the input of frozen, pretrained piecewise-linear networks.\n\n"
        f"commands:\n{''.join(lines)}\n{examples(EXAMPLES)}\n{END}"
    )


def _line(name: str, takes: str, summary: str) -> str:
    """A command and what it does, below it where it is long."""
    word = f"{name} {takes}".rstrip()
    return f"  {word:22s} {summary}\n" if len(word) <= 22 else f"  {word}\n  {'':22s} {summary}\n"


def examples(lines: tuple[str, ...]) -> str:
    """The part of a help that shows examples."""
    return "examples:\n" + "".join(f"  {line}\n" for line in lines)


def page(name: str) -> str:
    """The help of a command that has no options of its own, or takes a name first."""
    command = COMMANDS[name]
    begun = f"usage: latentopt {name} {command.takes}{' [options]' if command.takes in ('NAME', 'RECIPE') else ''}\n\n"
    summary = f"{command.summary[0].upper()}{command.summary[1:]}.\n\n"
    jobs = [job for job in JOBS.values() if command.group and job.words.startswith(f"{command.group} ")]
    named = "".join(_line(job.words.split()[1], "", job.summary) for job in jobs)
    parts = [begun, summary, f"{named}\n" if named else "", examples(command.examples)]
    return "".join(parts) + (f"\n{command.more}\n" if command.more else "")
