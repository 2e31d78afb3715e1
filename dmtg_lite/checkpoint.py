"""One atomic file per checkpoint: tensors and a JSON description in a safetensors file, no pickle.

What goes into it is `train`'s business; this file only promises that a reader never sees half.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT = "dmtg-checkpoint/1"


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and meta to ``path``: temporary file, fsync, rename.

    Killed at any moment, ``path`` holds the previous checkpoint or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        metadata={"format": FORMAT, "meta": json.dumps(meta)},
    )
    write_atomically(path, content)


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this format.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(f"format {header.get('format')!r}, expected {FORMAT!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(header["meta"])
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of this version ({error}). Delete it, or start in a new folder."
        ) from error


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step: a reader, or a power cut, sees old or new."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself must reach the disk too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
