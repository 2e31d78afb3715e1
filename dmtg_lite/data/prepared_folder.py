"""A folder of large arrays that is written row by row, survives a kill, and appears only when
complete.

The work happens in OUT.partial, which an interrupted run leaves behind and the next one continues.
What the rows are and where they come from is the caller's; opening a finished folder is
`open_prepared`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dmtg_lite.files import write_atomically

_SPARE = 16 << 20  # bytes of disk to leave free


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def already_there(out: Path, manifest: dict) -> Path:
    """Return ``out`` if it was prepared with these settings, refuse anything else under its name."""
    try:
        there = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError):
        there = None
    if there is None or {key: there.get(key) for key in manifest} != manifest:
        raise ValueError(
            f"{out} exists and holds something else. Delete it or choose another --out."
        )
    return out


# ---- writing -------------------------------------------------------------------------------------


class PartialFolder:
    """OUT.partial: arrays that grow by rows, and a record of how many of them are safely on the
    disk.

    Use it through `partial_folder`. ``n_done`` rows were there at the start and need not be written
    again; ``notes`` is what `save` kept with them.
    """

    def __init__(
        self, out: Path, manifest: dict, rows: dict[str, np.dtype], n_rows: int, save_every: float
    ) -> None:
        self.path = out.with_name(out.name + ".partial")
        self.n_done, self.notes = 0, {}
        self._out, self._manifest, self._rows, self._save_every = out, manifest, rows, save_every
        self._headers = {name: _header(n_rows, row) for name, row in rows.items()}
        self._files: dict[str, BinaryIO] = {}
        self._n_rows = n_rows

    def open(self) -> None:
        """Continue what an earlier run left, or begin; refuse a disk that the rest does not fit on."""
        if not self._can_continue():
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            for name, header in self._headers.items():
                (self.path / name).write_bytes(header)
        left = (self._n_rows - self.n_done) * sum(
            row.itemsize for row in self._rows.values()
        ) + _SPARE
        free = shutil.disk_usage(self.path).free
        if free < left:
            raise OSError(
                errno.ENOSPC, f"{left / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
            )
        for name in self._rows:
            self._files[name] = open(self.path / name, "r+b")  # noqa: SIM115
            self._files[name].seek(0, os.SEEK_END)
        self.save(self.notes)

    def _can_continue(self) -> bool:
        try:
            state = json.loads((self.path / "progress.json").read_text())
            if state["manifest"] != self._manifest:
                return False
            ends = {
                name: len(self._headers[name]) + state["n_done"] * row.itemsize
                for name, row in self._rows.items()
            }
            if any((self.path / name).stat().st_size < end for name, end in ends.items()):
                return False
            for name, end in ends.items():
                os.truncate(self.path / name, end)  # rows written after the last record
            for leftover in self.path.glob("*.part"):  # of a kill inside `write_atomically`
                leftover.unlink()
            self.n_done, self.notes = state["n_done"], state["notes"]
        except (OSError, ValueError, KeyError, TypeError):
            return False  # nothing to continue, or of an earlier format
        return True

    def append(self, rows: dict[str, np.ndarray], notes: dict | None = None) -> None:
        """Write the next rows, (m, ...) of every array; from time to time record how far the work got."""
        for name, file in self._files.items():
            if (
                rows[name].dtype != self._rows[name].base
                or rows[name].shape[1:] != self._rows[name].shape
            ):
                raise TypeError(f"rows of {name} are {rows[name].dtype} {rows[name].shape[1:]}")
            file.write(np.ascontiguousarray(rows[name]).data)
        self.n_done += len(next(iter(rows.values())))
        if time.monotonic() > self._saved + self._save_every:
            self.save(notes or {})

    def save(self, notes: dict) -> None:
        """Record that ``n_done`` rows are on the disk, with ``notes``; the rows first, then the number."""
        for file in self._files.values():
            _sync(file)
        state = {"manifest": self._manifest, "n_done": self.n_done, "notes": notes}
        _write_json(self.path / "progress.json", state)
        self._saved = time.monotonic()

    def finish(self, others: dict[str, np.ndarray], more: dict | None = None) -> None:
        """Add the small arrays and the manifest with its checksums, and let OUT appear."""
        for file in self._files.values():
            _sync(file)
        for name, array in others.items():
            with open(self.path / name, "wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
                _sync(file)
        files = {
            name: {"bytes": (self.path / name).stat().st_size, "sha256": sha256(self.path / name)}
            for name in [*self._rows, *others]
        }
        self.close()
        _write_json(self.path / "manifest.json", {**self._manifest, **(more or {}), "files": files})
        (self.path / "progress.json").unlink()
        os.rename(self.path, self._out)
        if os.name == "posix":  # make the rename itself durable
            folder = os.open(self._out.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def drop(self) -> None:
        """Leave nothing behind."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # what is still buffered may not fit on the disk
                file.close()
        self._files = {}
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def partial_folder(
    out: Path, manifest: dict, rows: dict[str, np.dtype], n_rows: int, *, save_every: float
) -> Iterator[PartialFolder]:
    """Open OUT.partial for writing; an error leaves the work to be continued, a full disk leaves
    nothing.

    Args:
        out: Folder that `PartialFolder.finish` makes.
        manifest: Settings and source; work of another manifest is begun again, not continued.
        rows: Name of every array file, and the type of a row, e.g. ``np.dtype(("u1", (64, 64,
            3)))``.
        n_rows: Rows of the finished arrays.
        save_every: Seconds between records of how far the work got.

    Raises:
        OSError: If the disk is full, or will be.
    """
    folder = PartialFolder(out, manifest, rows, n_rows, save_every)
    try:
        folder.open()
        yield folder
        folder.close()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        folder.drop()
        raise OSError(f"the disk is full, {out} was not written ({error.strerror}).") from None
    finally:
        with contextlib.suppress(OSError):
            folder.close()


def _header(n_rows: int, row: np.dtype) -> bytes:
    """What stands before the numbers in a .npy file."""
    descr = np.lib.format.dtype_to_descr(row.base)
    file = io.BytesIO()
    shape = {"descr": descr, "fortran_order": False, "shape": (n_rows, *row.shape)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.getvalue()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")


# ---- opening -------------------------------------------------------------------------------------


def open_prepared(
    folder: Path,
    form: str,
    describe: Callable[[dict], dict[str, np.dtype]],
    *,
    command: str,
    verify: bool,
) -> tuple[dict, dict[str, np.ndarray]]:
    """The manifest of a prepared folder and its arrays, mapped and checked against each other.

    Args:
        folder: The prepared folder.
        form: The ``format`` that the manifest must have.
        describe: Given the manifest, name of every array file and the type of one of its rows.
        command: What makes the folder; named in errors.
        verify: Also compare the sha256 of every file with the manifest.

    Returns:
        The manifest and ``{file name: array}``; pages are read on demand, and copied before anybody
        writes to them.

    Raises:
        FileNotFoundError: If there is no prepared folder.
        ValueError: If a file does not fit the manifest.
    """
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"nothing prepared in {folder}. Run: {command} {folder}")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != form:
            raise ValueError(f"format {manifest['format']!r}")
        counts, files = manifest["counts"], manifest["files"]
        n = sum(counts.values())
        arrays = {}
        for name, row in describe(manifest).items():
            path, said = folder / name, files[name]
            if path.stat().st_size != said["bytes"]:
                raise ValueError(
                    f"{name} has {path.stat().st_size} bytes, expected {said['bytes']}"
                )
            if verify and sha256(path) != said["sha256"]:
                raise ValueError(f"the checksum of {name} is not the manifest's")
            array = arrays[name] = np.load(path, mmap_mode="c", allow_pickle=False)
            if array.dtype != row.base or array.shape != (n, *row.shape):
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}, expected {row.base} {(n, *row.shape)}"
                )
        if not np.array_equal(arrays["split.npy"], np.repeat(np.arange(3), list(counts.values()))):
            raise ValueError("split.npy does not agree with the counts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder} is damaged or was not written by this version: {error}. "
            f"Delete it and run: {command} {folder}"
        ) from None
    return manifest, arrays
