"""Copies of the notebooks: without solutions, with them put in, or as an assignment for nbgrader.

Exercises are three cells in a row, tagged `exercise` (with its kind), `check` and `solution`. What
a solution has below the line `# hidden test` is for the grader alone.
Run: python notebooks/tools/solutions.py --out FOLDER [--as students|solutions|assignment]
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

SOURCES = Path(__file__).parent.parent
POINTS = {"read": 1, "change": 2, "invent": 3}  # by kind of exercise
ASSIGNMENT = "dmtg"  # its name in nbgrader
CONFIG = """import os

os.environ.setdefault("DMTG_HEADLESS", "1")  # nobody is there to press Start
c = get_config()
c.CourseDirectory.course_id = "dmtg_lite"
c.ClearSolutions.code_stub = {"python": ""}  # what stands open is above each solution already
c.ExecutePreprocessor.timeout = 300  # seconds a cell
"""


class Exercise(NamedTuple):
    """One exercise of a notebook: its number ("1.2"), its kind and its three cells."""

    number: str
    kind: str
    open: NotebookNode
    check: NotebookNode
    solution: NotebookNode

    @property
    def solved(self) -> str:
        return self.solution.source.partition("\n# hidden test\n")[0].rstrip()

    @property
    def hidden(self) -> str:
        return self.solution.source.partition("\n# hidden test\n")[2]


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def list_exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a notebook, in order; their cells are the notebook's own.

    Raises:
        ValueError: If an exercise has no kind, or is not followed by its check and its solution.
    """
    found = []
    for i, cell in enumerate(notebook.cells):
        if has_tag(cell, "exercise"):
            after = notebook.cells[i + 1 : i + 3]
            if [has_tag(*pair) for pair in zip(after, ("check", "solution"))] != [True, True]:  # noqa: B905
                raise ValueError(
                    f"the exercise in cell {i} must be followed by check and solution."
                )
            kinds = [kind for kind in POINTS if has_tag(cell, kind)]
            if len(kinds) != 1:
                raise ValueError(f"the exercise in cell {i} must be tagged one of {list(POINTS)}.")
            number = find_check(after[0]).args[0]
            found.append(Exercise(ast.literal_eval(number), kinds[0], cell, *after))
    return found


def find_check(cell: NotebookNode) -> ast.Call:
    """The call ``check("1.2", ...)`` that a check cell ends with.

    Raises:
        ValueError: If it ends otherwise.
    """
    last = ast.parse(cell.source).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "check"):
        raise ValueError(f'a check cell must end with check("1.2", ...), not {cell.source!r}.')
    return call


def strip_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy without the cells tagged `solution`."""
    copy = deepcopy(notebook)
    copy.cells = [cell for cell in copy.cells if not has_tag(cell, "solution")]
    return copy


def solve(notebook: NotebookNode) -> NotebookNode:
    """A copy in which each exercise holds its solution: the key for a teacher."""
    copy = deepcopy(notebook)
    for exercise in list_exercises(copy):
        exercise.open.source = exercise.solved
    return strip_solutions(copy)


def make_assignment(notebook: NotebookNode) -> NotebookNode:
    """A copy as nbgrader's source: solutions between marks, checks that give points, both hidden.

    The student's copy that nbgrader makes of it is open; setup and checks are locked.
    """
    copy = deepcopy(notebook)
    for i, cell in enumerate(copy.cells):
        if has_tag(cell, "setup"):
            _mark(cell, f"setup-{i}", locked=True)
    for exercise in list_exercises(copy):
        name = exercise.number.replace(".", "-")
        solved, lines = exercise.solved, exercise.check.source.splitlines()
        exercise.open.source += f"\n### BEGIN SOLUTION\n{solved}\n### END SOLUTION"
        _mark(exercise.open, f"exercise-{name}", solution=True)
        points = POINTS[exercise.kind]
        first = find_check(exercise.check).lineno - 1
        lines[first] = f"{points} * {lines[first]}"  # what a cell ends with is its grade
        hidden = ["### BEGIN HIDDEN TESTS", exercise.hidden, "### END HIDDEN TESTS"]
        exercise.check.source = "\n".join(hidden * bool(exercise.hidden) + lines)
        _mark(exercise.check, f"check-{name}", grade=True, locked=True, points=points)
    return strip_solutions(copy)


def _mark(cell: NotebookNode, name: str, **what: bool | int) -> None:
    """Nbgrader's own metadata, version 3."""
    kind = {"grade": False, "solution": False, "locked": False, "task": False, **what}
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, "cell_type": "code", **kind}


def write_copies(
    change: Callable[[NotebookNode], NotebookNode], out: Path, only: Sequence[str] = ()
) -> None:
    """Each notebook (or those whose names begin so) as changed, and the pictures beside it."""
    copytree(SOURCES / "img", out / "img", dirs_exist_ok=True)
    for source in sorted(SOURCES.glob("[0-9]*.ipynb")):
        if not only or source.name.startswith(tuple(only)):
            nbformat.write(change(nbformat.read(source, as_version=4)), out / source.name)


def nbgrader(folder: Path, *arguments: str) -> None:
    """One of nbgrader's commands, in the folder of the course.

    Raises:
        SystemExit: If it fails or is not installed; it has said why.
    """
    here = Path(sys.executable).parent  # where nbgrader looks for alembic, which it calls by name
    environment = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment)
    if done.returncode:
        sys.exit(f'nbgrader {arguments[0]} failed. Missing? pip install "dmtg-lite[grade]"')


def write_assignment(out: Path, only: Sequence[str] = ()) -> None:
    """A course for nbgrader: ``source/`` with solutions is the teacher's, ``release/`` for all."""
    (out / "source").mkdir(parents=True, exist_ok=True)
    (out / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    write_copies(make_assignment, out / "source" / ASSIGNMENT, only)
    nbgrader(out, "generate_assignment", ASSIGNMENT, "--force", "--log-level=WARN")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write copies of the notebooks.")
    parser.add_argument("--out", required=True, type=Path, help="folder for them")
    kinds = ("students", "solutions", "assignment")
    parser.add_argument("--as", dest="kind", choices=kinds, default=kinds[0], help="which copies")
    told = parser.parse_args(arguments)
    if told.kind == "assignment":
        write_assignment(told.out)
    else:
        change = strip_solutions if told.kind == "students" else solve
        write_copies(change, told.out)
    print(f"{told.kind}: notebooks written to {told.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
