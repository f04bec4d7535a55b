"""The blocks of the guides on the command line and on tracking run as they stand, one after the other."""

from __future__ import annotations

import re
import shlex
from contextlib import redirect_stdout

import pytest
from files import ROOT, call
from local_data import local_data

from latentopt.cli.options import parse_job
from latentopt.cli.run import choose_job

GUIDES = ROOT / "docs" / "guides"


def blocks(name: str, language: str) -> list[str]:
    text = (GUIDES / name).read_text(encoding="utf-8")
    each = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for kind, block in each if kind == language]


def lines(name: str, language: str) -> list[list[str]]:
    """The words of each call of latentopt."""
    each = [line.split("  #")[0] for block in blocks(name, language) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in each if line.startswith("latentopt ")]


@pytest.mark.slow
def test_the_guide_on_the_command_line_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LATENTOPT_DATA", str(local_data("mnist").parent))
    monkeypatch.chdir(tmp_path)
    assert len(lines("command-line.md", "bash")) > 10
    for words in lines("command-line.md", "bash"):
        if ">" in words:
            with (tmp_path / words[words.index(">") + 1]).open("w") as file, redirect_stdout(file):
                from latentopt.cli import main

                assert main(words[: words.index(">")]) == 0
        else:
            assert call(capsys, *words).code == 0, words


def test_what_the_guide_shows_and_a_test_cannot_do_parses(capsys):
    shown = lines("command-line.md", "")
    jobs = [words for words in shown if words[0] != "completion"]
    assert len(jobs) == 2
    for words in jobs:
        assert parse_job(*choose_job(words)).resolved()["devices"] in (2, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")
def test_the_guide_on_tracking_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "run", "digits", "--limit", "2", "--steps", "4", "--wandb", "disabled").code == 0
    for block in blocks("tracking.md", "python"):
        exec(block, {})
    assert "4 steps, the best mean loss" in capsys.readouterr().out
    for words in lines("tracking.md", "bash"):
        assert call(capsys, *words).code == 0


def test_links_of_the_guides_lead_somewhere():
    for name in ("command-line.md", "tracking.md"):
        text = (GUIDES / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (GUIDES / target).is_file()
