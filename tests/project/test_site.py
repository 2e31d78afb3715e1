"""The site, without building it: what notebooks become, when they run, and links that lead nowhere.

tests/ui/test_site_pages.py builds a small one and looks at it; `make site` walks every link.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("site_build", ROOT / "docs" / "site" / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)
executed, links = build.executed, build.links

GOOD = '<h1 id="here">x</h1><a href="#here">x</a><a href="https://example.org">x</a>'


@pytest.mark.parametrize(
    ("markup", "fault"),
    [
        ('<a href="gone.html">x</a>', "leads to gone.html, which is not there"),
        ('<img src="gone.png">', "leads to gone.png, which is not there"),
        ('<a href="#gone">x</a>', "leads to #gone: no such place on that page"),
        ('<a href="good.html#gone">x</a>', "leads to good.html#gone: no such place on that page"),
        ('<script src="//example.org/x.js"></script>', "loads //example.org/x.js"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "loads https://example.org"),
        ('<p style="background: url(https://example.org/x.png)">', "loads https://example.org"),
        ("<style>@import 'https://example.org/x.css';</style>", "loads https://example.org"),
    ],
)
def test_a_link_to_nowhere_and_a_file_from_elsewhere_are_found(
    tmp_path: Path, markup: str, fault: str
) -> None:
    """A page that only links to the world outside is fine; one that loads from it is not."""
    (tmp_path / "good.html").write_text(GOOD)
    assert links.find_faults(tmp_path) == []
    (tmp_path / "bad.html").write_text(markup)
    (found,) = links.find_faults(tmp_path)
    assert found.startswith(f"bad.html {fault}")


def test_a_style_sheet_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/x.woff') }")
    assert links.find_faults(tmp_path) == ["x.css loads https://example.org/x.woff"]


def make_executed() -> nbformat.NotebookNode:
    """A notebook after its run: a figure, a live view with its still, an open exercise."""
    html = {"text/html": "<table>still</table>"}
    figure = {"data": [{"name": "</script>"}], "layout": {"title": {"text": "a < b"}}}
    outputs = [
        new_output("display_data", {executed.FIGURE: figure, "text/html": "2 MB"}),
        new_output("display_data", {executed.LIVE: {"model_id": "x"}, "text/html": ""}),
        new_output("display_data", html),
    ]
    cells = [
        new_markdown_cell("# Title"),
        new_markdown_cell(
            "![a picture](img/x.png)\n\n*[How](img/README.md)*", metadata={"tags": ["picture"]}
        ),
        new_code_cell("show()", outputs=outputs),
        new_code_cell("x = 1", metadata={"tags": ["solution"]}),
    ]
    return new_notebook(cells=cells, metadata={"site": {"on": "2026-11-26", "seconds": 7.2}})


def test_a_page_has_figures_and_stills_and_its_solutions_folded() -> None:
    """No widget without a kernel, no plotly.js in every notebook, and no answer in sight."""
    title, when, shown, solution = executed.dress(make_executed(), "1.0").cells
    assert title.source == "# Title"
    assert "On 2026-11-26 with dmtg_lite 1.0, from top to bottom in 7 s" in when.source
    figure, still = (output.data["text/html"] for output in shown.outputs)
    assert still == "<table>still</table>"
    assert 'aria-label="a &lt; b"' in figure
    numbers = figure.partition('<script type="application/json">')[2].removesuffix("</script>")
    assert "<" not in numbers
    assert json.loads(numbers)["data"] == [{"name": "</script>"}]
    assert "hide-input" in solution.metadata["tags"]


def test_a_warning_says_what_and_not_where_on_this_machine() -> None:
    notebook = make_executed()
    text = "/home/me/dmtg_lite/x.py:5: SomeWarning: mind it\n  call(me)\nand a line of one's own\n"
    notebook.cells[2].outputs = [new_output("stream", name="stderr", text=text * 2)]
    told = executed.dress(notebook, "1.0").cells[2].outputs[0].text
    assert told == "SomeWarning: mind it\nand a line of one's own\n" * 2


def test_many_plots_in_a_row_scroll_before_their_names_overlap() -> None:
    """On a phone; three rows of the same twelve columns are no wider than one."""
    axes = {f"xaxis{n}": {"domain": [n % 12 / 12, (n % 12 + 0.9) / 12]} for n in range(36)}
    assert "min-width:825px" in executed.draw({"data": [], "layout": axes})
    assert "min-width" not in executed.draw({"data": [], "layout": {"xaxis": {}}})


def test_a_page_that_was_not_executed_says_so_and_keeps_its_picture() -> None:
    notebook = make_executed()
    del notebook.metadata["site"]
    cells = executed.dress(notebook, "1.0").cells
    assert "Not executed here" in cells[1].source
    assert cells[2].source == "![a picture](img/x.png)"


def test_a_notebook_runs_again_only_when_its_code_or_the_library_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other words do not run it; other code does, and so does another library."""
    runs = []

    def run(notebook, folder, timeout, **options):
        runs.append(notebook)
        notebook.cells[1].outputs = [new_output("stream", name="stdout", text=f"{len(runs)}\n")]
        return SimpleNamespace(err=None, time=1.0)

    monkeypatch.setattr(executed, "single_nb_execution", run)
    library, source = tmp_path / "library", tmp_path / "00_x.py"
    library.mkdir()

    def show(words: str, code: str) -> str:
        source.write_text(f"# %% [markdown]\n# {words}\n\n# %%\n{code}\n")
        cache = executed.open_cache(tmp_path / "cache", library)
        notebook = executed.execute(source, cache, say=lambda text: None)
        assert notebook.cells[0].source == words
        assert notebook.metadata["site"]["seconds"] == 1.0
        return notebook.cells[1].outputs[0].text.strip()

    assert [show("a", "x"), show("a", "x"), show("b", "x")] == ["1", "1", "1"]
    assert show("b", "y") == "2"
    (library / "new.py").write_text("z = 1")
    assert show("b", "y") == "3"
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the old library's is gone


def test_a_notebook_that_fails_stops_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, with what the kernel said."""
    failed = SimpleNamespace(err=ValueError("x"), exc_string="NameError: nix")
    monkeypatch.setattr(executed, "single_nb_execution", lambda *_, **__: failed)
    (tmp_path / "00_x.py").write_text("# %%\nnix\n")
    cache = executed.open_cache(tmp_path / "cache", tmp_path / "library")
    with pytest.raises(RuntimeError, match=r"00_x.py does not run: NameError: nix"):
        executed.execute(tmp_path / "00_x.py", cache)


def test_only_notebooks_that_exist_can_be_executed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["--run", "00", "77"])
    assert "--run takes all, none, or some of 00 01" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pages", "tests"])
def test_a_workflow_says_that_we_do_not_run_it(name: str) -> None:
    """It reads, pins nothing beside constraints.txt, and its commands are the project's."""
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8")
    assert "Not run by us" in text
    (job,) = yaml.safe_load(text)["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert all(line.split()[0] in ("make", "python") for line in commands)
    pinned = set((ROOT / "constraints.txt").read_text("utf-8").split())
    assert {word for line in commands for word in line.split() if "==" in word} <= pinned


@pytest.mark.parametrize("path", build.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_picture_at_the_top(path: Path) -> None:
    """Right after the title, small, with words for those who do not see it, and a way on."""
    picture = executed.read(path).cells[1]
    assert picture.metadata.get("tags") == ["picture"], "run `make pictures`, then `make notebooks`"
    assert f"](img/{path.stem}.png)" in picture.source
    assert "How it looks when run](" in picture.source
    image = (path.parent / "img" / f"{path.stem}.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) < 150_000


def test_no_argument_is_explained_by_what_looks_like_a_list() -> None:
    """A letter and a full stop alone begin a list of letters on the reference's pages."""
    like_a_list = re.compile(r"^ +\w+: [A-Z]\.$", re.MULTILINE)
    files = sorted((build.ROOT / "dmtg_lite").rglob("*.py"))
    assert [p.name for p in files if like_a_list.search(p.read_text(encoding="utf-8"))] == []
