"""A folder of large arrays that is written row by row, survives a kill, and appears only when
complete; and opening it again. What the rows are and where they come from is the caller's.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from dmtg_lite.data.ranges import check_ranges, join_ranges
from dmtg_lite.data.workers import in_order
from dmtg_lite.files import write_atomically

SPLITS = ("train", "val", "test")
SAVE_EVERY = 5.0  # seconds between records of how far the work got
_SPARE = 16 << 20  # bytes of disk to leave free

Source = TypeVar("Source")


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_request(limit: int | None, jobs: int | None) -> None:
    """Refuse what no data set can be prepared with, before anything is read."""
    for package in ("PIL", "tqdm"):
        if find_spec(package) is None:
            raise ImportError(f'{package} is missing. Run: pip install "dmtg-lite[data]"')
    if limit is not None and limit < len(SPLITS):
        raise ValueError(f"`limit` must be at least {len(SPLITS)}, one a split, got {limit}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, got {jobs}.")


def share_limit(limit: int, split: np.ndarray) -> list[int]:
    """Rows to take of each split: ``limit`` in proportion, at least one of each."""
    shares = [max(1, round(limit * (split == k).sum() / len(split))) for k in range(len(SPLITS))]
    shares[0] = max(1, limit - sum(shares[1:]))  # rounding is settled in train, the largest
    return shares


# ---- writing -------------------------------------------------------------------------------------


def write_prepared(
    out: str | Path,
    manifest: dict,
    split: np.ndarray,
    rows: dict[str, np.dtype],
    convert: Callable[[list[Source]], tuple[dict[str, np.ndarray], dict]],
    sources: Callable[[int], Iterable[Source]],
    others: dict[str, np.ndarray | bytes],
    *,
    chunk: int,
    jobs: int,
    progress: bool,
    keep_refused: bool = False,
) -> Path:
    """Convert every row and let ``out`` appear; until then the work is in ``out``.partial.

    Args:
        out: Folder to make. If it is there with the same manifest, nothing is done.
        manifest: Settings and source; work of another manifest is begun again, not continued.
        split: Of each row, ascending: 0 train, 1 val, 2 test.
        rows: Name of every large array and the type of a row, ``np.dtype(("u1", (64, 64, 3)))``.
        convert: Makes of the sources of m rows their arrays, (m, ...) each, and the `ranges` of
            their targets, if any. Worker processes must find it by its name.
        sources: Given a row number, what ``convert`` needs for that row and each one after it.
        others: Small files, written whole.
        chunk, jobs: Rows that a worker process does at a time, and how many workers.
        keep_refused: Keep the work done so far when a source is refused, to be continued.

    Raises:
        ValueError: If ``out`` holds something else, a source is refused, or a target is constant.
        OSError: If the disk is full, or will be; nothing is left behind.
    """
    import PIL

    out = Path(out).absolute()
    counts = {name: int((split == k).sum()) for k, name in enumerate(SPLITS)}
    manifest = {**manifest, "counts": counts, "pillow": PIL.__version__}
    if out.exists():
        return _already_there(out, manifest)
    partial = out.with_name(out.name + ".partial")

    def convert_from(row: int) -> Iterator[tuple[dict[str, np.ndarray], dict]]:
        left = iter(sources(row))
        return in_order(convert, iter(lambda: list(islice(left, chunk)), []), n_workers=jobs)

    try:
        ranges = _write_rows(partial, manifest, rows, convert_from, progress)
        keep_refused = False  # rows that are all there would not be read again
        check_ranges(ranges)
        more = {"ranges": ranges} if ranges else {}
        _finish(partial, manifest | more, rows, {**others, "split.npy": split.astype(np.uint8)})
    except ValueError:
        if not keep_refused:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # like any other end it leaves the work to be continued
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"the disk is full, {out} was not written ({error.strerror}).") from None
    os.rename(partial, out)
    return out


def _already_there(out: Path, manifest: dict) -> Path:
    with suppress(OSError, ValueError, TypeError):
        there = json.loads((out / "manifest.json").read_text())
        if {**there, **manifest} == there:
            return out
    raise ValueError(f"{out} exists and holds something else. Delete it or choose another --out.")


def _write_rows(
    partial: Path, manifest: dict, rows: dict[str, np.dtype], convert_from: Callable, progress: bool
) -> dict[str, dict]:
    """Write the rows that are not there yet; returns the ranges of all."""
    from tqdm.auto import tqdm

    n_rows = sum(manifest["counts"].values())
    n_done, ranges = _begin(partial, manifest, rows, n_rows)
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name, row in rows.items():
            files[name] = stack.enter_context(open(partial / name, "r+b"))
            files[name].seek(np.load(partial / name, mmap_mode="r").offset + n_done * row.itemsize)

        def save() -> float:
            """Record that the rows are on the disk: first the rows, then their number."""
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
            state = {"manifest": manifest, "n_done": n_done, "ranges": ranges}
            _write_json(partial / "progress.json", state)
            return time.monotonic()

        saved = save()
        bar = tqdm(total=n_rows, initial=n_done, unit="row", disable=not progress)
        stack.enter_context(bar)
        for arrays, more in stack.enter_context(closing(convert_from(n_done))):
            for name, file in files.items():
                file.write(np.ascontiguousarray(arrays[name], rows[name].base).data)
            n_new = len(next(iter(arrays.values())))
            n_done, ranges = n_done + n_new, join_ranges(ranges, more)
            bar.update(n_new)
            if time.monotonic() > saved + SAVE_EVERY:
                saved = save()
        save()
    return ranges


def _begin(
    partial: Path, manifest: dict, rows: dict[str, np.dtype], n_rows: int
) -> tuple[int, dict]:
    """How many rows an earlier run left, and their ranges; else 0 and new files for all rows."""
    try:
        state = json.loads((partial / "progress.json").read_text())
        if state["manifest"] != manifest:
            raise ValueError("work of other settings")
        for name in rows:
            np.load(partial / name, mmap_mode="r")  # refuses a file that is too short
        for leftover in partial.glob("*.part"):  # of a kill inside `write_atomically`
            leftover.unlink()
        n_done, ranges = state["n_done"], state["ranges"]
    except (OSError, ValueError, KeyError, TypeError):
        n_done, ranges = 0, {}  # nothing to continue, or of an earlier format
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    need = (n_rows - n_done) * sum(row.itemsize for row in rows.values()) + _SPARE
    free = shutil.disk_usage(partial).free
    if free < need:
        what = f"{need / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
        raise OSError(errno.ENOSPC, what)
    for name, row in rows.items() if not n_done else ():
        np.lib.format.open_memmap(partial / name, "w+", row.base, (n_rows, *row.shape))
    return n_done, ranges


def _finish(
    partial: Path, manifest: dict, rows: Iterable[str], others: dict[str, np.ndarray | bytes]
) -> None:
    """Add the small files and the manifest with the checksums of all arrays."""
    for name, content in others.items():
        if isinstance(content, np.ndarray):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(content), allow_pickle=False)
            content = buffer.getvalue()
        write_atomically(partial / name, content)
    files = {
        name: {"bytes": (partial / name).stat().st_size, "sha256": sha256(partial / name)}
        for name in [*rows, *others]
        if name.endswith(".npy")
    }
    _write_json(partial / "manifest.json", {**manifest, "files": files})
    (partial / "progress.json").unlink()


def _write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")


# ---- opening -------------------------------------------------------------------------------------


def open_prepared(
    folder: Path,
    form: str,
    row_types: Callable[[dict], dict[str, np.dtype]],
    *,
    script: str,
    verify: bool,
) -> tuple[dict, dict[str, np.ndarray]]:
    """The manifest of a prepared folder and its arrays, mapped and checked against each other.

    Pages are read on demand, and copied before anybody writes to them.

    Args:
        form: The ``format`` that the manifest must have.
        row_types: Given the manifest, name of every array and the type of one row.
        script: What makes the folder; named in errors.
        verify: Also compare the sha256 of every file with the manifest.

    Raises:
        FileNotFoundError: If there is no prepared folder.
        ValueError: If a file does not fit the manifest, or a target is the same number everywhere.
    """
    command = f"Run: python data_scripts/{script} --root FOLDER --out {folder}"
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"nothing prepared in {folder}. {command}")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != form:
            raise ValueError(f"format {manifest['format']!r}")
        check_ranges(manifest.get("ranges", {}))
        split = np.repeat(np.arange(len(SPLITS)), list(manifest["counts"].values()))
        arrays = {}
        for name, row in {**row_types(manifest), "split.npy": np.dtype("u1")}.items():
            said, size = manifest["files"][name], (folder / name).stat().st_size
            if size != said["bytes"]:
                raise ValueError(f"{name} has {size} bytes, expected {said['bytes']}")
            if verify and sha256(folder / name) != said["sha256"]:
                raise ValueError(f"the checksum of {name} is not the manifest's")
            array = arrays[name] = np.load(folder / name, mmap_mode="c", allow_pickle=False)
            expected, found = (row.base, (len(split), *row.shape)), (array.dtype, array.shape)
            if found != expected:
                raise ValueError(f"{name} is {found}, expected {expected}")
        if not np.array_equal(arrays["split.npy"], split):
            raise ValueError("split.npy does not agree with the counts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = "is damaged or was not written by this version"
        raise ValueError(f"{folder} {what}: {error}. Delete it. {command}") from None
    return manifest, arrays


def split_rows(manifest: dict, limit: int | None) -> Iterator[tuple[int, int, int]]:
    """First row of each split, its rows, and how many of them to take of about ``limit``."""
    counts, start = list(manifest["counts"].values()), 0
    for count in counts:
        share = count if limit is None else max(1, round(limit * count / sum(counts)))
        yield start, count, min(count, share)
        start += count
