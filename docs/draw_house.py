"""Draws docs/house.svg: rooms with their lines of code, and the arrows that their imports make.

    python docs/draw_house.py           # write it anew
    python docs/draw_house.py --check   # say whether it still shows the imports as they are

Only text is read; nothing of the package is imported.
"""

from __future__ import annotations

import argparse
import ast
import sys
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "dmtg_lite"
PICTURE = DOCS / "house.svg"
# where each room stands: (column, floor); an arrow points from who imports to what is imported
PLACES = {
    "cli": (1, 4),
    "studies": (1, 3),
    "methods": (0.25, 2),
    "views": (2.3, 2),
    "runs": (1.1, 1),
    "encoders": (0, 1),
    "data": (2.2, 1),
    "core": (1.1, 0),
}
WORDS = {
    "cli": "arguments and printing",
    "studies": "many runs: compare, evidence, paper",
    "methods": "every method is a grouping",
    "views": "live session, plots, widgets, replay",
    "runs": "one run from pretraining to result",
    "encoders": "lists of stages",
    "data": "toys, CelebA, Taskonomy, stand-ins",
    "core": "section 3: draw, network, step",
}
WIDTH, HEIGHT, DX, DY = 300, 74, 330, 128


def room_of(path: Path) -> str:
    """The folder or file below the package that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def count_lines() -> dict[str, int]:
    """Lines of Python by room."""
    lines: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        lines[room_of(path)] = lines.get(room_of(path), 0) + len(
            path.read_text("utf-8").splitlines()
        )
    return lines


def find_arrows() -> set[tuple[str, str]]:
    """(who imports, what is imported), room by room."""
    arrows = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dmtg_lite."):
                arrows.add((room_of(path), (node.module or "").split(".")[1]))
    return {(a, b) for a, b in arrows if a != b and a in PLACES and b in PLACES}


def place(room: str) -> tuple[float, float]:
    column, floor = PLACES[room]
    return 20 + column * DX, 20 + (4 - floor) * DY


def is_implied(start: str, end: str, arrows: set[tuple[str, str]]) -> bool:
    """Whether other arrows lead there too, so that this one is drawn faintly."""
    seen, ahead = set(), {b for a, b in arrows if a == start and b != end}
    while ahead:
        room = ahead.pop()
        seen.add(room)
        ahead |= {b for a, b in arrows if a == room} - seen
    return end in seen


def draw() -> str:
    """The picture as SVG text."""
    lines, parts = count_lines(), []
    arrows = find_arrows()
    for start, end in sorted(arrows):
        (x1, y1), (x2, y2) = place(start), place(end)
        lean = max(
            -0.35, min(0.35, (x2 - x1) / 900)
        )  # leaves and arrives on the side it comes from
        path = f"M{x1 + WIDTH * (0.5 + lean):.0f},{y1 + HEIGHT} "
        path += f"L{x2 + WIDTH * (0.5 - lean):.0f},{y2 - 3}"
        if y1 == y2:  # side by side
            left = x1 < x2
            path = f"M{x1 + WIDTH * left:.0f},{y1 + 37} L{x2 + WIDTH * (not left):.0f},{y2 + 37}"
        also = " also" if is_implied(start, end, arrows) else ""
        parts.append(f'<path class="arrow{also}" data-arrow="{start} {end}" d="{path}"/>')
    for room, words in WORDS.items():
        x, y = place(room)
        size = lines.get(room, 0)
        parts.append(
            f'<g transform="translate({x:.0f},{y})">'
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
            f'<text x="14" y="30" class="name">{room}</text>'
            f'<text x="{WIDTH - 14}" y="30" class="size">{size:,} lines</text>'
            f'<text x="14" y="55">{escape(words)}</text></g>'
        )
    style = (
        "text{font:13px sans-serif;fill:#333}.name{font:bold 18px sans-serif}"
        ".size{text-anchor:end;fill:#666}rect{fill:#f4f7fb;stroke:#4a6785;stroke-width:1.5}"
        ".arrow{fill:none;stroke:#8aa1b8;stroke-width:1.8;marker-end:url(#tip)}"
        ".also{opacity:.3;stroke-dasharray:4 4}"
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#8aa1b8"/></marker></defs>'
    )
    width, height = 40 + 2.3 * DX + WIDTH, 40 + 4 * DY + HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}"><style>{style}</style><rect width="100%" height="100%" '
        f'style="fill:#fff;stroke:none"/>{tip}\n' + "\n".join(parts) + "\n</svg>\n"
    )


def arrows_shown(svg: str) -> set[tuple[str, str]]:
    """The arrows that a picture has."""
    pieces = svg.split('data-arrow="')
    return {tuple(after.split('"')[0].split()) for after in pieces[1:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if parser.parse_args().check:
        differ = arrows_shown(PICTURE.read_text("utf-8")) ^ find_arrows()
        if differ:
            print(f"docs/house.svg differs in {sorted(differ)}: run python docs/draw_house.py")
        return 1 if differ else 0
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"docs/house.svg written: {len(find_arrows())} arrows.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
