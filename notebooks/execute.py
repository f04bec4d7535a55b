"""Execute the notebooks: in full with their outputs kept, or reduced, to see that each still runs.

python notebooks/execute.py            # all, in place
python notebooks/execute.py --quick    # reduced copies in a temporary folder; nothing is kept
python notebooks/execute.py 5 7        # some, by number
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""Of every notebook: nothing in it tells of the machine that ran it."""
QUIET = {
    "WANDB_SILENT": "true",
    "WANDB_MODE": "offline",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore",
}


def chosen(numbers: list[str]) -> list[Path]:
    """The notebooks of these numbers, in order; all without any."""
    paths = sorted(HERE.glob("*.ipynb"))
    return [path for path in paths if not numbers or path.name.split("-")[0] in numbers]


def execute(path: Path, folder: Path, limit: int) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom in ``folder``, each cell for ``limit`` seconds at most.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=limit,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return notebook


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs from run to run: times, and metadata of cells and kernel."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for at, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = nbformat.from_dict({}), f"cell-{at:02d}"
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def main() -> int:
    """Execute what was asked for; the number of notebooks that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", help="of notebooks; default all")
    parser.add_argument(
        "--quick", action="store_true", help="reduced copies, outputs thrown away"
    )
    parser.add_argument("--limit", type=int, default=600, help="seconds a cell may take")
    options = parser.parse_args()
    known = [path.name.split("-")[0] for path in chosen([])]
    if unknown := [number for number in options.numbers if number not in known]:
        parser.error(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    os.environ.update(QUIET, LATENTOPT_QUICK="1" if options.quick else "0")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in chosen(options.numbers):
            begun = time.monotonic()
            try:
                notebook = execute(
                    path, Path(folder) if options.quick else HERE, options.limit
                )
            except CellExecutionError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
                failed += 1
                continue
            if not options.quick:
                nbformat.write(tidied(notebook), path)
            print(f"{path.name}: {time.monotonic() - begun:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
