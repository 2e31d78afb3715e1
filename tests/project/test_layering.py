"""The arrows of the package point one way, and what may load lazily does.

ALLOWED is the layout as a table: a row says what a module may import from inside the package.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dmtg_lite

PACKAGE = Path(dmtg_lite.__file__).parent

# One row a folder: what its files may import besides each other. The longest row that fits counts.
ALLOWED: dict[str, set[str]] = {
    "files": set(),
    "schema": {"files"},
    "core": set(),
    "encoders": {"core", "files"},
    "data": {"core", "files", "schema"},
    "runs": {"core", "encoders", "files", "schema"},
    "methods": {"core", "encoders", "runs", "files", "schema"},
    "views.plots": {"core", "runs"},
    "views": {"core", "encoders", "runs", "methods", "files", "schema"},
    "views.playground": {"core", "runs", "methods", "data"},  # the one view that offers data
    "studies": {"core", "encoders", "runs", "methods", "data", "views.plots", "files", "schema"},
    "doctor": {"core", "data", "schema"},
    "bench": {"core", "encoders", "runs"},
    "experiments": {"runs", "studies"},  # the front door: names only
    "cli": set(
        "bench doctor experiments core runs methods data studies views.plots views.replay "
        "views.watch files schema".split()
    ),
    "__main__": {"cli"},
    "course": set(),
    "__init__": set(  # loaded on first use
        "core course data encoders experiments methods runs views".split()
    ),
}


def module_name(path: Path) -> str:
    """Dotted name below the package: data/celeba.py is data.celeba, data/__init__.py is data."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def covers(row: str, module: str) -> bool:
    return module == row or module.startswith(f"{row}.")


def imported_inside(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it; "" stands for the root."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert not node.level, f"{path} imports relatively: name the module from the root"
            for alias in node.names:  # `from dmtg_lite.data import celeba` may name a module
                whole = f"{base}.{alias.name}"
                found.add(whole if whole.removeprefix("dmtg_lite.") in MODULES else base)
    inside = {name for name in found if covers("dmtg_lite", name)}
    return {name.removeprefix("dmtg_lite").lstrip(".") for name in inside}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_layout_allows(module: str) -> None:
    """Every file has a row in ALLOWED and keeps to it."""
    rows = [row for row in ALLOWED if covers(row, module)]
    assert rows, f"dmtg_lite/{module} has no row in ALLOWED: say what it may import"
    allowed = ALLOWED[max(rows, key=len)]
    imported = imported_inside(MODULES[module])
    assert "" not in imported or module == "__init__", (
        f"{module} imports the root: import the module that defines the name"
    )
    folder = module.partition(".")[0]
    others = {name for name in imported - {""} if not covers(folder, name)}
    wrong = {name for name in others if not any(covers(row, name) for row in allowed)}
    assert not wrong, f"{module} may import {sorted(allowed)}, but imports {sorted(wrong)}"


def test_the_table_has_no_cycle() -> None:
    """Following the arrows never leads back to where one started."""

    def reachable(row: str, seen: frozenset[str] = frozenset()) -> None:
        assert row not in seen, f"{row} reaches itself through {sorted(seen)}"
        for target in ALLOWED.get(row, set()) - {row, "__init__"}:
            if not covers(target, row):  # inside one folder, files may use each other
                reachable(target, seen | {row})

    for row in ALLOWED:
        reachable(row)


def run_without(blocked: set[str], code: str) -> list[str]:
    """Words that code prints in a new interpreter where some packages cannot be imported."""
    block = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked by the test", name=name)
sys.meta_path.insert(0, Block())
"""
    script = [sys.executable, "-c", block + code]
    done = subprocess.run(script, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


EXTRAS = {
    "IPython", "PIL", "anywidget", "ipywidgets", "jupyterlab", "jupytext", "matplotlib", "pandas",
    "plotly", "pyarrow", "ray", "scipy", "sklearn", "tensorboard", "tqdm",
}  # fmt: skip


@pytest.mark.parametrize("name", dmtg_lite.__all__)
def test_a_public_name_loads(name: str) -> None:
    """Every name that the root offers is there."""
    assert getattr(dmtg_lite, name) is not None
    assert name in dir(dmtg_lite)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    """A typing error says what the package offers."""
    with pytest.raises(AttributeError, match="no attribute 'GroupNetwork'; it offers"):
        dmtg_lite.GroupNetwork  # noqa: B018


def test_the_public_names_need_torch_numpy_and_safetensors_only() -> None:
    """All of `from dmtg_lite import *` works with every extra missing."""
    code = "from dmtg_lite import *\nprint(*sys.modules)"
    loaded = {name.partition(".")[0] for name in run_without(EXTRAS, code)}
    assert "torch" in loaded
    assert not loaded & EXTRAS


@pytest.mark.parametrize(
    "module",
    [
        "",
        "core.tasks",
        "runs.history",
        "runs.folder",
        "views.plots",
        "views.replay",
        "views.widgets.dashboard",
        "views.watch",
        "views.background",
    ],
)
def test_a_recorded_run_needs_no_torch(module: str) -> None:
    """Looking at a run, its plots and its replay works where torch is not installed."""
    run_without({"torch"}, "import " + f"dmtg_lite.{module}".rstrip("."))


# ---------------------------------------------------------------- core reads in one sitting
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def walk_own(function: ast.AST) -> Iterator[ast.AST]:
    """Everything in a function but the functions inside it, which count by themselves."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, FUNCTION):
            yield child
            yield from walk_own(child)


def count_branches(function: ast.AST) -> int:
    """if and elif, for, while, except and ternary are one each; so is an if in a comprehension.

    Not counted: else, `and` and `or`, with, match, and the loop of a comprehension itself.
    """
    kinds = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler)
    own = list(walk_own(function))
    conditions = sum(len(node.ifs) for node in own if isinstance(node, ast.comprehension))
    return conditions + sum(isinstance(node, kinds) for node in own)


def count_lines(function: ast.FunctionDef) -> int:
    """From `def` to the last line, without the docstring."""
    lines, first = function.end_lineno - function.lineno + 1, function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    return lines - has_docstring * (first.end_lineno - first.lineno + 1)


def test_the_method_is_at_most_700_lines() -> None:
    """Draw, network, heads, objective and step, in the order in which they are read."""
    names = ("assignment", "network", "heads", "objective", "step")
    lengths = {n: len(MODULES[f"core.{n}"].read_text("utf-8").splitlines()) for n in names}
    assert sum(lengths.values()) <= 700, lengths


@pytest.mark.parametrize("module", [name for name in MODULES if covers("core", name)])
def test_a_function_of_core_is_short_and_branches_little(module: str) -> None:
    """At most 40 lines and 5 branches each."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTION)]
    counted = {f.name: (count_lines(f), count_branches(f)) for f in functions}
    assert not {name: own for name, own in counted.items() if own[0] > 40 or own[1] > 5}


def test_branches_are_counted_as_said() -> None:
    """Six: for, if, elif, except, a ternary and an if in a comprehension."""
    code = """
def f(x):
    \"\"\"Not

    counted.\"\"\"
    for y in x:
        if y and x: pass
        elif y: pass
        else: pass
    try: pass
    except OSError: pass
    def inner(): return 1 if x else 2
    return [z for z in x if z] if x else []
"""
    function = ast.parse(code).body[0]
    assert (count_branches(function), count_lines(function)) == (6, 9)
