"""`from_csv`: a table in a text file, whose columns are features and targets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from dmtg_lite.core.data import TaskData
from dmtg_lite.data.foreign_files import PERHAPS_TEXT, name_content, read_file
from dmtg_lite.data.own.from_arrays import Options, from_arrays
from dmtg_lite.data.own.texts import reads_as_number
from dmtg_lite.files import check_is_file

_MOST_BYTES = 2 << 30
_SEPARATORS = (",", ";", "\t", "|")


def from_csv(
    path: str | Path,
    targets: Sequence[str] | str,
    *,
    features: Sequence[str] | None = None,
    **more: Unpack[Options],
) -> TaskData:
    """A CSV file as data that every method takes; see `from_arrays`.

    The first line names the columns; they are separated by commas, semicolons, tabs or bars,
    whichever makes most of that line. Text is UTF-8, with or without a mark at its beginning. Empty
    fields and what pandas knows as missing (NA, nan, null, None) are missing.

    Args:
        targets: Names of the columns to predict.
        features: Names of the columns to predict from; ``None``: all others.
        more: As of `from_arrays`; ``splits`` and ``groups`` may be names of columns. ``name`` is
            the file's, if not given.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is no such table, lacks a column, or `from_arrays` refuses what it holds.
    """
    path = check_is_file(path, "CSV file")
    table = _read_table(path)
    targets = [targets] if isinstance(targets, str) else list(targets)
    others = [one for one in (more.get("splits"), more.get("groups")) if isinstance(one, str)]
    if features is None:
        features = [name for name in table.columns if name not in targets]
    used = [*features, *[one for one in others if one not in features]]
    if missing := [name for name in [*targets, *used] if name not in table.columns]:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {list(table.columns)[:40]}.")
    if "" in used:
        raise ValueError(
            f"{path}: column {used.index('') + 1} has no name. If it numbers the rows, save the "
            "file without it (pandas: index=False); else give it a name, or name the `features`."
        )
    more.setdefault("name", path.stem)
    try:
        return from_arrays(table[used], table[targets], **more)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_table(path: Path) -> Any:
    """The file as a DataFrame."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "CSV files are read by pandas, which is not installed. Run: "
            'pip install "dmtg-lite[data]"'
        ) from error
    text = _decode(path)
    names, separator = _read_names(path, text)
    table = pandas.read_csv(
        io.StringIO(text),
        sep=separator,
        header=0,
        names=range(len(names)),  # by number: pandas would rename equal ones
        index_col=False,
        skipinitialspace=True,
        low_memory=False,
    )
    table.columns = names
    return table


def _decode(path: Path) -> str:
    data = read_file(path, _MOST_BYTES)
    kind = name_content(data)
    if kind != PERHAPS_TEXT:
        raise ValueError(f"{path} is {kind}, where a CSV file is due: text with one row a line.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} line {line} is no UTF-8. Save it so, or read it yourself: "
            "data.from_arrays of pandas.read_csv(path, encoding='latin-1')."
        ) from None


def _read_names(path: Path, text: str) -> tuple[list[str], str]:
    """Names of the columns, and what separates them; every line must have as many fields."""

    def read(separator: str, strict: bool = False) -> Any:
        lines = io.StringIO(text)
        return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)

    rows = read(",")
    try:
        separator = max(_SEPARATORS, key=lambda one: len(next(read(one), [])))
        names = [name.strip() for name in next(read(separator), [])]
        _check_names(path, names)
        rows = read(separator, strict=True)
        for fields in rows:
            if fields and len(fields) != len(names):  # a line without any is skipped by pandas too
                raise ValueError(
                    f"{path} line {rows.line_num} has {len(fields)} fields, the first has "
                    f"{len(names)}: is the file whole? Text with separators in it must be quoted."
                )
    except csv.Error as error:
        raise ValueError(f"{path} line {rows.line_num} cannot be read: {error}.") from None
    return names, separator


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) < 2:
        raise ValueError(
            f"{path} has one column, {names[:1]}: features and targets need one each, separated "
            "by commas, semicolons, tabs or bars."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} has more than one column {twice[0]!r}: names must be unique.")
    if all(reads_as_number(name) for name in names):
        raise ValueError(f"{path}: its first line holds numbers; it must name the columns.")
