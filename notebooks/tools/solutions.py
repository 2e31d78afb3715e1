"""Copies of a notebook without its solutions, for students, or with them in place, to prove they
work.

Exercises are three cells in a row, tagged `exercise`, `check` and `solution`; everything else
stays.
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
    kinds = [
        {"exercise", "check", "solution"} & set(cell.metadata.get("tags", ()))
        for cell in copy.cells
    ]
    for i, kind in enumerate(kinds):
        if kind == {"exercise"}:
            if kinds[i + 1 : i + 3] != [{"check"}, {"solution"}]:
                raise ValueError(
                    f"after the exercise in cell {i} must come its check and its solution."
                )
            copy.cells[i].source = copy.cells[i + 2].source
    return strip_solutions(copy)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Write the notebooks without their solutions, in seconds."
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for the students' notebooks"
    )
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(SOURCES.glob("[0-9]*.ipynb")):
        nbformat.write(strip_solutions(nbformat.read(source, as_version=4)), out / source.name)
    print(f"students' notebooks written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
