"""Builds the site: pages laid out, notebooks executed (once, then cached), Sphinx, links walked.

    python docs/site/build.py                  # every notebook executed: minutes, the first time
    python docs/site/build.py --run 00 01 02   # those three; the others from their source

The site is build/site/html; build/site/source is what Sphinx read, and may be thrown away.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import plotly

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]  # a library that is not installed will do

import executed  # noqa: E402
import links  # noqa: E402

import dmtg_lite  # noqa: E402
from dmtg_lite.views import recordings  # noqa: E402
from dmtg_lite.views.replay import write_replay  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
# what the side bar holds, by caption; a page of docs/ that is not named here comes under the last
CONTENTS = {
    "See and learn": ["Try it <self>", "course", "gallery", "docs/teaching"],
    "Use": [
        "docs/own_data",
        "docs/preparing",
        "docs/taskonomy",
        "docs/watching",
        "docs/saved_runs",
    ],
    "Know": ["docs/architecture", "docs/measurements", "docs/evidence", "api"],
    "More": [],
}


def lay_out(source: Path, run: Sequence[str], cache: Path) -> None:
    """Copy and write all that Sphinx reads. Links between files stay as they are in the project.

    Args:
        source: Emptied first.
        run: Numbers of the notebooks that are executed ("00"), or not again if the cache has them.
        cache: Folder of executed notebooks.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(HERE / "conf.py", source)
    plotly_js = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    shutil.copy(plotly_js, source / "static")
    for kind in ("*.md", "*.svg", "*.png"):
        for path in (ROOT / "docs").glob(kind):
            _copy(path, source / "docs")
    shutil.copytree(ROOT / "notebooks" / "img", source / "notebooks" / "img")
    kept = executed.open_cache(cache, ROOT / "dmtg_lite")
    for path in NOTEBOOKS:
        is_run = executed.number_of(path) in run
        notebook = executed.execute(path, kept) if is_run else executed.read(path)
        dressed = executed.dress(notebook, dmtg_lite.__version__)
        nbformat.write(dressed, source / "notebooks" / f"{path.stem}.ipynb")
    for name in recordings.names():
        (source / "extra" / "replay").mkdir(parents=True, exist_ok=True)
        write_replay(recordings.load(name), source / "extra" / "replay" / f"{name}.html")
    if (what_if := ROOT / "docs" / "what_if.html").exists():
        _copy(what_if, source / "extra")
    _fill_in(source)


def _copy(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)


def _fill_in(source: Path) -> None:
    """Put what the pages say of notebooks and recordings where they have {{a name}}."""
    has_what_if = (source / "extra" / "what_if.html").exists()
    words = {
        "front": "what_if.html" if has_what_if else "replay/spare.html",
        "front_title": "What happens if: recorded runs, chosen by their settings",
        "contents": _list_contents(source),
        "course": _list_course(),
        "recordings": _list_recordings(),
        "pictures": _list_pictures(),
    }
    for page in ("index.md", "course.md", "gallery.md"):
        text = (source / page).read_text(encoding="utf-8")
        for name, word in words.items():
            text = text.replace(f"{{{{{name}}}}}", word)
        (source / page).write_text(text, encoding="utf-8")


def _list_contents(source: Path) -> str:
    named = {page for pages in CONTENTS.values() for page in pages}
    rest = sorted(f"docs/{path.stem}" for path in (source / "docs").glob("*.md"))
    text = ""
    for caption, pages in CONTENTS.items():
        there = [page for page in pages if "<" in page or (source / f"{page}.md").exists()]
        there += [page for page in rest if page not in named] if not pages else []
        listed = "\n".join(there)
        text += f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n\n"
    return text


def _describe(path: Path) -> tuple[str, str, str]:
    """Title, question, and the line of minutes and needs, from a notebook's first cell."""
    title, *parts = executed.read(path).cells[0].source.split("\n\n")
    question = next(part for part in parts if part.startswith("**Question.**"))
    minutes = next((part for part in parts if part.startswith("*") and "min" in part), "")
    return title.removeprefix("# "), question.removeprefix("**Question.** "), minutes


def _list_course() -> str:
    text = ""
    for path in NOTEBOOKS:
        title, question, minutes = _describe(path)
        text += f"**[{title}](notebooks/{path.stem}.ipynb)**\n: {question}\n\n  {minutes}\n\n"
    names = "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)
    return f"{text}```{{toctree}}\n:hidden:\n\n{names}\n```"


def _list_recordings() -> str:
    cards = ""
    for name in recordings.names():
        about = recordings.load(name).about
        cards += (
            f":::{{grid-item-card}} {about.title}\n{about.note}\n\n"
            f'<a href="replay/{name}.html">Play: {about.title}</a>\n:::\n'
        )
    return _lay_side_by_side(cards)


def _lay_side_by_side(cards: str) -> str:
    return f"::::{{grid}} 1 1 2 2\n:gutter: 2\n\n{cards}::::" if cards else ""


def _list_pictures() -> str:
    cards = ""
    for path in NOTEBOOKS:
        picture = ROOT / "notebooks" / "img" / f"{path.stem}.png"
        if picture.exists():
            title, _, _ = _describe(path)
            cards += (
                f":::{{grid-item-card}} {title}\n:link: notebooks/{path.stem}\n:link-type: doc\n"
                f":link-alt: {title}\n\n![{title}](notebooks/img/{picture.name})\n:::\n"
            )
    return _lay_side_by_side(cards)


def build(source: Path, html: Path, *, is_strict: bool = True) -> None:
    """Sphinx's part.

    Raises:
        subprocess.CalledProcessError: If Sphinx warns of anything and ``is_strict``.
    """
    strict = ["-W", "--keep-going"] if is_strict else []
    command = [sys.executable, "-m", "sphinx", "-q", *strict, "-d", html.parent / "doctrees"]
    environment = os.environ | {"DMTG_SITE_ROOT": str(ROOT)}
    subprocess.run([*command, source, html], check=True, env=environment)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the site into build/site/html.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", metavar="FOLDER")
    numbers = [executed.number_of(path) for path in NOTEBOOKS]
    parser.add_argument(
        "--run", nargs="+", default=["all"], metavar="NN", help="notebooks to execute; or none, all"
    )
    chosen = parser.parse_args(arguments)
    run = {"all": numbers, "none": []}.get(" ".join(chosen.run), chosen.run)
    if unknown := sorted(set(run) - set(numbers)):
        parser.error(f"--run takes all, none, or some of {' '.join(numbers)}; got {unknown}.")
    os.environ |= {"DMTG_HEADLESS": "1", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    source, html = chosen.out / "source", chosen.out / "html"
    lay_out(source, run, chosen.out / "cache")
    shutil.rmtree(html, ignore_errors=True)
    try:
        build(source, html)
    except subprocess.CalledProcessError:
        print("The site was not built: mend what Sphinx says above.", file=sys.stderr)
        return 1
    if faults := links.find_faults(html):
        print("\n".join(faults), file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) / 1e6
    seconds = time.perf_counter() - start
    print(f"{html / 'index.html'}: {size:.0f} MB, in {seconds:.0f} s. Open it; no server needed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
