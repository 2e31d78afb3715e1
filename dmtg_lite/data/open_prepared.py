"""Opening a prepared folder: its manifest, its arrays mapped, and both checked against each other.

Making one is `prepared_folder`; what is shared by both is here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.data import SPLITS
from dmtg_lite.core.mapped import map_array
from dmtg_lite.data.ranges import Range, check_limits, check_ranges
from dmtg_lite.files import write_atomically
from dmtg_lite.schema import check_value, read_json

_CHECKED = "checked.json"
_LARGE = 64 << 20  # bytes of labels that are not hashed at every start


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_limit(limit: int | None) -> int | None:
    """A number of rows, at least one for each split, or None for all."""
    return None if limit is None else as_whole("limit", limit, len(SPLITS), ", one for each split")


def write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")


class FileSums(TypedDict):
    """What the manifest says of one array file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a prepared folder of one data set must be like.

    Args:
        name: The ``format`` of its manifest.
        script: What makes it; named in errors.
        manifest: Type hints of what its manifest must hold besides counts, files and ranges.
        row_types: Given the manifest, name of every array and the type of one row.
        images: The array that is large and no label: only ``verify`` compares its checksum.
        limits: Lowest and highest number that a label may be.
    """

    name: str
    script: str
    manifest: dict[str, Any]
    row_types: Callable[[dict], dict[str, np.dtype]]
    images: str
    limits: Mapping[str, tuple[float, float]]


def open_prepared(folder: Path, form: Form, *, verify: bool) -> tuple[dict, dict[str, np.memmap]]:
    """The manifest of a prepared folder and its arrays, mapped and checked against each other.

    Pages are read on demand, and copied before anybody writes to them. Labels are compared with
    their checksums each time, large ones when they were touched since the last time, which
    ``checked.json`` remembers.

    Args:
        verify: Also compare the sha256 of the images, and do not rely on what is remembered.

    Raises:
        FileNotFoundError: If there is no prepared folder.
        ValueError: If a file does not fit the manifest, a label is none, or a target is the same
            number everywhere.
    """
    command = f"Run: python data_scripts/{form.script} --root FOLDER --out {folder}"
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"nothing prepared in {folder}. {command}")
    try:
        manifest = _read_manifest(folder, form)
        n_rows, arrays = sum(manifest["counts"].values()), {}
        row_types = {**form.row_types(manifest), "split.npy": np.dtype("u1")}
        for name, row in row_types.items():
            size, expected_size = (folder / name).stat().st_size, manifest["files"][name]["bytes"]
            if size != expected_size:
                raise ValueError(f"{name} has {size} bytes, expected {expected_size}")
            array = arrays[name] = map_array(folder / name, "c")
            expected, found = (row.base, (n_rows, *row.shape)), (array.dtype, array.shape)
            if found != expected:
                raise ValueError(f"{name} is {found}, expected {expected}")
        split = np.repeat(np.arange(len(SPLITS)), list(manifest["counts"].values()))
        if not np.array_equal(arrays["split.npy"], split):
            raise ValueError("split.npy does not agree with the counts")
        _check_content(folder, form, manifest["files"], arrays, verify)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = "is damaged or was not written by this version"
        raise ValueError(f"{folder} {what}: {error}. Delete it. {command}") from None
    return manifest, arrays


def _read_manifest(folder: Path, form: Form) -> dict:
    manifest = read_json(folder / "manifest.json", {"format": str})
    if manifest["format"] != form.name:
        raise ValueError(f"format {manifest['format']!r}")
    counts, files = dict.fromkeys(SPLITS, int), dict[str, FileSums]
    check_value(manifest, {"counts": counts, "files": files, **form.manifest})
    if set(manifest["counts"]) != set(SPLITS) or not min(manifest["counts"].values()):
        raise ValueError(f"`counts` must be of {', '.join(SPLITS)} and > 0")
    ranges = manifest.get("ranges", {})
    check_value(ranges, dict[str, Range], "ranges")
    check_ranges(ranges)
    return manifest


def _check_content(
    folder: Path,
    form: Form,
    files: dict[str, FileSums],
    arrays: Mapping[str, np.ndarray],
    verify: bool,
) -> None:
    """Compare checksums, and see that labels are possible ones."""
    remembered: dict[str, list] = {}
    with suppress(OSError, ValueError):
        remembered = read_json(folder / _CHECKED, dict[str, list[Any]])
    now = {}
    for name, array in arrays.items():
        status = (folder / name).stat()
        now[name] = [files[name]["sha256"], status.st_size, status.st_mtime_ns]
        is_known = status.st_size > _LARGE and remembered.get(name) == now[name]
        if not verify and (is_known or name == form.images):
            now[name] = remembered.get(name, [])
            continue
        if sha256(folder / name) != files[name]["sha256"]:
            raise ValueError(
                f"the checksum of {name} is not the manifest's: it was changed since it was written"
            )
        if name in form.limits:
            check_limits(name, array, *form.limits[name])
    if now != remembered and any(array.nbytes > _LARGE for array in arrays.values()):
        with suppress(OSError):  # a folder that may only be read is checked each time
            write_json(folder / _CHECKED, now)


def split_rows(manifest: dict, limit: int | None) -> Iterator[tuple[int, int, int]]:
    """First row of each split, its rows, and how many of them to take of about ``limit``."""
    limit = as_limit(limit)
    counts, start = list(manifest["counts"].values()), 0
    for count in counts:
        share = count if limit is None else max(1, round(limit * count / sum(counts)))
        yield start, count, min(count, share)
        start += count
