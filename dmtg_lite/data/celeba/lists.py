"""CelebA's two lists, attributes and partition: bytes in, labels and splits out.

Many public copies are broken (an error page under the list's name, a list cut short that still
announces all its rows), so nothing is guessed. Where the lists lie is decided in `files`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dmtg_lite.core.tasks import CELEBA_40
from dmtg_lite.data.foreign_files import PERHAPS_TEXT, name_content, read_file

_MOST_BYTES = 128 << 20  # the official attribute list has 27 MB
NAMES = tuple(task.name for task in CELEBA_40)
ID = re.compile("[0-9]{6}[.]jpg")
SIGNED = {"-1": 0, "1": 1}  # the official text list
ANY_BINARY = SIGNED | {"0": 0, "False": 0, "false": 0, "True": 1, "true": 1}  # CSV and parquet


def read_attributes(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read ``list_attr_celeba`` (.txt or .csv) into image ids and labels, uint8 (n, 40) of 0 and 1.

    The text list looks fixed-width and is not (one blank less where the first value is 1). The CSV
    may hold 0/1 instead of -1/1, the text list may not.

    Raises:
        ValueError: If the list is broken; the message names file and line.
    """
    path = Path(path)
    lines, is_csv = _read_lines(path), path.suffix == ".csv"
    count, lines = ("", lines) if is_csv else (lines[0][1], lines[1:])
    if not is_csv and count.strip() != str(len(lines) - 1):
        raise ValueError(
            f"{path} announces {count[:40]} images but lists {len(lines) - 1}: it is cut short or "
            "another file. Download it again."
        )
    names = _split("".join(line for _, line in lines[:1]))[is_csv:]
    values = ANY_BINARY if is_csv else SIGNED
    if sorted(names) != sorted(NAMES):
        missing, extra = sorted(set(NAMES) - set(names)), sorted(set(names) - set(NAMES))
        raise ValueError(
            f"{path} should name the 40 CelebA attributes once each, found {len(names)} names; "
            f"missing {missing[:3]}, unknown {extra[:3]}."
        )
    ids: list[str] = []
    labels = bytearray()  # one byte a label: 8 MB for the whole of CelebA
    for number, line in lines[1:]:
        name, *fields = _split(line)
        if len(fields) != len(NAMES):
            raise ValueError(
                f"{path} line {number} should have an id and 40 values, found {len(fields)} "
                "values. Download the file again."
            )
        ids.append(name)
        if not values.keys() >= set(fields):
            strange = next(field for field in fields if field not in values)
            raise ValueError(
                f"{path} line {number} has the value {strange[:40]!r}; "
                f"allowed are {', '.join(values)}."
            )
        labels += bytes([values[field] for field in fields])
    _check_ids(path, ids)
    columns = [names.index(name) for name in NAMES]
    return ids, np.frombuffer(labels, np.uint8).reshape(-1, len(NAMES))[:, columns]


def read_partition(path: str | Path) -> dict[str, int]:
    """Read ``list_eval_partition`` (.txt without header, .csv with one) as ``{id: 0, 1 or 2}``."""
    path = Path(path)
    header = int(path.suffix == ".csv")  # named id or image_id, depending on the copy: by position
    rows = [(number, _split(line)) for number, line in _read_lines(path)[header:]]
    for number, fields in rows:
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise ValueError(
                f"{path} line {number} should be an id and 0, 1 or 2, found "
                f"{' '.join(fields)[:60]!r}. Download the file again."
            )
    _check_ids(path, [name for _, (name, _) in rows])
    return {name: int(k) for _, (name, k) in rows}


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers; at least one."""
    data = read_file(path, _MOST_BYTES)
    kind = name_content(data)
    if kind == "an HTML page":
        raise ValueError(
            f"{path} is an HTML page, not the list: the download was answered with an error or "
            "quota page. Download the file again and look at its first line."
        )
    if kind not in ("empty", PERHAPS_TEXT):
        raise ValueError(
            f"{path} is {kind}, expected the list as plain text (UTF-8). Save or unpack it so "
            "(iconv -f UTF-16 -t UTF-8 makes it of UTF-16), or download it again."
        )
    lines = enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), 1)
    return [(number, line) for number, line in lines if _split(line)] or [(1, "")]


def _split(line: str) -> list[str]:
    """The fields of a line, in text divided by runs of blanks, in CSV by commas."""
    return line.replace(",", " ").split()


def _check_ids(path: Path, ids: Iterable[str]) -> None:
    """An id becomes a file name: anything but six digits and .jpg could point elsewhere."""
    seen: set[str] = set()
    for name in ids:
        if not ID.fullmatch(name):
            raise ValueError(f"{path} has the image id {name[:40]!r}; expected such as 000001.jpg.")
        if name in seen:
            raise ValueError(f"{path} lists {name} more than once.")
        seen.add(name)
    if not seen:
        raise ValueError(f"{path} lists no image at all.")
