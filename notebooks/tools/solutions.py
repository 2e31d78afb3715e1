"""Copies of a notebook without its solutions, for students, or with them put in, to prove them.

Exercises are three cells in a row, tagged `exercise`, `check` and `solution`; all else stays.
Run: python notebooks/tools/solutions.py --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

SOURCES = Path(__file__).parent.parent


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def strip_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy without the cells tagged `solution`."""
    copy = deepcopy(notebook)
    copy.cells = [cell for cell in copy.cells if not has_tag(cell, "solution")]
    return copy


def solve(notebook: NotebookNode) -> NotebookNode:
    """A copy in which each exercise holds its solution.

    Raises:
        ValueError: If an exercise is not followed by its check and its solution.
    """
    copy = deepcopy(notebook)
    for i, cell in enumerate(copy.cells):
        if has_tag(cell, "exercise"):
            after = zip(copy.cells[i + 1 : i + 3], ("check", "solution"), strict=False)
            if [has_tag(*pair) for pair in after] != [True, True]:
                raise ValueError(
                    f"the exercise in cell {i} must be followed by check and solution."
                )
            cell.source = copy.cells[i + 2].source
    return strip_solutions(copy)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the notebooks without their solutions.")
    parser.add_argument("--out", required=True, type=Path, help="folder for students' notebooks")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(SOURCES.glob("[0-9]*.ipynb")):
        nbformat.write(strip_solutions(nbformat.read(source, as_version=4)), out / source.name)
    print(f"students' notebooks written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
