"""A folder of large arrays that is written row by row, survives a kill, and appears only when
complete. What the rows are and where they come from is the caller's; reading it is `open_prepared`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict, TypeVar

import numpy as np

from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.mapped import map_array
from dmtg_lite.data.open_prepared import SPLITS, as_limit, sha256, write_json
from dmtg_lite.data.ranges import Range, check_ranges, join_ranges
from dmtg_lite.data.workers import in_order
from dmtg_lite.files import hold, write_atomically
from dmtg_lite.schema import check_value, read_json

SAVE_EVERY = 5.0  # seconds between records of how far the work got
_SPARE = 16 << 20  # bytes of disk to leave free
_PROGRESS = "progress.json"

Source = TypeVar("Source")
Broken = tuple[int, str]  # number of a source, and what is wrong with it


class Converted(NamedTuple):
    """What became of a few sources."""

    arrays: dict[str, np.ndarray]  # (m, ...) each, of the m sources that are whole
    ranges: dict[str, Range]  # of the targets in them
    broken: Sequence[Broken]  # the others, by their place among the sources


class Progress(TypedDict):
    """How far an interrupted run got."""

    n_done: int  # sources that were converted or found broken
    ranges: dict[str, Range]
    broken: list[tuple[int, str]]


def check_request(limit: int | None, jobs: int | None) -> tuple[int | None, int | None]:
    """Limit and jobs as Python's own numbers; refuses what no data set can be prepared with."""
    for package in ("PIL", "tqdm"):
        if find_spec(package) is None:
            raise ImportError(f'{package} is missing. Run: pip install "dmtg-lite[data]"')
    return as_limit(limit), None if jobs is None else as_whole("jobs", jobs, 1)


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
    convert: Callable[[list[Source]], Converted],
    sources: Callable[[int], Iterable[Source]],
    others: dict[str, np.ndarray | bytes],
    *,
    chunk: int,
    jobs: int,
    progress: bool,
    restart: bool = False,
    n_tolerated: int = 0,
    report_broken: Callable[[list[Broken]], dict] = lambda _: {},
) -> Path:
    """Convert every row and let ``out`` appear; until then the work is in ``out``.partial.

    Args:
        out: Folder to make. If it is there with the same manifest, nothing is done.
        manifest: Settings and source; work of another manifest is refused, not continued.
        split: Of each row, ascending: 0 train, 1 val, 2 test.
        rows: Name of every large array and the type of a row, ``np.dtype(("u1", (64, 64, 3)))``.
        convert: Makes of the sources of m rows their arrays. Worker processes must find it by its
            name.
        sources: Given a row number, what ``convert`` needs for that row and each one after it.
        others: Small files, written whole.
        chunk, jobs: Rows that a worker process does at a time, and how many workers.
        restart: Delete work that an interrupted run with another manifest left.
        n_tolerated: Broken sources that are left out; one more is refused.
        report_broken: What the manifest says of those left out; it keeps what this replaces.

    Raises:
        ValueError: If ``out`` or ``out``.partial hold something else or another process writes
            them, a source is refused, or a target is constant.
        OSError: If the disk is full, or will be. By all of these the work that was done is kept,
            to be continued, but for a constant target.
    """
    import PIL

    out = Path(out).absolute()
    manifest = {**manifest, "counts": _count(split), "pillow": PIL.__version__}
    partial = out.with_name(out.name + ".partial")

    def convert_from(row: int) -> Generator[Converted, None, None]:
        left = iter(sources(row))
        return in_order(convert, iter(lambda: list(islice(left, chunk)), []), n_workers=jobs)

    if out.exists():
        return _already_there(out, manifest)
    with hold(out.with_name(f".{out.name}.lock")) as is_ours:
        if not is_ours:
            raise ValueError(
                f"{out} is being prepared by another process. Wait for it, or choose another --out."
            )
        if out.exists():  # since another process made it
            return _already_there(out, manifest)
        done = _begin(partial, manifest, rows, {*others, "split.npy"}, restart)
        try:
            _reserve(partial, rows, len(split) - done["n_done"])
            _write_rows(partial, manifest, rows, convert_from, done, n_tolerated, progress)
        except (ValueError, OSError) as error:
            _end_with(error, partial, out)
            raise
        _leave_out(partial, manifest, split, rows, done, report_broken)
        whole = np.delete(split, [row for row, _ in done["broken"]]).astype(np.uint8)
        _finish(partial, manifest, rows, {**others, "split.npy": whole})
        os.rename(partial, out)
        (out / _PROGRESS).unlink()  # last: a run killed before goes on from it
    return out


def _count(split: np.ndarray) -> dict[str, int]:
    return {name: int((split == k).sum()) for k, name in enumerate(SPLITS)}


def _leave_out(
    partial: Path,
    manifest: dict,
    split: np.ndarray,
    rows: dict[str, np.dtype],
    done: Progress,
    report_broken: Callable[[list[Broken]], dict],
) -> None:
    """Write into the manifest what was found, and shorten the arrays by what is broken."""
    counts = _count(np.delete(split, [row for row, _ in done["broken"]]))
    try:
        check_ranges(done["ranges"])
        for name, count in counts.items():
            if not count:
                raise ValueError(f"all that is for the split `{name}` is broken. Fetch it again.")
    except ValueError:
        shutil.rmtree(partial, ignore_errors=True)  # rows that are there are not read again
        raise
    if done["ranges"]:
        manifest["ranges"] = done["ranges"]
    if done["broken"]:
        changed = {**report_broken(done["broken"]), "counts": counts}
        planned = {key: manifest[key] for key in changed if key in manifest}
        manifest |= {**changed, "planned": planned}
        for name, row in rows.items():
            _shorten(partial / name, row, sum(counts.values()))


def _end_with(error: Exception, partial: Path, out: Path) -> None:
    """Say where the work is that is kept; where nothing was done yet, nothing is kept."""
    kept = bool(_read_progress(partial).get("n_done"))
    if not kept:
        shutil.rmtree(partial, ignore_errors=True)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        what = f"the disk is full, {out} was not written ({error.strerror})"
        kept_in = f"; what was done is in {partial}, to be continued" if kept else ""
        raise OSError(f"{what}{kept_in}.") from None


def _already_there(out: Path, manifest: dict) -> Path:
    with suppress(OSError, ValueError, TypeError, RecursionError):
        there = json.loads((out / "manifest.json").read_bytes())
        there |= there.get("planned", {})
        if {**there, **manifest} == there:
            return out
    raise ValueError(f"{out} exists and holds something else. Delete it or choose another --out.")


def _read_progress(partial: Path) -> dict:
    """What an interrupted run recorded, and for which manifest; {} if nothing of it can be read."""
    with suppress(OSError, ValueError):
        state = read_json(partial / _PROGRESS, {"manifest": dict[str, Any]})
        state.setdefault("broken", [])  # of versions that tolerated none
        check_value(state, Progress)
        return state
    return {}


def _begin(
    partial: Path, manifest: dict, rows: dict[str, np.dtype], others: set[str], restart: bool
) -> Progress:
    """What an interrupted run left to be continued, or an empty folder and nothing done.

    Raises:
        ValueError: If a folder of this name holds what no run leaves; or work of other settings,
            and ``restart`` is not given.
    """
    partial.mkdir(parents=True, exist_ok=True)
    left, ours = set(os.listdir(partial)), {*rows, *others, _PROGRESS, "manifest.json"}
    scraps = {name for name in left if re.sub(r"\.\d+\.part$", "", name) in ours} - ours
    if left - scraps - ours:
        raise ValueError(
            f"{partial}, where the work would be, holds something else. Move that away, or choose "
            "another --out."
        )
    for name in scraps:  # of a kill inside `write_atomically`
        (partial / name).unlink()
    state, left = _read_progress(partial), left - scraps
    is_possible = state.get("n_done", 0) <= sum(manifest["counts"].values())
    if state.get("manifest") == manifest and is_possible and _are_whole(partial, rows):
        return Progress(n_done=state["n_done"], ranges=state["ranges"], broken=state["broken"])
    if left and state.get("n_done", 1) and not restart:
        n_done = state.get("n_done", "an unknown number of")
        raise ValueError(
            f"{partial} holds interrupted work of other settings, {n_done} rows. Start with those "
            "settings to continue it, choose another --out, or pass --restart to delete it."
        )
    for name in left:
        (partial / name).unlink()
    return Progress(n_done=0, ranges={}, broken=[])


def _are_whole(partial: Path, rows: dict[str, np.dtype]) -> bool:
    try:
        for name in rows:
            map_array(partial / name, "r")
    except (OSError, ValueError):
        return False
    return True


def _reserve(partial: Path, rows: dict[str, np.dtype], n_rows: int) -> None:
    """Refuse to begin what the disk has no room for."""
    need = n_rows * sum(row.itemsize for row in rows.values()) + _SPARE
    free = shutil.disk_usage(partial).free
    if free < need:
        what = f"{need / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
        raise OSError(errno.ENOSPC, what)


def _write_rows(
    partial: Path,
    manifest: dict,
    rows: dict[str, np.dtype],
    convert_from: Callable[[int], Generator[Converted, None, None]],
    done: Progress,
    n_tolerated: int,
    progress: bool,
) -> None:
    """Write the rows that are not there yet and keep ``done`` up to date."""
    from tqdm.auto import tqdm

    n_rows = sum(manifest["counts"].values())

    def save() -> float:
        """Record that the rows are on the disk: first the rows, then their number."""
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
        write_json(partial / _PROGRESS, {"manifest": manifest, **done})
        return time.monotonic()

    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        _check_broken(0, done["broken"], n_tolerated, n_rows)
        if not done["n_done"]:
            save()  # first of all, so that whatever is in the folder is known to be ours
        for name, row in rows.items():
            if not done["n_done"]:
                np.lib.format.open_memmap(partial / name, "w+", row.base, (n_rows, *row.shape))
            start = map_array(partial / name, "r").offset
            files[name] = stack.enter_context(open(partial / name, "r+b"))
            files[name].seek(start + (done["n_done"] - len(done["broken"])) * row.itemsize)
        saved = save()
        bar = tqdm(total=n_rows, initial=done["n_done"], unit="row", disable=not progress)
        stack.enter_context(bar)
        for arrays, ranges, broken in stack.enter_context(closing(convert_from(done["n_done"]))):
            _check_broken(len(done["broken"]), broken, n_tolerated, n_rows)
            n_new = len(next(iter(arrays.values()), ()))
            for name, array in arrays.items():
                files[name].write(np.ascontiguousarray(array, rows[name].base).data)
            done["broken"] += [(done["n_done"] + place, why) for place, why in broken]
            done["ranges"] = join_ranges(done["ranges"], ranges) if n_new else done["ranges"]
            done["n_done"] += n_new + len(broken)
            bar.update(n_new + len(broken))
            if time.monotonic() > saved + SAVE_EVERY:
                saved = save()
        save()


def _check_broken(n_before: int, broken: Sequence[Broken], n_tolerated: int, n_rows: int) -> None:
    if broken and n_before + len(broken) > n_tolerated:
        raise ValueError(
            f"{broken[0][1]} Or, if it comes so, leave it out with a higher --max-broken: it now "
            f"allows {n_tolerated} of {n_rows} views, and {n_before + len(broken)} are broken."
        )


def _shorten(path: Path, row: np.dtype, n_rows: int) -> None:
    """Let an array end after so many rows; numpy pads its header, so that it keeps its length."""
    start = map_array(path, "r").offset
    header = io.BytesIO()
    kind = np.lib.format.dtype_to_descr(row.base)
    shape = {"descr": kind, "fortran_order": False, "shape": (n_rows, *row.shape)}
    np.lib.format.write_array_header_1_0(header, shape)
    assert header.tell() == start
    with open(path, "r+b") as file:
        file.write(header.getvalue())
        file.truncate(start + n_rows * row.itemsize)


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
    write_json(partial / "manifest.json", {**manifest, "files": files})
