"""Walks built pages: every link and picture leads somewhere, and nothing is fetched from elsewhere.

python docs/site/links.py FOLDER    # prints what is wrong; exit status 1 if anything is
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a page loads by itself, in contrast to what a reader may click
LOADS = {
    ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"),
    ("link", "href"), ("object", "data"), ("embed", "src"),
}  # fmt: skip
STYLE_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Page(HTMLParser):
    """Names that a page has, what it links to and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self._in_style = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        self.loads |= {value for name, value in given.items() if (tag, name) in LOADS}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        self.loads |= find_in_style(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads |= find_in_style(data)
            self._in_style = False


def find_in_style(text: str) -> set[str]:
    """Addresses that a style sheet loads."""
    return {first or second for first, second in STYLE_URL.findall(text)}


def find_faults(folder: Path) -> list[str]:
    """What is wrong with the pages below a folder, a line each, sorted."""
    folder, read = folder.resolve(), cache(Page)
    faults = set()
    for path in folder.rglob("*.html"):
        page, name = read(path), path.relative_to(folder).as_posix()
        for target in page.loads | page.links:
            parts = urlsplit(target)
            if parts.scheme in ("data", "mailto", "javascript") or target == "":
                continue
            if parts.scheme or parts.netloc:
                if target in page.loads:
                    faults.add(f"{name} loads {target}, which is elsewhere")
                continue
            there = path.parent / unquote(parts.path) if parts.path else path
            if not there.is_file():
                faults.add(f"{name} leads to {target}, which is not there")
                continue
            is_place = parts.fragment and there.suffix == ".html" and target in page.links
            if is_place and unquote(parts.fragment) not in read(there.resolve()).names:
                faults.add(f"{name} leads to {target}: no such place on that page")
    for path in folder.rglob("*.css"):
        for target in find_in_style(path.read_text(encoding="utf-8")):
            parts = urlsplit(target)
            if parts.scheme != "data" and (parts.scheme or parts.netloc):
                faults.add(f"{path.relative_to(folder).as_posix()} loads {target}")
    return sorted(faults)


if __name__ == "__main__":
    found = find_faults(Path(sys.argv[1]))
    print("\n".join(found) or "all links lead somewhere, and nothing is loaded from elsewhere")
    sys.exit(bool(found))
