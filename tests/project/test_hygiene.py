"""What must never be in a commit: this machine's paths, outputs, large files, data that runs."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[2]


def project_files() -> list[Path]:
    """Files that git tracks or would add; without git, everything that is not hidden."""
    command = "git ls-files --cached --others --exclude-standard -z".split()
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [
            path
            for path in ROOT.rglob("*")
            if not re.search(r"(^|/)(\.|__pycache__)", path.relative_to(ROOT).as_posix())
        ]
    return [path for path in paths if path.is_file()]


FILES = project_files()
SOURCES = [p for p in FILES if p.suffix == ".py" and "tests" not in p.relative_to(ROOT).parts]
NOTEBOOKS = [path for path in FILES if path.suffix == ".ipynb"]
NOTEBOOK_SOURCES = [path for path in SOURCES if path.parent == ROOT / "notebooks"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_names_a_folder_of_this_machine() -> None:
    """Neither the checkout nor the home folder is written anywhere."""
    folders = {f"{folder}/".encode() for folder in (ROOT, Path.home()) if len(folder.parts) > 1}
    found = [name(path) for path in FILES if any(folder in path.read_bytes() for folder in folders)]
    assert not found


def test_no_large_file() -> None:
    """The clone stays small: no file above 400 KiB, so no data and no checkpoints. Only the runs
    that the what-if page plays may grow."""
    most = {"docs/what_if.html": 3_000_000, "docs/what_if_runs.jsonl": 3_000_000}
    assert not [name(p) for p in FILES if p.stat().st_size > most.get(name(p), 400 * 1024)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    """A student sees their own results, not ours."""
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert not [c.source for c in code if c.outputs or c.execution_count]


def content(notebook: nbformat.NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", ()))) for c in notebook.cells]


@pytest.mark.parametrize(
    "path", sorted({p.with_suffix("") for p in NOTEBOOKS + NOTEBOOK_SOURCES}), ids=name
)
def test_a_notebook_equals_its_source(path: Path) -> None:
    """The .ipynb is what `make notebooks` writes from the .py: same cells, same tags."""
    source, made = path.with_suffix(".py"), path.with_suffix(".ipynb")
    assert source.exists(), f"{name(source)} is missing"
    assert made.exists(), f"{name(made)} is missing: run `make notebooks`"
    own, other = jupytext.read(source), nbformat.read(made, as_version=4)
    assert content(own) == content(other), "run `make notebooks`"


def dangers(tree: ast.AST) -> list[str]:
    """Calls that would run what a file or a caller hands over as text."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            found += [f"line {node.lineno}: pickle"] if names & {"pickle", "dill", "joblib"} else []
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if (
            called in {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads"}
            or keywords.get("shell", "False") != "False"
            or keywords.get("allow_pickle", "False") != "False"
            or (called == "torch.load" and keywords.get("weights_only") != "True")
        ):
            found.append(f"line {node.lineno}: {called}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_source_runs_data(path: Path) -> None:
    """No eval, no shell string, no pickle: a file from a stranger is read, never run."""
    assert not dangers(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "exec(text)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "subprocess.run(text, shell=True)", "np.load(path, allow_pickle=True)", "import pickle",
        "from pickle import load", "os.system(text)",
    ],
)  # fmt: skip
def test_the_check_can_fail(line: str) -> None:
    """The test above sees each of these."""
    assert dangers(ast.parse(line))


def test_the_check_lets_the_harmless_pass() -> None:
    """Evaluation mode, weights-only loading and an argument list are fine."""
    harmless = "network.eval(); torch.load(p, weights_only=True); subprocess.run(['git'])"
    assert not dangers(ast.parse(harmless))


def reads_as_the_system_does(path: Path) -> list[int]:
    """Lines that open text in whatever encoding the system has: not UTF-8 on many a Windows."""
    lines = []
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call) or any(k.arg == "encoding" for k in call.keywords):
            continue
        if isinstance(call.func, ast.Name) and call.func.id == "open":
            mode = next((a.value for a in call.args[1:2] if isinstance(a, ast.Constant)), "r")
            n_due = 99 if "b" not in str(mode) else 0
        else:
            n_due = {"read_text": 1, "write_text": 2}.get(getattr(call.func, "attr", ""), 0)
        lines += [call.lineno] if len(call.args) < n_due else []
    return lines


def test_text_is_utf_8_on_every_system() -> None:
    """Each file that is read or written as text says so."""
    ours = [path for path in SOURCES if path not in NOTEBOOK_SOURCES]
    found = {name(path): lines for path in ours if (lines := reads_as_the_system_does(path))}
    assert not found


def test_a_text_without_encoding_is_seen(tmp_path: Path) -> None:
    """One of each kind."""
    bad = "open(p)\nopen(p, 'w')\np.read_text()\np.write_text(t)\n"
    good = "open(p, 'rb')\nopen(p, encoding='ascii')\np.read_text('utf-8')\nzip.open(n)\n"
    (tmp_path / "bad.py").write_text(bad + good, encoding="utf-8")
    assert reads_as_the_system_does(tmp_path / "bad.py") == [1, 2, 3, 4]
