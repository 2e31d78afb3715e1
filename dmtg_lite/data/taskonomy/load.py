"""The prepared Taskonomy as `TaskData`: images and targets stay in the files, mapped.

Making the folder is `prepare`; this needs neither Pillow nor the original files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.mapped import as_mapped
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import TASKONOMY_5
from dmtg_lite.data.open_prepared import SPLITS, Form, open_prepared, split_rows
from dmtg_lite.data.ranges import Range
from dmtg_lite.data.taskonomy.arrays import FORMAT, LIMITS, row_types


@sealed()
def taskonomy(
    folder: str | Path = "prepared/taskonomy", *, limit: int | None = None, verify: bool = False
) -> TaskData:
    """Open the Taskonomy that ``data_scripts/prepare_taskonomy.py`` wrote.

    Opening takes a second, whatever the size, but the first time after the folder was made or
    copied, when every target is read and compared with its checksum (half a GB a second). Batches
    read their pixels from the mapped files, and a change to a tensor stays in memory. Images are
    NHWC on disk, so a batch is channels_last.

    Args:
        limit: Use about this many views: of each split in proportion, every k-th.
        verify: Compare the sha256 of every file with the manifest, images too, whatever was
            compared before (minutes for a large set).

    Returns:
        `TaskData` with the five tasks of `TASKONOMY_5`: uint8 images (n, 3, H, W); depth in metres,
        keypoints and edges in [0, 1], float16 (n, 1, H, W), NaN without a label; normal int8
        (n, 3, H, W), 127 times the unit vector, -128 without a label; segmentation int8 (n, H, W),
        -1 without a label. ``.note`` says whether the rooms are Taskonomy's or drawn.

    Raises:
        FileNotFoundError: If there is no prepared folder; names the command that makes it.
        ValueError: If a file does not fit the manifest, or a target is the same number everywhere.
    """
    manifest, arrays = open_prepared(Path(folder), FORM, verify=verify)
    tensors = {name.removesuffix(".npy"): as_mapped(array) for name, array in arrays.items()}
    splits = []
    for start, count, n_taken in split_rows(manifest, limit):
        step = count // n_taken
        # a slice with a step, not a list of rows: it maps, a list would load them
        rows = slice(start, start + n_taken * step, step)
        splits.append(_split({name: tensor[rows] for name, tensor in tensors.items()}))
    size, n_buildings = manifest["settings"]["size"], sum(map(len, manifest["buildings"].values()))
    note = f"at {size} x {size} (Zamir et al., CVPR 2018; non-commercial research)"
    if manifest["is_fake"]:
        note = f"Fake Taskonomy: drawn rooms at {size} x {size}, not Taskonomy's images."
    elif manifest["settings"]["split"] == "one":
        note = f"One building of Taskonomy {note}: its rooms are in all three splits."
    elif manifest["settings"]["split"] == "points":
        note = f"Taskonomy {note}: the rooms of each building are in all three splits."
    else:
        note = f"Taskonomy, {n_buildings} buildings {note}."
    name = "fake_taskonomy5" if manifest["is_fake"] else "taskonomy5"
    return TaskData(name, TASKONOMY_5, *splits, note=note)


def _split(part: dict[str, Tensor]) -> Split:
    """Channels first, as views of the mapped files."""
    targets = {
        "depth": part["depth"][:, None],  # (n, 1, H, W)
        "normal": part["normal"].permute(0, 3, 1, 2),
        "segmentation": part["segmentation"],  # (n, H, W)
        "keypoints": part["keypoints"][:, None],
        "edges": part["edges"][:, None],
    }
    return Split(part["rgb"].permute(0, 3, 1, 2), targets)


def _row_types(manifest: dict) -> dict[str, np.dtype]:
    return row_types(manifest["settings"]["size"])


FORM = Form(
    name=FORMAT,
    script="prepare_taskonomy.py",
    manifest={
        "is_fake": bool,
        "settings": {"size": int, "split": Any},
        "buildings": dict.fromkeys(SPLITS, dict[str, int]),
        "ranges": {task.name: Range for task in TASKONOMY_5},
    },
    row_types=_row_types,
    images="rgb.npy",
    limits=LIMITS,
)
