"""One atomic file per checkpoint: tensors and a JSON description in a safetensors file, no pickle.

What goes into it is `train`'s business; this file only promises that a reader never sees half.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dmtg_lite.files import write_atomically

FORMAT = "dmtg-checkpoint/3"


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and meta to ``path``: temporary file, fsync, rename.

    Killed at any moment, ``path`` holds the previous checkpoint or the new one.
    """
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
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(header["meta"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of this version ({error}). Delete it, or start in a new "
            "folder."
        ) from error
