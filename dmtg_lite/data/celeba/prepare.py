"""Writing the prepared CelebA: one uint8 array, labels, split and a manifest.

Continuing, checksums and workers are `prepared_folder`; reading it back is `load`.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from dmtg_lite.core.tasks import CELEBA_9
from dmtg_lite.data.celeba.files import Image, find_celeba, read
from dmtg_lite.data.celeba.images import SIZE, decode, is_fake
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.prepared_folder import SPLITS, check_request, share_limit, write_prepared

FORMAT = "dmtg-celeba/1"
CHUNK = 256  # images a worker does at a time: 3 MB of results
_RESIZE = {True: "Pillow bilinear", False: "bilinear, half-pixel centres, no antialiasing"}
SUITES = {9: tuple(task.name for task in CELEBA_9), 40: NAMES}
# sha256 of the two official text lists (tensorflow/datasets, url_checksums/celeb_a.txt)
OFFICIAL_LISTS = {
    "list_attr_celeba.txt": "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
    "list_eval_partition.txt": "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
}


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
        root: Folder in any of the layouts of `files.find_celeba`.
        out: Folder to make; if it is there with the same settings, nothing is done.
        attributes: 40, or the paper's 9 (default). 40 serves both suites.
        limit: Take about this many images, shared between the splits as in the whole set.
        antialias: Pillow's antialiased filter instead of the paper's plain bilinear.
        jobs: Worker processes; default all cores, or none at all for fewer than 4,000 images. With
            workers a script needs its ``if __name__ == "__main__":``.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument, a list or an image is refused.
        FileNotFoundError: If a list or an image is missing.
        OSError: If the disk is full; nothing is left behind by any of these.
        ImportError: If Pillow or tqdm is missing (extra ``data``) or pyarrow (extra ``parquet``).
    """
    check_request(limit, jobs)
    if attributes not in SUITES:
        raise ValueError(f"`attributes` must be 9 or 40, got {attributes}.")
    source = find_celeba(root)
    rows = _choose_rows(source.split, limit)
    first = read(next(source.images(rows)))[1]
    manifest = {
        "format": FORMAT,
        "is_fake": is_fake(first),
        "source": {
            "layout": source.layout,
            "files": source.lists,
            "is_official": OFFICIAL_LISTS.items() <= source.lists.items(),
        },
        "settings": {
            "attributes": attributes,
            "limit": limit,
            "size": SIZE,
            "antialias": antialias,
            "resize": _RESIZE[antialias],
            "rounding": "half to even",
        },
        "names": list(SUITES[attributes]),
    }
    columns = [NAMES.index(name) for name in SUITES[attributes]]
    return write_prepared(
        out,
        manifest,
        source.split[rows],
        {"images.npy": np.dtype(("u1", (SIZE, SIZE, 3)))},
        partial(_shrink, antialias=antialias),
        lambda row: source.images(rows[row:]),
        {"labels.npy": source.labels[rows][:, columns]},
        chunk=CHUNK,
        jobs=jobs or (1 if len(rows) < 4000 else os.cpu_count() or 1),
        progress=progress,
    )


def _choose_rows(split: np.ndarray, limit: int | None) -> np.ndarray:
    """Row numbers sorted by split; with a limit the first of each split, in proportion."""
    rows = [np.flatnonzero(split == k) for k in range(len(SPLITS))]
    for name, there in zip(SPLITS, rows, strict=True):
        if not len(there):
            raise ValueError(f"the partition has no image of the split `{name}`.")
    if limit is not None and limit < len(split):
        shares = share_limit(limit, split)
        rows = [there[:share] for there, share in zip(rows, shares, strict=True)]
    return np.concatenate(rows)


def _shrink(images: list[Image], *, antialias: bool) -> tuple[dict[str, np.ndarray], dict]:
    """Decode and shrink a few images: uint8 (m, 64, 64, 3), and no ranges."""
    return {"images.npy": np.stack([decode(*read(i), antialias=antialias) for i in images])}, {}
