"""Every figure of README.md and docs, from the results in docs/results.

python docs/figures.py                     rewrite the marked places of README.md and docs in place
python docs/figures.py check               exit with 1 if a page is out of date
python docs/figures.py import RUN NAME     keep a finished run's results as docs/results/NAME.csv and NAME.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tables.blocks import BLOCKS, FIGURES
from tables.imported import imported
from tables.marks import rewritten
from tables.stored import FOLDER

ROOT = Path(__file__).parents[1]


def pages() -> list[Path]:
    """Return all pages that may have marks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def render(check: bool = False) -> list[Path]:
    """Rewrite the pages, or only compare; return the pages that change."""
    changed = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = rewritten(text, BLOCKS, FIGURES)
        if new != text:
            changed.append(page)
            if not check:
                page.write_text(new, encoding="utf-8")
    return changed


def keep(run: Path, name: str, table: str | None, command: list[str] | None, note: str | None) -> None:
    """Store a run's results."""
    rows, how = imported(run, table, command or ())
    if note:
        how["note"] = note
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.csv").write_text(rows.replace("\r\n", "\n"), encoding="utf-8")
    (FOLDER / f"{name}.json").write_text(json.dumps(how, indent=1) + "\n", encoding="utf-8")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job")
    jobs.add_parser("check", help="exit with 1 if a page is out of date")
    importing = jobs.add_parser("import", help="keep a finished run's results")
    importing.add_argument("run", type=Path, help="its folder")
    importing.add_argument("name", help="name of the result")
    importing.add_argument("--table", help="a table of table.md, by its title, instead of the rows")
    importing.add_argument(
        "--command", action="append", help="command, if the folder does not have it; may be repeated"
    )
    importing.add_argument("--note", help="note on the run")
    options = parser.parse_args(words)
    if options.job == "import":
        keep(options.run, options.name, options.table, options.command, options.note)
        return 0
    changed = render(options.job == "check")
    for page in changed:
        print(page.relative_to(ROOT))
    return int(options.job == "check" and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
