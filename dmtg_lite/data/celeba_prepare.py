"""Writing the prepared CelebA: one uint8 array, labels, split and a manifest, in bounded memory.

The work happens in OUT.partial, which an interrupted run leaves behind and the next one continues;
OUT itself appears only when everything is there. Reading it back is `celeba`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dmtg_lite.data.celeba_files import OFFICIAL_LISTS, SPLITS, find_celeba, sha256
from dmtg_lite.data.celeba_images import SIZE, decode, is_fake
from dmtg_lite.data.celeba_lists import NAMES
from dmtg_lite.data.celeba_source import Reader, Source
from dmtg_lite.files import write_atomically
from dmtg_lite.tasks import CELEBA_9

FORMAT = "dmtg-celeba/1"
ROW = SIZE * SIZE * 3  # bytes of a prepared image
CHUNK = 256  # images a worker does at a time: 3 MB of results
SUITES = {9: tuple(task.name for task in CELEBA_9), 40: NAMES}
SAVE_EVERY = 2.0  # seconds between records of how far the work got
_SPARE = 16 << 20  # bytes of disk to leave free


def prepare_celeba(
    root: str | Path,
    out: str | Path,
    *,
    attributes: int = 9,
    limit: int | None = None,
    antialias: bool = False,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Turn the official CelebA files into a folder that `dmtg_lite.data.celeba` maps into memory.

    Writes ``images.npy`` uint8 (n, 64, 64, 3), ``labels.npy`` uint8 (n, A) of 0 and 1,
    ``split.npy`` uint8 (n,) and ``manifest.json`` with sha256 checksums; rows are sorted by
    split. Killed at any moment and run again, it continues and ends with the same bytes.

    Args:
        root: Folder in any of the layouts of `celeba_files.find_celeba`.
        out: Folder to make. ``out`` + ``.partial`` holds the work until it is complete.
        attributes: 40, or the paper's 9 (default). 40 serves both suites.
        limit: Take about this many images, shared between the splits as in the whole set.
        antialias: Pillow's antialiased filter instead of the paper's plain bilinear.
        jobs: Worker processes; default all cores, or none at all for fewer than 4,000 images.
            A script that calls this needs its ``if __name__ == "__main__":``, as always with workers.
        progress: Show a progress bar.

    Returns:
        ``out``. If it is there already and was made with the same settings, nothing is done.

    Raises:
        ValueError: If an argument, a list or an image is refused; nothing is left behind.
        FileNotFoundError: If a list or an image is missing; nothing is left behind.
        OSError: If the disk is full; nothing is left behind.
        ImportError: If Pillow or tqdm is missing (extra ``data``) or pyarrow (extra ``parquet``).
    """
    try:
        import PIL
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(f'{error.name} is missing. Run: pip install "dmtg-lite[data]"') from None
    if attributes not in SUITES:
        raise ValueError(f"`attributes` must be 9 or 40, got {attributes}.")
    if limit is not None and limit < len(SPLITS):
        raise ValueError(f"`limit` must be at least {len(SPLITS)}, one image a split, got {limit}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, got {jobs}.")
    out = Path(out).absolute()
    partial = out.with_name(out.name + ".partial")
    source = find_celeba(root)
    rows = _choose_rows(source.split, limit)
    source.check(rows)
    manifest = {
        "format": FORMAT,
        "is_fake": is_fake(b"".join(data for _, data in source.reader(rows[:1])())),
        "source": {"layout": source.layout, "files": source.lists, "is_official": _is_official(source)},
        "settings": {
            "attributes": attributes,
            "limit": limit,
            "size": SIZE,
            "antialias": antialias,
            "resize": "Pillow bilinear" if antialias else "bilinear, half-pixel centres, no antialiasing",
            "rounding": "half to even",
        },
        "names": list(SUITES[attributes]),
        "counts": {name: int((source.split[rows] == k).sum()) for k, name in enumerate(SPLITS)},
        "pillow": PIL.__version__,
    }
    if out.exists():
        return _already_there(out, manifest)
    try:
        n_done = _open_partial(partial, manifest, len(rows))
        _check_space(partial, (len(rows) - n_done) * ROW)
        chunks = [rows[start : start + CHUNK] for start in range(n_done, len(rows), CHUNK)]
        jobs = jobs or (1 if len(rows) < 4000 else os.cpu_count() or 1)
        with (
            open(partial / "images.npy", "r+b") as file,
            tqdm(total=len(rows), initial=n_done, unit="image", disable=not progress) as bar,
        ):
            file.seek(0, os.SEEK_END)
            saved = time.monotonic()
            for pixels in _shrink_all(source, chunks, antialias, jobs):
                file.write(pixels)
                n_done += len(pixels)
                bar.update(len(pixels))
                if time.monotonic() > saved + SAVE_EVERY:
                    _save_progress(partial, manifest, n_done, file)
                    saved = time.monotonic()
            _sync(file)
        columns = [NAMES.index(name) for name in SUITES[attributes]]
        _finish(partial, out, manifest, source.labels[np.ix_(rows, columns)], source.split[rows])
    except ValueError:  # a refusal leaves nothing; any other end leaves the work to be continued
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"the disk is full, {out} was not written ({error.strerror}).") from None
    return out


def _choose_rows(split: np.ndarray, limit: int | None) -> np.ndarray:
    """Row numbers sorted by split; with a limit the first of each split, in proportion."""
    rows = [np.flatnonzero(split == k) for k in range(len(SPLITS))]
    for name, there in zip(SPLITS, rows, strict=True):
        if not len(there):
            raise ValueError(f"the partition has no image of the split `{name}`.")
    if limit is not None and limit < len(split):
        shares = [max(1, round(limit * len(there) / len(split))) for there in rows]
        shares[0] = max(1, limit - sum(shares[1:]))  # rounding is settled in train, the largest
        rows = [there[:share] for there, share in zip(rows, shares, strict=True)]
    return np.concatenate(rows)


def _is_official(source: Source) -> bool:
    return all(source.lists.get(name) == digest for name, digest in OFFICIAL_LISTS.items())


def _already_there(out: Path, manifest: dict) -> Path:
    try:
        there = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError):
        there = None
    if there is None or {key: there.get(key) for key in manifest} != manifest:
        raise ValueError(f"{out} exists and holds something else. Delete it or choose another --out.")
    return out


# ---- the folder of unfinished work ---------------------------------------------------------------


def _open_partial(partial: Path, manifest: dict, n_rows: int) -> int:
    """Make ``partial`` ready for appending and say how many images it already holds."""
    try:
        state = json.loads((partial / "progress.json").read_text())
        if state["manifest"] == manifest:
            header = state["header"]
            if (partial / "images.npy").stat().st_size >= header + state["n_done"] * ROW:
                os.truncate(partial / "images.npy", header + state["n_done"] * ROW)
                return state["n_done"]
    except (OSError, ValueError, KeyError):
        pass  # nothing to continue, or of other settings or an earlier format: begin again
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with open(partial / "images.npy", "wb") as file:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (n_rows, SIZE, SIZE, 3)}
        np.lib.format.write_array_header_1_0(file, shape)
        _save_progress(partial, manifest, 0, file)
    return 0


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _save_progress(partial: Path, manifest: dict, n_done: int, images: BinaryIO) -> None:
    """Record that ``n_done`` images are safely on the disk; pixels first, then the number."""
    _sync(images)
    state = {"manifest": manifest, "n_done": n_done, "header": images.tell() - n_done * ROW}
    _write_json(partial / "progress.json", state)


def _write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")


def _check_space(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes + _SPARE:
        raise OSError(
            errno.ENOSPC, f"{(n_bytes + _SPARE) / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
        )


def _finish(partial: Path, out: Path, manifest: dict, labels: np.ndarray, split: np.ndarray) -> None:
    for name, array in (("labels.npy", labels), ("split.npy", split)):
        with open(partial / name, "wb") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
            _sync(file)
    files = {
        name: {"bytes": (partial / name).stat().st_size, "sha256": sha256(partial / name)}
        for name in ("images.npy", "labels.npy", "split.npy")
    }
    _write_json(partial / "manifest.json", {**manifest, "files": files})
    (partial / "progress.json").unlink()
    os.rename(partial, out)
    if os.name == "posix":  # make the rename itself durable
        folder = os.open(out.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


# ---- the workers ---------------------------------------------------------------------------------


def _shrink(read: Reader, antialias: bool) -> np.ndarray:
    """Decode and shrink one chunk: uint8 (m, 64, 64, 3)."""
    return np.stack([decode(name, data, antialias=antialias) for name, data in read()])


def _shrink_all(source: Source, chunks: list[np.ndarray], antialias: bool, jobs: int) -> Iterator[np.ndarray]:
    """Yield the chunks in order, with at most two a worker under way."""
    jobs = min(jobs, len(chunks))
    if jobs <= 1:
        yield from (_shrink(source.reader(rows), antialias) for rows in chunks)
        return
    # Processes, because Pillow holds the interpreter lock while it decodes; not forked from here,
    # because torch has threads. The fork server imports this package once for all workers.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker)
    under_way: deque[Future[np.ndarray]] = deque()
    try:
        for rows in chunks:
            under_way.append(pool.submit(_shrink, source.reader(rows), antialias))
            if len(under_way) > 2 * jobs:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us in order
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)  # a killed parent leaves no orphans
