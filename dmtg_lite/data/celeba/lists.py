"""CelebA's two lists, attributes and partition: bytes in, labels and splits out, broken ones
refused.

Many public copies are broken (an error page under the list's name, a list cut short that still
announces all its rows), so nothing is guessed. Where the lists lie is decided in `celeba_files`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dmtg_lite.core.tasks import CELEBA_40

NAMES = tuple(task.name for task in CELEBA_40)
ID = re.compile(r"\d{6}\.jpg")
SIGNED = {"-1": 0, "1": 1}  # the official text list
ANY_BINARY = SIGNED | {
    "0": 0,
    "False": 0,
    "True": 1,
    "false": 0,
    "true": 1,
}  # CSV and parquet copies


def _read_lines(path: Path) -> list[str]:
    raw = path.read_bytes()
    if raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise ValueError(
            f"{path} is an HTML page, not the list: the download was answered with an error or "
            "quota page. Download the file again and look at its first line."
        )
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file. Download it again.") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def read_attributes(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read ``list_attr_celeba`` (.txt or .csv) into image ids and labels, uint8 (n, 40) of 0 and 1.

    The text list looks fixed-width and is not (one blank less where the first value is 1), so it
    is split on runs of blanks. The CSV may hold 0/1 instead of -1/1, the text list may not.

    Raises:
        ValueError: An HTML page, a count line that lies, a row that has not 41 fields, a value
            that is not binary, an id twice; the message names file and line.
    """
    path = Path(path)
    lines = _read_lines(path)
    if path.suffix == ".csv":
        names, rows, first_line = lines[0].split(",")[1:] if lines else [], lines[1:], 2
        columns = _order_columns(path, names)
        return _parse_rows(path, (row.split(",") for row in rows), first_line, columns, ANY_BINARY)
    if len(lines) < 2 or not lines[0].strip().isdigit():
        found = lines[0][:40] if lines else ""
        raise ValueError(f"{path} should open with the number of images, found {found!r}.")
    count, rows = int(lines[0]), lines[2:]
    if count != len(rows):
        raise ValueError(
            f"{path} announces {count} images but lists {len(rows)}: the file is cut short. "
            "Download it again."
        )
    columns = _order_columns(path, lines[1].split())
    return _parse_rows(path, (row.split() for row in rows), 3, columns, SIGNED)


def _order_columns(path: Path, names: Sequence[str]) -> list[int]:
    """Columns of ``names`` in the order of `NAMES`; every name must be there exactly once."""
    names = [name.strip() for name in names]
    if sorted(names) != sorted(NAMES):
        missing, extra = sorted(set(NAMES) - set(names)), sorted(set(names) - set(NAMES))
        raise ValueError(
            f"{path} should name the 40 CelebA attributes once each, found {len(names)} names; "
            f"missing {missing[:3]}, unknown {extra[:3]}."
        )
    return [names.index(name) for name in NAMES]


def _parse_rows(
    path: Path,
    rows: Iterable[list[str]],
    first_line: int,
    columns: list[int],
    values: dict[str, int],
) -> tuple[list[str], np.ndarray]:
    ids: list[str] = []
    labels = bytearray()  # one byte a label: 8 MB for the whole of CelebA
    for line, fields in enumerate(rows, first_line):
        if len(fields) != 1 + len(NAMES):
            raise ValueError(
                f"{path} line {line} should have an id and 40 values, found {len(fields) - 1} "
                "values. "
                "Download the file again."
            )
        ids.append(fields[0])
        try:
            labels += bytes([values[field.strip()] for field in fields[1:]])
        except KeyError as error:
            raise ValueError(
                f"{path} line {line} has the value {error.args[0]!r}; allowed are "
                f"{', '.join(values)}."
            ) from None
    _check_ids(path, ids)
    return ids, np.frombuffer(labels, np.uint8).reshape(-1, len(NAMES))[:, columns]


def _check_ids(path: Path, ids: list[str]) -> None:
    if not ids:
        raise ValueError(f"{path} lists no image at all.")
    # an id becomes a file name, so anything but six digits and .jpg could point elsewhere
    strange = next((name for name in ids if not ID.fullmatch(name)), None)
    if strange is not None:
        raise ValueError(f"{path} has the image id {strange!r}; expected ids such as 000001.jpg.")
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f"{path} lists {twice} more than once.")


def read_partition(path: str | Path) -> dict[str, int]:
    """Read ``list_eval_partition`` (.txt without header, .csv with one) as ``{id: 0, 1 or 2}``.

    Raises:
        ValueError: An HTML page, a row that has not two fields, a split that is not 0, 1 or 2.
    """
    path = Path(path)
    lines = _read_lines(path)
    separator = "," if path.suffix == ".csv" else None
    header = int(path.suffix == ".csv")  # named id or image_id, depending on the copy: by position
    rows = [line.split(separator) for line in lines[header:]]
    for line, fields in enumerate(rows, 1 + header):
        if len(fields) != 2 or fields[1].strip() not in ("0", "1", "2"):
            raise ValueError(
                f"{path} line {line} should be an id and 0, 1 or 2, found {lines[line - 1]!r}."
            )
    ids = [fields[0].strip() for fields in rows]
    _check_ids(path, ids)
    return {name: int(fields[1]) for name, fields in zip(ids, rows, strict=True)}


def join_split(
    ids: list[str], partition: dict[str, int], attributes: Path, partitions: Path
) -> np.ndarray:
    for there, here, a, b in (
        (partition, ids, partitions, attributes),
        (ids, partition, attributes, partitions),
    ):
        lost = sorted(set(there) - set(here))
        if lost:
            raise ValueError(
                f"{a} has {len(lost)} ids that {b.name} lacks, {lost[0]} first: "
                "the two lists are not of one release, or one is cut short."
            )
    return np.array([partition[name] for name in ids], np.uint8)
