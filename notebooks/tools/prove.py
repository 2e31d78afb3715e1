"""Proof that the assignment is graded rightly: nbgrader grades three copies handed in.

`solved` gets every point, `open` none; `half` has every second exercise solved and the others
wrong. Minutes a notebook; needs the extra `grade`.
Run: python notebooks/tools/prove.py --out FOLDER [01 02 ...]
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import nbformat
from solutions import (
    ASSIGNMENT,
    POINTS,
    SOURCES,
    Exercise,
    find_check,
    list_exercises,
    nbgrader,
    write_assignment,
)

Answers = dict[str, dict[str, str]]  # notebook -> exercise ("1.2") -> what the student wrote
Scores = dict[str, dict[str, float]]  # notebook -> exercise -> points


def hand_in(out: Path, student: str, answers: Answers) -> None:
    """Write a student's folder: the released notebooks, open but for these exercises."""
    folder = out / "submitted" / student / ASSIGNMENT
    folder.mkdir(parents=True, exist_ok=True)
    for released in sorted((out / "release" / ASSIGNMENT).glob("*.ipynb")):
        notebook = nbformat.read(released, as_version=4)
        for cell in notebook.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
            number = name.removeprefix("exercise-").replace("-", ".")
            cell.source = answers.get(released.stem, {}).get(number, cell.source)
        nbformat.write(notebook, folder / released.name)


def read_scores(out: Path) -> dict[str, Scores]:
    """What nbgrader's autograde gave: points by student."""
    from nbgrader.utils import determine_grade, is_grade

    scores: dict[str, Scores] = {}
    for graded in sorted((out / "autograded").glob(f"*/{ASSIGNMENT}/*.ipynb")):
        own = scores.setdefault(graded.parts[-3], {}).setdefault(graded.stem, {})
        for cell in filter(is_grade, nbformat.read(graded, as_version=4).cells):
            name = cell.metadata.nbgrader.grade_id
            own[name.removeprefix("check-").replace("-", ".")], _ = determine_grade(cell)
    return scores


def spoil(exercise: Exercise) -> str:
    """The solution, and then something else in its place."""
    answer = find_check(exercise.check).args[1]
    names = {node.id for node in ast.walk(answer) if isinstance(node, ast.Name)}
    made = ast.walk(ast.parse(exercise.solved))
    made = {getattr(node, "id", None) or getattr(node, "name", None) for node in made}
    return "\n".join([exercise.solved, *(f"{name} = 'wrong'" for name in sorted(names & made))])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prove that an assignment is graded rightly.")
    parser.add_argument("--out", required=True, type=Path, help="a new folder")
    parser.add_argument("only", nargs="*", help="notebooks: 01 02 ... (default: all)")
    told = parser.parse_args(arguments)
    write_assignment(told.out, told.only)
    solved, half, points = {}, {}, {}
    for released in sorted((told.out / "release" / ASSIGNMENT).glob("*.ipynb")):
        found = list_exercises(nbformat.read(SOURCES / released.name, as_version=4))
        solved[released.stem] = {one.number: one.solved for one in found}
        half[released.stem] = {one.number: spoil(one) for one in found[1::2]}
        half[released.stem] |= {one.number: one.solved for one in found[::2]}
        points[released.stem] = [POINTS[one.kind] for one in found]
    for student, answers in (("solved", solved), ("open", {}), ("half", half)):
        hand_in(told.out, student, answers)
    nbgrader(told.out, "autograde", ASSIGNMENT, "--create", "--force", "--log-level=ERROR")
    wanted = {"solved": (1, 1), "open": (0, 0), "half": (1, 0)}
    failures = 0
    for student, scores in read_scores(told.out).items():
        for notebook, own in scores.items():
            first, second = wanted[student]
            right = [p * (second if n % 2 else first) for n, p in enumerate(points[notebook])]
            is_right = list(own.values()) == right
            failures += not is_right
            print(f"{student:7}{notebook:26}{own}{'' if is_right else f' WRONG, not {right}'}")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
