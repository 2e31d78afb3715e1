"""Pages that need no kernel and no network: a template, filled with the drawing of the live view.

A module cannot be imported from a file, so the texts of all modules stand in the page one after the
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
_PICTURES = {"headGraph": "head_graph.js", "matrix": "matrix.js", "curvesOf": "curves.js"}


def fill_page(template: str, parts: Mapping[str, str]) -> str:
    """The template with each ``@@NAME@@`` replaced; CSS and MODULES are the drawing.

    What is put in is not searched again, so no data can name a part.
    """
    parts = {"CSS": _read("widgets.css"), "MODULES": _gather_modules(), **parts}
    first, *rest = template.split("@@")  # text, name, text, name, ...
    return first + "".join(
        parts[name] + text for name, text in zip(rest[::2], rest[1::2], strict=True)
    )


def _gather_modules() -> str:
    pictures = "".join(_wrap(name, file) for name, file in _PICTURES.items())
    return _read("common.js") + pictures + _read("player.js")


def _wrap(name: str, file: str) -> str:
    """A picture's text as a function, with its names inside."""
    body = _read(file).replace("export default { render };", "return { render };")
    return f"const {name} = (() => {{\n{body}}})();\n"


def _read(name: str) -> str:
    return (HERE / "widgets" / name).read_text(encoding="utf-8")
