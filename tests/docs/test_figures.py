"""Every figure in README.md and docs is what docs/results gives."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import parse
from latentopt.cli.options import parse_job
from latentopt.cli.run import choose_job
from latentopt.errors import InputError, LatentOptError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))  # docs/figures.py is a script, docs/tables its package
figures = importlib.import_module("figures")
imported = importlib.import_module("tables.imported")
marks = importlib.import_module("tables.marks")
stored = importlib.import_module("tables.stored")

RESULTS = sorted(path.stem for path in (DOCS / "results").glob("*.json"))
SETTINGS = "settings, not measured"
LOST = "the raw rows were not kept; the page says so, and what gives them again"
EXCEPTIONS = {
    ("docs/agents.md", "| | `RefinementSettings()` | `RefinementSettings.paper()` |"): SETTINGS,
    ("docs/analysis/capped.md", "| | |"): SETTINGS,
    ("docs/analysis/regions.md", "| function | result |"): SETTINGS,
    ("docs/analysis/regions.md", "| 2-16-16-1, 20 networks |"): LOST,
    ("docs/analysis/regions.md", "| steps of length .05 | GD |"): LOST,
    ("docs/benchmarks.md", "| command | what it measures |"): SETTINGS,
    ("docs/benchmarks/actions.md", "| method | batch 1, first |"): LOST,
    ("docs/benchmarks/attacks.md", "| method | what it is |"): SETTINGS,
    ("docs/benchmarks/random-networks.md", "| method | what it is |"): SETTINGS,
    ("docs/api/optimizers.md", "| name | method |"): SETTINGS,
    ("docs/guides/attack.md", "| for | take |"): SETTINGS,
    ("docs/guides/reconstruct.md", "| `latents=` | |"): SETTINGS,
    ("docs/agents.md", "| | may be |"): SETTINGS,
    ("docs/agents.md", "| code | actor | critics | actions that the critics take |"): SETTINGS,
    ("docs/guides/command-line.md", "| code | meaning |"): SETTINGS,
    ("docs/guides/compare.md", "| column | meaning |"): SETTINGS,
    ("docs/guides/command-line.md", "| job | resumes |"): SETTINGS,
    ("docs/guides/maximise.md", "| shape | applies to |"): SETTINGS,
    ("docs/guides/tracking.md", "| key | kind | what it is |"): SETTINGS,
    ("docs/method.md", "| symbol | code | |"): SETTINGS,
    ("docs/networks.md", "| numbers | what happens |"): SETTINGS,
    ("docs/networks.md", "| an agent is | what happens |"): SETTINGS,
    ("docs/method.md", "| task | steps |"): SETTINGS,
    ("docs/method.md", "| | `ADRGD.paper()` |"): SETTINGS,
}
"""Tables with digits that no results file gives: where, how they begin, and why."""


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    """Nothing here needs data."""
    monkeypatch.delenv("LATENTOPT_DATA", raising=False)


def _page(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def again() -> dict[Path, str]:
    """Every page with its figures made again; `stored.USED` then names the results that they took."""
    return {page: marks.rewritten(_page(page), figures.BLOCKS, figures.FIGURES) for page in figures.pages()}


@pytest.mark.parametrize("page", figures.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_making_the_figures_again_changes_nothing(page, again):
    assert again[page] == _page(page)


def test_a_changed_result_changes_the_page_and_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(figures, "pages", lambda: [DOCS / "benchmarks/attacks.md", DOCS / "analysis/dynamics.md"])
    copy = tmp_path / "results"
    shutil.copytree(DOCS / "results", copy)
    name = "attack-references-mnist-pgd"
    text = (copy / f"{name}.csv").read_text(encoding="utf-8")
    (copy / f"{name}.csv").write_text(text.replace("0000000010000000001011001", "1111111111111111111111111"), "utf-8")
    monkeypatch.setattr(stored, "FOLDER", copy)
    stored._load.cache_clear()
    try:
        assert figures.main(["check"]) == 1
        assert capsys.readouterr().out == "docs/benchmarks/attacks.md\n"
    finally:
        stored._load.cache_clear()


def test_every_block_is_on_a_page():
    assert {name for page in figures.pages() for name in marks.names(_page(page))[0]} == set(figures.BLOCKS)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_of_a_sentence_is_one(name):
    assert re.search(r"\d", figures.FIGURES[name]())


def test_a_mark_that_nothing_gives_is_refused():
    with pytest.raises(InputError, match="no-such-table"):
        marks.rewritten("<!-- figures: no-such-table -->\n<!-- end -->", figures.BLOCKS, figures.FIGURES)
    with pytest.raises(InputError, match="no-such-figure"):
        marks.rewritten("so <!--= no-such-figure -->3<!--/-->.", figures.BLOCKS, figures.FIGURES)


def test_no_mark_is_left_open_and_no_line_begins_with_a_figure():
    """At such a line Markdown would end the paragraph."""
    for page in figures.pages():
        text = _page(page)
        blocks, inline = marks.names(text)
        assert len(blocks) == text.count("<!-- figures: ") == text.count("<!-- end -->"), page
        assert len(inline) == text.count("<!--= ") == text.count("<!--/-->"), page
        assert not re.search(r"^\s*(- )?<!--= ", text, re.MULTILINE), page


def test_every_results_file_is_used_and_has_both_halves(again):
    assert again
    assert sorted(stored.USED) == RESULTS
    assert sorted(path.stem for path in (DOCS / "results").glob("*.csv")) == RESULTS


def test_results_are_small_and_name_no_machine():
    files = [path for path in (DOCS / "results").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    for path in files:
        assert not re.search(r"/(tmp|work|home|root|Users)/", path.read_text(encoding="utf-8")), path


def _parsed(command: str) -> dict[str, Any]:
    """What a command gives the job; nothing is run."""
    program, kind, name, *words = shlex.split(command)
    if program == "python":
        assert (kind, name) == ("-m", "benchmarks")
        return parse(words[0], words[1:])[1]
    assert program == "latentopt"
    return vars(parse_job(*choose_job([kind, name, *words])).settings)


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_has_commands_that_parse(name):
    commands = stored.made(name)["commands"]
    assert commands
    for command in commands:
        assert _parsed(command)
        assert "--out" not in command


def test_a_command_that_does_not_parse_is_seen():
    with pytest.raises(LatentOptError):
        _parsed("python -m benchmarks attack --no-such-option 3")


FIGURE = re.compile(r"(?<![\w-])[+-]?\.?\d")


def _tables(text: str) -> Iterator[list[str]]:
    """The tables of a page that lie outside marked blocks and code."""
    text = re.sub(r"```.*?```", "", marks.BLOCK.sub("", text), flags=re.DOTALL)
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            yield lines
            lines = []


def _has_figures(lines: list[str]) -> bool:
    """A digit that is no part of a name, of code, of a link, or of a figure that is marked itself."""
    text = "\n".join(lines)
    for left_out in (marks.INLINE, re.compile(r"`[^`]*`"), re.compile(r"\]\([^)]*\)")):
        text = left_out.sub("", text)
    return FIGURE.search(text) is not None


def _unmarked() -> set[tuple[str, str]]:
    tables = ((str(page.relative_to(ROOT)), table) for page in figures.pages() for table in _tables(_page(page)))
    return {(page, table[0]) for page, table in tables if _has_figures(table)}


def test_every_table_with_figures_is_made_from_results_but_for_the_exceptions():
    unmarked = _unmarked()
    known = {
        (page, head) for page, head in unmarked for of, begins in EXCEPTIONS if page == of and head.startswith(begins)
    }
    assert unmarked == known
    assert all(any(page == of and head.startswith(begins) for page, head in known) for of, begins in EXCEPTIONS)


def test_a_page_with_figures_whose_rows_are_lost_says_so():
    for (page, _), reason in EXCEPTIONS.items():
        if reason == LOST:
            assert "not kept" in " ".join(_page(ROOT / page).split()), page


def test_a_table_typed_by_hand_is_found():
    assert _has_figures(next(_tables("| a |\n|---|\n| `x2` is 3.1 |\n")))
    assert not _has_figures(next(_tables("| a |\n|---|\n| `x2`, L2, ADR-2 |\n")))
    assert list(_tables("<!-- figures: x -->\n\n| a |\n|---|\n| 3 |\n\n<!-- end -->")) == []


def test_a_run_is_imported_and_reads_back(tmp_path, monkeypatch, capsys):
    """A real benchmark's folder: packed, without paths, and the same cells as its rows."""
    from benchmarks.norms import norms

    run, kept = tmp_path / "run", tmp_path / "results"
    norms(quick=True, out=str(run))
    monkeypatch.setattr(figures, "FOLDER", kept)
    monkeypatch.setattr(stored, "FOLDER", kept)
    assert figures.main(["import", str(run), "probe-norms", "--note", "a note"]) == 0
    how = json.loads((kept / "probe-norms.json").read_text(encoding="utf-8"))
    assert str(tmp_path) not in json.dumps(how)
    assert how["note"] == "a note"
    assert _parsed(how["commands"][0])["quick"] is True
    cells = stored._load.__wrapped__("probe-norms")
    rows = imported._rows(run)
    assert len(cells) == len(rows)
    for cell, row in zip(cells, rows, strict=True):
        assert cell["mean_error"] == (pytest.approx(float(row["mean_error"]), rel=1e-5) if row["mean_error"] else "")


def test_samples_are_packed_and_come_back_in_order():
    rows = [{"method": m, "ok": ok, "mse": x} for m in "ab" for ok, x in (("True", "0.5"), ("False", "1.25e-7"))]
    packed = imported._packed(rows, ["ok", "mse"], ["ok"], 6)
    assert packed == [{"method": m, "ok": "10", "mse": "0.5 1.25e-07"} for m in "ab"]
    assert stored._value("mse", packed[0]["mse"], {"mse"}, {"ok"}) == [0.5, 1.25e-7]
    assert stored._value("ok", packed[0]["ok"], {"mse"}, {"ok"}) == [True, False]


def test_episodes_played_so_far_are_imported(tmp_path):
    """As `python -m benchmarks returns` keeps them while it works: before it has written any results."""
    from benchmarks.study import stored as store

    settings = {"agent": "hopper", "critic": "min", "box": 0.25, "steps": 20, "seeds": [0, 1]}
    found = {"returns": [1.0, 2.5], "steps": [10, 20], "gains": [0.0, 0.125], "seconds": 1.5}
    for method in ("none", "adr-gd"):
        store(tmp_path / "played" / f"{method}.json", {**settings, "method": method}, lambda: found)
    text, how = imported.imported(tmp_path)
    assert _parsed(how["commands"][0])["agents"] == "hopper"
    assert text.splitlines()[2] == "hopper,none,min,0.25,1.5,0 1,1 2.5,10 20,0 0.125"


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"environment\.json"):
        imported.imported(tmp_path)
