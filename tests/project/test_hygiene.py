"""What must never be in a commit: this machine's paths, outputs, large files, code that runs
data."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[2]


def project_files() -> list[Path]:
    """Files that git tracks or would add; without git, everything that is not hidden."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(
                p.startswith(".") or p == "__pycache__" for p in path.relative_to(ROOT).parts
            )
        ]
    return [path for path in paths if path.is_file()]


FILES = project_files()
SOURCES = [
    path for path in FILES if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts
]
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
    """The clone stays small: no file above 400 KiB, so no data and no checkpoints."""
    assert not [name(path) for path in FILES if path.stat().st_size > 400 * 1024]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    """A student sees their own results, not ours."""
    cells = nbformat.read(path, as_version=4).cells
    assert not [
        c.source for c in cells if c.cell_type == "code" and (c.outputs or c.execution_count)
    ]


def content(notebook: nbformat.NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", ()))) for c in notebook.cells]


@pytest.mark.parametrize(
    "path", sorted({p.with_suffix("") for p in NOTEBOOKS + NOTEBOOK_SOURCES}), ids=name
)
def test_a_notebook_equals_its_source(path: Path) -> None:
    """The .ipynb is what `make notebooks` writes from the .py: same cells, same tags."""
    for suffix in (".py", ".ipynb"):
        assert path.with_suffix(suffix).exists(), (
            f"{name(path)}{suffix} is missing: run `make notebooks`"
        )
    source = content(jupytext.read(path.with_suffix(".py")))
    assert content(nbformat.read(path.with_suffix(".ipynb"), as_version=4)) == source, (
        "run `make notebooks`"
    )


def dangers(tree: ast.AST) -> list[str]:
    """Calls that would run what a file or a caller hands over as text."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            found += [f"line {node.lineno}: pickle"] if names & {"pickle", "dill", "joblib"} else []
        if not isinstance(node, ast.Call):
            continue
        called, keywords = (
            ast.unparse(node.func),
            {k.arg: ast.unparse(k.value) for k in node.keywords},
        )
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
    harmless = (
        "network.eval(); torch.load(p, weights_only=True); subprocess.run(['git']); np.load(p)"
    )
    assert not dangers(ast.parse(harmless))
