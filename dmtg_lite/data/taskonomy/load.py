"""The prepared Taskonomy as `TaskData`: images and targets stay in the files, mapped, never loaded
whole.

Making the folder is `taskonomy_prepare`; this needs neither Pillow nor the original files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.tasks import TASKONOMY_5
from dmtg_lite.data.prepared_folder import open_prepared
from dmtg_lite.data.taskonomy.arrays import FORMAT, check_ranges, row_types

_SCRIPT = "python data_scripts/prepare_taskonomy.py --root FOLDER --out"


def taskonomy(
    folder: str | Path = "prepared/taskonomy", *, limit: int | None = None, verify: bool = False
) -> TaskData:
    """Open the Taskonomy that ``data_scripts/prepare_taskonomy.py`` wrote.

    Opening takes a second, whatever the size: batches read their pixels from the mapped files, and
    a change to a tensor stays in memory. Images are NHWC on disk, so a batch is channels_last.

    Args:
        folder: The prepared folder.
        limit: Use about this many views: of each split in proportion, every k-th.
        verify: Also compare the sha256 of every file with the manifest (minutes for a large set).

    Returns:
        `TaskData` with the five tasks of `TASKONOMY_5`: uint8 images (n, 3, H, W); depth in metres
            and
        keypoints and edges in [0, 1], float16 (n, 1, H, W), NaN without a label; normal int8
        (n, 3, H, W), 127 times the unit vector, -128 without a label; segmentation int8 (n, H, W),
        -1 without a label. ``.note`` says whether the rooms are Taskonomy's or drawn.

    Raises:
        FileNotFoundError: If there is no prepared folder; names the command that makes it.
        ValueError: If a file does not fit the manifest, or a target is the same number everywhere.
    """
    folder = Path(folder)
    manifest, arrays = open_prepared(folder, FORMAT, _describe, command=_SCRIPT, verify=verify)
    tensors = {name.removesuffix(".npy"): torch.from_numpy(array) for name, array in arrays.items()}
    n_total = sum(manifest["counts"].values())
    splits, start = [], 0
    for count in manifest["counts"].values():
        taken = count if limit is None else min(count, max(1, round(limit * count / n_total)))
        # a slice with a step, not a list of rows: it maps, a list would load them
        rows = slice(start, start + count // taken * taken, count // taken)
        splits.append(_split({name: tensor[rows] for name, tensor in tensors.items()}))
        start += count
    is_fake = manifest["is_fake"]
    return TaskData(
        "fake_taskonomy5" if is_fake else "taskonomy5", TASKONOMY_5, *splits, note=_note(manifest)
    )


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


def _note(manifest: dict) -> str:
    size, n_buildings = manifest["settings"]["size"], sum(map(len, manifest["buildings"].values()))
    if manifest["is_fake"]:
        return f"Fake Taskonomy: drawn rooms at {size} x {size}, not Taskonomy's images."
    if manifest["settings"]["split"] == "one":
        return (
            f"One building of Taskonomy at {size} x {size} (Zamir et al., CVPR 2018; "
            "non-commercial "
            "research): its rooms are in all three splits."
        )
    return (
        f"Taskonomy, {n_buildings} buildings at {size} x {size} (Zamir et al., CVPR 2018; "
        "non-commercial "
        "research)."
    )


def _describe(manifest: dict) -> dict[str, np.dtype]:
    """The array files and their rows; refuses a target that is the same everywhere."""
    check_ranges(manifest["ranges"])
    return {**row_types(manifest["settings"]["size"]), "split.npy": np.dtype("u1")}
