from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 700_000
PRIVATE = re.compile(r"(?:^|[\s'\"(=])(?:/tmp|/root|/home|/work|/Users)\b|root@|https?://|[A-Z]:\\\\", re.MULTILINE)
NOISE = re.compile(r"Warning|wandb:|it/s|\d+%\|", re.MULTILINE)


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def notebook(path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode) -> str:
    """All text of a cell's outputs."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", ""))
        parts += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(parts)


def test_there_are_nine_in_order():
    assert [int(path.stem.split("-")[0]) for path in PATHS] == list(range(1, 10))


def test_each_is_valid_and_of_moderate_size(notebook, path):
    nbformat.validate(notebook)
    assert path.stat().st_size < LARGEST


def test_the_first_cell_has_its_number_and_says_what_it_shows(notebook, path):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {path.stem.split('-')[0]}. ")
    assert len(first.source.split()) > 40


def test_every_cell_parses_and_was_executed_from_top_to_bottom_without_errors(notebook):
    for number, cell in enumerate(code(notebook), 1):
        ast.parse(cell.source)
        assert cell.execution_count == number
        assert not [output.evalue for output in cell.outputs if output.output_type == "error"]
        assert not [output.text for output in cell.outputs if output.get("name") == "stderr"]


def test_outputs_tell_nothing_of_the_machine_and_no_progress(notebook):
    for cell in code(notebook):
        assert not PRIVATE.search(shown(cell)), shown(cell)
        assert not NOISE.search(shown(cell)), shown(cell)


def test_it_shows_pictures(notebook):
    kinds = [kind for cell in code(notebook) for output in cell.outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 1


def test_it_is_a_tracked_run_and_has_a_reduced_form(notebook, path):
    source = "\n".join(cell.source for cell in code(notebook))
    assert f'"runs/notebooks/{path.stem}"' in source
    assert "lo.Track(" in source or "Tracker(" in source or 'wandb="offline"' in source
    assert 'os.environ.get("LATENTOPT_QUICK")' in code(notebook)[0].source


@pytest.mark.slow
def test_it_runs_in_its_reduced_form(path):
    done = executed("--quick", path.stem.split("-")[0])
    assert done.returncode == 0, done.stderr
    assert f"{path.name}: " in done.stdout


def test_a_number_that_is_none_is_refused():
    done = executed("--quick", "99")
    assert done.returncode == 2
    assert "99" in done.stderr


def executed(*words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(FOLDER / "execute.py"), *words],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
