"""The prepared CelebA as `TaskData`: images stay in the file and are mapped, never loaded whole.

Making the folder is `celeba_prepare`; this needs neither Pillow nor the original files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40
from dmtg_lite.data.prepared_folder import open_prepared

_SUITES = {"celeba9": CELEBA_9, "celeba40": CELEBA_40}
_SCRIPT = "python data_scripts/prepare_celeba.py --root FOLDER --out"


def celeba(
    folder: str | Path = "prepared/celeba",
    suite: str = "celeba9",
    *,
    limit: int | None = None,
    verify: bool = False,
) -> TaskData:
    """Open the CelebA that ``data_scripts/prepare_celeba.py`` wrote.

    Opening takes a second, whatever the size: batches read their pixels from the mapped file, and
    a change to a tensor stays in memory. Images are NHWC on disk, so a batch is channels_last.

    Args:
        folder: The prepared folder.
        suite: ``"celeba9"`` (the paper's Table 3) or ``"celeba40"``, which needs a folder
            prepared with ``--attributes 40``.
        limit: Use about this many images, the first of each split in proportion.
        verify: Also compare the sha256 of every file with the manifest (seconds for all of CelebA).

    Returns:
        `TaskData` with uint8 images (n, 3, 64, 64); ``.note`` says whether the faces are CelebA's
        or the drawn ones of ``make_toy_celeba.py``.

    Raises:
        FileNotFoundError: If there is no prepared folder; names the command that makes it.
        ValueError: If the suite is unknown or not in the folder, or a file does not fit the
            manifest.
    """
    folder = Path(folder)
    if suite not in _SUITES:
        raise ValueError(f"`suite` must be one of {tuple(_SUITES)}, got {suite!r}.")
    manifest, arrays = open_prepared(
        folder, "dmtg-celeba/1", _describe, command=_SCRIPT, verify=verify
    )
    names = [task.name for task in _SUITES[suite]]
    if not set(names) <= set(manifest["names"]):
        raise ValueError(
            f"{folder} was prepared with {len(manifest['names'])} attributes, {suite!r} needs "
            f"{len(names)}. "
            f"Run: {_SCRIPT} OTHER_FOLDER --attributes 40"
        )
    images = torch.from_numpy(arrays["images.npy"]).permute(0, 3, 1, 2)  # (n, 3, 64, 64), a view
    columns = [manifest["names"].index(name) for name in names]
    labels = torch.from_numpy(arrays["labels.npy"][:, columns].astype(np.int64))  # (n, N)
    splits, start, n_total = [], 0, len(images)
    for count in manifest["counts"].values():
        taken = count if limit is None else min(count, max(1, round(limit * count / n_total)))
        rows = slice(start, start + taken)
        targets = {name: labels[rows, n].contiguous() for n, name in enumerate(names)}
        splits.append(Split(images[rows], targets))
        start += count
    is_fake = manifest["is_fake"]
    note = (
        "Fake CelebA: drawn faces with CelebA's attribute rates and correlations, not CelebA's "
        "images."
        if is_fake
        else "CelebA, aligned images squeezed to 64 x 64 (Liu et al., ICCV 2015; non-commercial "
        "research)."
    )
    return TaskData(f"fake_{suite}" if is_fake else suite, _SUITES[suite], *splits, note=note)


def _describe(manifest: dict) -> dict[str, np.dtype]:
    """The array files and their rows: pixels, labels, and the number of the split."""
    size = manifest["settings"]["size"]
    return {
        "images.npy": np.dtype(("u1", (size, size, 3))),
        "labels.npy": np.dtype(("u1", (len(manifest["names"]),))),
        "split.npy": np.dtype("u1"),
    }
