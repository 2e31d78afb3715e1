"""The prepared CelebA as `TaskData`: images stay in the file and are mapped, never loaded whole.

Making the folder is `prepare`; this needs neither Pillow nor the original files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.mapped import as_mapped
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40
from dmtg_lite.data.open_prepared import Form, open_prepared, split_rows

_SUITES = {"celeba9": CELEBA_9, "celeba40": CELEBA_40}


@sealed()
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
        suite: ``"celeba9"`` (the paper's Table 3) or ``"celeba40"``, which needs a folder
            prepared with ``--attributes 40``.
        limit: Use about this many images, the first of each split in proportion.
        verify: Also compare the sha256 of the images with the manifest (seconds for all of
            CelebA); that of the labels is compared each time.

    Returns:
        `TaskData` with uint8 images (n, 3, 64, 64); ``.note`` says whether the faces are CelebA's
        or the drawn ones of ``make_toy_celeba.py``.

    Raises:
        FileNotFoundError: If there is no prepared folder; names the command that makes it.
        ValueError: If the suite is unknown or not in the folder, or a file is damaged.
    """
    if suite not in _SUITES:
        raise ValueError(f"`suite` must be one of {tuple(_SUITES)}, got {suite!r}.")
    manifest, arrays = open_prepared(Path(folder), FORM, verify=verify)
    names = [task.name for task in _SUITES[suite]]
    if not set(names) <= set(manifest["names"]):
        raise ValueError(
            f"{folder} was prepared with {len(manifest['names'])} attributes, {suite!r} needs "
            f"{len(names)}. Prepare another folder with --attributes 40."
        )
    images = as_mapped(arrays["images.npy"]).permute(0, 3, 1, 2)  # (n, 3, 64, 64), a view
    columns = [manifest["names"].index(name) for name in names]
    labels = torch.from_numpy(arrays["labels.npy"][:, columns].astype(np.int64))  # (n, N)
    splits = []
    for start, _, n_taken in split_rows(manifest, limit):
        rows = slice(start, start + n_taken)
        targets = {name: labels[rows, n].contiguous() for n, name in enumerate(names)}
        splits.append(Split(images[rows], targets))
    note = "CelebA, aligned images squeezed to 64 x 64 (Liu et al., ICCV 2015; non-commercial"
    name, note = suite, f"{note} research)."
    if manifest["is_fake"]:
        note = "drawn faces with CelebA's attribute rates and correlations, not CelebA's images."
        name, note = f"fake_{suite}", f"Fake CelebA: {note}"
    if manifest["settings"].get("split_fractions"):
        note += " Not divided as officially: people may be in two splits."
    return TaskData(name, _SUITES[suite], *splits, note=note)


def _row_types(manifest: dict) -> dict[str, np.dtype]:
    size = manifest["settings"]["size"]
    return {
        "images.npy": np.dtype(("u1", (size, size, 3))),
        "labels.npy": np.dtype(("u1", (len(manifest["names"]),))),
    }


FORM = Form(
    name="dmtg-celeba/1",
    script="prepare_celeba.py",
    manifest={"is_fake": bool, "names": list[str], "settings": {"size": int}},
    row_types=_row_types,
    images="images.npy",
    limits={"labels.npy": (0, 1)},
)
