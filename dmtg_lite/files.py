"""Writing files so that nobody ever sees half of one. No torch, so that recordings can use it."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Replace ``path`` by ``content`` in one step: temporary file, fsync, rename.

    Killed at any moment, ``path`` holds what it held before or all of ``content``. The folder is
    made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself must reach the disk; Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path
