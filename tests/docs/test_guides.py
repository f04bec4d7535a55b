"""The commands of the guides on the command line and on tracking run as they stand, one after the other."""

from __future__ import annotations

import shlex
from contextlib import redirect_stdout

import pytest
from documents import DOCS, blocks
from files import call
from local_data import local_data

from latentopt.cli import main
from latentopt.cli.options import parse_job
from latentopt.cli.run import choose_job


def lines(name: str, language: str) -> list[list[str]]:
    """The words of each call of latentopt in the blocks of a guide."""
    texts = [block.text for block in blocks(DOCS / "guides" / name) if block.language == language]
    commands = [line.split("  #")[0] for text in texts for line in text.splitlines()]
    return [shlex.split(command)[1:] for command in commands if command.startswith("latentopt ")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*trajectory.gif:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "count"), [("command-line.md", 11), ("tracking.md", 1)])
def test_the_commands_of_a_guide_run(tmp_path, monkeypatch, capsys, name, count):
    monkeypatch.setenv("LATENTOPT_DATA", str(local_data("mnist").parent))
    monkeypatch.chdir(tmp_path)
    if name == "tracking.md":
        assert call(capsys, "run", "digits", "--limit", "2", "--steps", "4", "--wandb", "disabled").code == 0
    assert len(lines(name, "bash")) >= count
    for words in lines(name, "bash"):
        if ">" in words:
            with (tmp_path / words[words.index(">") + 1]).open("w") as file, redirect_stdout(file):
                assert main(words[: words.index(">")]) == 0
        else:
            assert call(capsys, *words).code == 0, words


def test_what_the_guide_shows_and_a_test_cannot_do_parses():
    jobs = [words for words in lines("command-line.md", "") if words[0] != "completion"]
    assert len(jobs) == 2
    for words in jobs:
        assert parse_job(*choose_job(words)).resolved()["devices"] in (2, 4)
