"""Writing files so that nobody ever sees half of one. No torch, so that recordings can use it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ABANDONED = 600.0  # seconds without a byte after which nobody writes on at a temporary file


def check_is_file(path: str | Path, what: str = "file") -> Path:
    """Refuse what cannot be read like a file: a folder, a pipe that never ends, a device.

    Args:
        what: Word for what it should be, in messages.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is something else.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no {what} at {path}.")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path} is {kind}, where a {what} is due.")
    return path


def check_writable(folder: str | Path) -> Path:
    """Make a folder if it is missing, and write into it, so that what cannot be is said early.

    Raises:
        ValueError: If it is a file.
        OSError: If it cannot be made or written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, where a folder is due.")
    write_atomically(folder / ".writable", b"").unlink()
    return folder


def write_atomically(path: str | Path, content: bytes, *, is_durable: bool = True) -> Path:
    """Replace ``path`` by ``content`` in one step: temporary file, fsync, rename.

    Killed at any moment, ``path`` holds what it held before or all of ``content``. The folder is
    made if it is missing, and what killed runs left of the same file ten minutes ago is swept.

    Args:
        is_durable: Wait for the disk, so that this holds of a power failure too.

    Raises:
        OSError: With the file's name, also if the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # what writing itself says
            error.filename = str(path)
        raise
    if (
        is_durable and os.name == "posix"
    ):  # the rename itself must reach the disk; Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def _replace(temporary: Path, path: Path) -> None:
    """Rename over ``path``. Windows refuses while somebody reads it, which takes milliseconds."""
    for _ in range(50 if sys.platform == "win32" else 0):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(0.02)
    return os.replace(temporary, path)


def _sweep(path: Path) -> None:
    """Delete the temporary files of writers of ``path`` that were killed."""
    for entry in os.scandir(path.parent):
        middle = entry.name.removeprefix(f"{path.name}.").removesuffix(".part")
        if middle.isdecimal() and entry.name == f"{path.name}.{middle}.part":
            with suppress(OSError):  # another process may have swept it
                if entry.stat().st_mtime < time.time() - _ABANDONED:
                    os.unlink(entry.path)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def hold(path: str | Path) -> Iterator[bool]:
    """Hold an empty lock file while something beside it is worked on: True, or False if another
    process does. A process that ends, in whatever way, holds nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        try:
            _lock(file.fileno())
            # who held it may have deleted it between opening and locking
            is_ours = os.path.samestat(os.stat(path), os.fstat(file.fileno()))
        except (BlockingIOError, PermissionError, FileNotFoundError):
            is_ours = False
        except OSError:  # a disk that knows no locks
            is_ours = True
        try:
            yield is_ours
        finally:
            if is_ours and os.name == "posix":  # while it is held: afterwards it may be another's
                path.unlink(missing_ok=True)
    if is_ours and os.name != "posix":  # Windows deletes no open file
        with suppress(OSError):
            path.unlink()
