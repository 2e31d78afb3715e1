"""The course runs: every notebook from top to bottom its exercises open, and then solved.

What a notebook looks like (length, tags, one live view) is checked without running it.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from dmtg_lite import course

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
LIVE_VIEWS = {"Dashboard", "Playground", "TauExplorer"}

_tool = ROOT / "notebooks" / "tools" / "solutions.py"
_spec = importlib.util.spec_from_file_location("solutions", _tool)
solutions = importlib.util.module_from_spec(_spec)
sys.modules["solutions"] = solutions  # where its classes look for themselves
_spec.loader.exec_module(solutions)

each_notebook = pytest.mark.parametrize(  # in one process each, so that none is run twice
    "path", [pytest.param(p, id=p.stem, marks=pytest.mark.xdist_group(p.stem)) for p in NOTEBOOKS]
)
PUBLIC = {"", *("." + name for name in "course data encoders experiments methods views".split())}


@cache
def read(path: Path) -> NotebookNode:
    """The same object for all tests: whoever changes it takes a copy. Without the picture that a
    tool puts at the top."""
    notebook = jupytext.read(path)
    notebook.cells = [cell for cell in notebook.cells if not solutions.has_tag(cell, "picture")]
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def list_constants(tree: ast.AST) -> set[str]:
    return {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def prose_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def printed(cells: list[NotebookNode], tag: str | None = None) -> list[str]:
    """What each code cell (with a tag) printed."""
    cells = [cell for cell in cells if tag is None or solutions.has_tag(cell, tag)]
    return ["".join(o.text for o in cell.outputs if o.output_type == "stream") for cell in cells]


@cache
def run_all(path: Path, folder: Path) -> list[NotebookNode]:
    """Run all cells as a student does, in a folder of its own, with nobody to press Start.

    An exercise and its check run open, then the solution and the check again, tagged `solved`, then
    the open exercise once more: what follows runs without it.
    """
    leave_out = shutil.ignore_patterns("prepared", ".*", "*.ipynb")
    shutil.copytree(ROOT / "notebooks", folder, ignore=leave_out, dirs_exist_ok=True)
    notebook, cells = deepcopy(read(path)), []
    for cell in notebook.cells:
        if solutions.has_tag(cell, "solution"):
            exercise, check = cells[-2:]
            again = nbformat.v4.new_code_cell(check.source, metadata={"tags": ["solved"]})
            cells += [cell, again, nbformat.v4.new_code_cell(exercise.source)]
        else:
            cells.append(cell)
    notebook.cells = cells
    client = NotebookClient(
        notebook,
        timeout=300,  # seconds a cell: half a minute is long, but a machine may be busy
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    start = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMTG_HEADLESS", "1")
        patch.delenv("DMTG_CELEBA", raising=False)
        patch.delenv("DMTG_TASKONOMY", raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))
        client.execute()  # raises at the first cell that fails
    print(f"{time.perf_counter() - start:.0f} s")
    return code_cells(notebook)


@pytest.fixture(scope="session")  # not "module": other modules' tests may come in between
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[NotebookNode]]:
    """`run_all` by a notebook's name, once for all tests."""
    folder = tmp_path_factory.mktemp("notebooks")
    return lambda stem: run_all(ROOT / "notebooks" / f"{stem}.py", folder / stem)


@pytest.mark.slow
@pytest.mark.timeout(900)
@each_notebook
def test_run_all_works_and_the_solutions_are_right(path: Path, run) -> None:
    """With the exercises open no error, no warning, and each check says that its exercise is open.
    With its solution, every check says correct."""
    cells = run(path.stem)
    said = [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    # some tasks of real data are not learned, or not in the few steps of a class: it says so
    complaints = [one for one in said if "UnlearnedWarning" not in one.text]
    assert said or path.stem != "09_your_tasks"
    assert not complaints, complaints
    still_open = "is still open; the rest of the notebook runs without it"
    assert all(still_open in text for text in printed(cells, "check"))
    checks = printed(cells, "solved")
    assert checks, "a notebook has at least one exercise"
    assert all("correct" in text for text in checks), checks


@each_notebook
def test_nothing_but_its_check_reads_an_exercise(path: Path) -> None:
    """So the cells after a solved exercise are those that ran after the open one."""
    cells = code_cells(solutions.strip_solutions(read(path)))

    def names(cell: NotebookNode, context: type) -> set[str]:
        nodes = list(ast.walk(ast.parse(cell.source)))
        found = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
        return found | {n.name for n in nodes if isinstance(n, ast.FunctionDef)}

    for i, cell in enumerate(cells):
        if solutions.has_tag(cell, "exercise"):
            for other in cells[i + 2 :]:
                assert not names(cell, ast.Store) & names(other, ast.Load), other.source


@pytest.mark.slow
@pytest.mark.xdist_group("03_celeba9")
def test_the_notebook_on_celeba_says_that_its_faces_are_fake(run) -> None:
    """Without prepared images, it says FAKE where it loads them, NOT COMPARABLE at the table."""
    said = "".join(printed(run("03_celeba9")))
    assert "FAKE, NOT CelebA" in said
    assert "NOT COMPARABLE with the paper" in said


@pytest.mark.slow
@pytest.mark.xdist_group("04_taskonomy5")
def test_the_notebook_on_taskonomy_says_that_its_rooms_are_drawn(run) -> None:
    """It says so where it makes them, before any number."""
    assert "".join(printed(run("04_taskonomy5"))).startswith("DRAWN ROOMS, NOT TASKONOMY")


def test_run_all_never_starts_days_of_training() -> None:
    """The paper's run on Taskonomy waits until somebody says that it is meant in earnest."""
    notebook = read(ROOT / "notebooks" / "04_taskonomy5.py")
    (cell,) = [c.source for c in code_cells(notebook) if "PAPER[" in c.source]
    assert cell.startswith("in_earnest = False")
    assert "if in_earnest and prepared and torch.cuda.is_available():" in cell


@each_notebook
def test_a_notebook_is_short_and_in_small_pieces(path: Path) -> None:
    """25 to 45 cells (notebook 0 may be shorter), 12 lines of code or 80 words of prose in one.

    The picture at the top is none of them.
    Nothing is wider than a screen: 100 columns, in prose too.
    """
    notebook, words = read(path), re.compile(r"\w[\w'-]*")
    n_cells = len([cell for cell in notebook.cells if not solutions.has_tag(cell, "picture")])
    assert (15 if path.stem.startswith("00") else 25) <= n_cells <= 45
    assert not [c.source for c in code_cells(notebook) if len(c.source.splitlines()) > 12]
    assert not [c.source for c in prose_cells(notebook) if len(words.findall(c.source)) > 80]
    assert not [line for line in path.read_text("utf-8").splitlines() if len(line) > 100]


@each_notebook
def test_a_notebook_has_the_rhythm(path: Path) -> None:
    """A question first, predictions and things to notice, three skills and a link at the end."""
    prose = [cell.source for cell in prose_cells(read(path))]
    assert "**Question.**" in prose[0]
    assert sum("Predict" in text for text in prose) >= 1
    assert sum("What to notice" in text for text in prose) >= 2
    skills, _, rest = prose[-1].partition("**Next:**")
    assert "You can now" in skills
    assert skills.count("\n- ") == 3
    assert rest


@each_notebook
def test_exercises_are_numbered_and_of_three_kinds(path: Path) -> None:
    """Read, change and invent, each at least once; heading, tag and check say the same number and
    kind. Exercise, check and solution come in this order, and solutions start folded."""
    notebook = read(path)
    prose = "\n".join(cell.source for cell in prose_cells(notebook))
    told = re.findall(r"### Exercise (\d+\.\d+) · (\w+)$", prose, re.MULTILINE)
    found = solutions.list_exercises(notebook)  # raises if one of the three cells is missing
    assert told == [(exercise.number, exercise.kind) for exercise in found]
    number, first = (int(part) for part in told[0][0].split("."))
    assert (number, first > 1) == (int(path.stem[:2]), path.stem[2] == "b")  # 8b goes on after 8
    assert [one for one, _ in told] == [f"{number}.{first + n}" for n in range(len(told))]
    assert {kind for _, kind in told} == set(solutions.POINTS)
    for cell in code_cells(notebook):
        if solutions.has_tag(cell, "solution"):
            assert cell.metadata["jupyter"]["source_hidden"]


@each_notebook
def test_a_check_does_not_hold_its_answer(path: Path) -> None:
    """No name and no number of two digits or more that the solution consists of."""
    for exercise in solutions.list_exercises(read(path)):
        told = set()
        for node in ast.parse(exercise.solved).body:
            with suppress(ValueError, AttributeError):  # a function, or computed: it is no literal
                ast.literal_eval(node.value)
                told |= list_constants(node)
        told = {word for word in told if len(word) > 1}
        assert not told & list_constants(ast.parse(exercise.check.source)), exercise.number


@each_notebook
def test_a_notebook_makes_one_live_view(path: Path) -> None:
    """Two would share a name, and a `FigureWidget` costs 5 MB and forgets what it shows at F5."""
    tree = ast.parse("\n".join(cell.source for cell in code_cells(read(path))))
    calls = [ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)]
    names = [call.rpartition(".")[2] for call in calls]
    assert sum(name in LIVE_VIEWS for name in names) == 1
    assert "FigureWidget" not in names


@each_notebook
def test_a_notebook_installs_and_hides_nothing(path: Path) -> None:
    """No shell or magic line, no filter on warnings."""
    code = "\n".join(cell.source for cell in code_cells(read(path)))
    assert not re.search(r"^\s*[!%]|warnings", code, re.MULTILINE)


@each_notebook
def test_a_notebook_imports_public_names_only(path: Path) -> None:
    """From the library itself or one of its public modules, never from deeper inside."""
    tree = ast.parse("\n".join(cell.source for cell in code_cells(read(path))))
    froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {name.removeprefix("dmtg_lite") for name in froms if name.startswith("dmtg_lite")}
    assert ours <= PUBLIC
    plain = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert not [name for name in plain if name.startswith("dmtg_lite")]


def test_every_equation_stands_beside_its_line() -> None:
    """1 to 8 are named in the first notebooks, each with one line that is in the library today."""
    seen = set()
    for path in NOTEBOOKS:
        for node in ast.walk(ast.parse("\n".join(c.source for c in code_cells(read(path))))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "show_line":
                told = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
                course.show_line(*map(ast.literal_eval, node.args), **told)  # raises if it is gone
                seen.add(told.get("equation"))
    assert seen >= set(range(1, 9))


@each_notebook
def test_links_between_notebooks_lead_somewhere(path: Path) -> None:
    """Every relative link names a notebook that is there."""
    text = "\n".join(cell.source for cell in prose_cells(read(path)))
    for target in re.findall(r"\]\(([^):]+)\)", text):
        assert (ROOT / "notebooks" / target).exists(), target


def test_students_get_everything_but_the_solutions(tmp_path: Path) -> None:
    """The students' copies hold the exercises and their checks, and open as notebooks."""
    assert solutions.main(["--out", str(tmp_path)]) == 0
    copies = sorted(tmp_path.glob("*.ipynb"))
    assert [copy.stem for copy in copies] == [path.stem for path in NOTEBOOKS]
    for copy in copies:
        cells = nbformat.read(copy, as_version=4).cells
        assert not [cell for cell in cells if solutions.has_tag(cell, "solution")]
        assert [cell for cell in cells if solutions.has_tag(cell, "check")]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_lab_works_on_copies_that_are_never_overwritten(tmp_path: Path) -> None:
    """`make lab` opens copies; one that somebody worked in stays, and is said to be older."""

    def copy() -> str:
        command = ["make", "-s", "own", f"OWN={tmp_path}"]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert copy() == ""
    copies = sorted(tmp_path.glob("*.ipynb"))
    pictures = {one.name for one in (ROOT / "notebooks" / "img").iterdir()}
    assert {one.name for one in (tmp_path / "img").iterdir()} == pictures
    assert [one.stem for one in copies] == [path.stem for path in NOTEBOOKS]
    copies[0].write_text("mine")
    assert copy() == ""
    os.utime(copies[0], (0, 0))
    assert f"{copies[0]} is yours and stays" in copy()
    assert copies[0].read_text() == "mine"
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert '--ServerApp.root_dir="$(OWN)"' in makefile


def make_exercise(*sources: str, kind: str = "read") -> NotebookNode:
    """A notebook of one exercise, from the sources of its cells."""
    tags = [["exercise", kind], ["check"], ["solution"]]
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": own})
        for source, own in zip(sources, tags, strict=False)
    ]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.mark.parametrize(
    ("sources", "kind", "complaint"),
    [
        (["x = None"], "read", "exercise in cell 0 must be followed"),
        (["x = None", "check('1.1', x)", "x = 1"], "guess", "must be tagged one of"),
        (["x = None", "print(check('1.1', x))", "x = 1"], "read", "must end with check"),
    ],
)
def test_an_exercise_that_is_not_whole_is_refused(sources, kind, complaint) -> None:
    """The tool says which cell is to blame."""
    with pytest.raises(ValueError, match=complaint):
        solutions.solve(make_exercise(*sources, kind=kind))


def test_an_assignment_has_points_locks_and_hidden_tests() -> None:
    """What nbgrader reads: the solution between its marks, and the check as a grade."""
    check = "def test(x):\n    assert x\n\n\ncheck('1.1', x, test)"
    notebook = make_exercise(
        "x = None", check, "x = 1\n# hidden test\nassert x == 1", kind="invent"
    )
    answer, grade = solutions.make_assignment(notebook).cells
    assert answer.source == "x = None\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION"
    assert answer.metadata.nbgrader.solution
    assert grade.source.startswith("### BEGIN HIDDEN TESTS\nassert x == 1\n### END HIDDEN TESTS\n")
    assert grade.source.endswith("\n3 * check('1.1', x, test)")
    told = grade.metadata.nbgrader
    assert (told.grade, told.locked, told.points) == (True, True, 3)
    (solved, _) = solutions.solve(notebook).cells
    assert solved.source == "x = 1"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_assignment_is_graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By nbgrader, three copies of a notebook: solved, open, and with every second answer wrong.

    What students are given holds neither solutions nor hidden tests."""
    pytest.importorskip("nbgrader", reason="needs the extra grade")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{_tool.parent}")
    monkeypatch.syspath_prepend(_tool.parent)
    prove = importlib.import_module("prove")
    stem = "01_categorical_pruning"
    assert prove.main(["--out", str(tmp_path), stem]) == 0
    points = {"1.1": 1, "1.2": 3, "1.3": 2, "1.4": 1}
    half = points | {"1.2": 0, "1.4": 0}
    scores = prove.read_scores(tmp_path)
    wanted = {"solved": points, "half": half, "open": dict.fromkeys(points, 0)}
    assert scores == {student: {stem: own} for student, own in wanted.items()}
    released = (tmp_path / "release" / "dmtg" / f"{stem}.ipynb").read_text("utf-8")
    source = (tmp_path / "source" / "dmtg" / f"{stem}.ipynb").read_text("utf-8")
    for told in ("mean_loss", "HIDDEN TESTS", "SOLUTION"):
        assert told in source
        assert told not in released
