"""Writing the prepared CelebA: one uint8 array, labels, split and a manifest.

Continuing, checksums and workers are `prepared_folder`; reading it back is `load`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dmtg_lite.core.checks import as_number
from dmtg_lite.core.tasks import CELEBA_9
from dmtg_lite.data.celeba.files import NO_SPLIT, Image, Source, find_celeba, read
from dmtg_lite.data.celeba.images import SIZE, decode, is_fake
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.prepared_folder import (
    SPLITS,
    Converted,
    check_request,
    share_limit,
    write_prepared,
)

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
    split_fractions: Sequence[float] | None = None,
    antialias: bool = False,
    jobs: int | None = None,
    restart: bool = False,
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
        limit: Take about this many images, shared between the splits as in the whole set. Of a
            partial download those that are there count as the whole set; without a limit it is
            refused.
        split_fractions: Leave the official partition aside and give these shares of the images, in
            their order, to train, val and test; for a sample that lacks one of the splits. People
            may then be in two of them.
        antialias: Pillow's antialiased filter instead of the paper's plain bilinear.
        jobs: Worker processes; default all cores, or none at all for fewer than 4,000 images. With
            workers a script needs its ``if __name__ == "__main__":``.
        restart: Delete what an interrupted run with other settings left.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument, a list or an image is refused, or ``out`` is in use.
        FileNotFoundError: If a list or an image is missing.
        OSError: If the disk is full. Work that was done is kept by all of these, to be continued.
        ImportError: If Pillow or tqdm is missing (extra ``data``) or pyarrow (extra ``parquet``).
    """
    limit, jobs = check_request(limit, jobs)
    if attributes not in SUITES:
        raise ValueError(f"`attributes` must be 9 or 40, got {attributes}.")
    fractions = None if split_fractions is None else _as_fractions(split_fractions)
    source = find_celeba(root)
    rows, split = _choose_rows(source, limit, fractions)
    manifest = _describe_source(source, rows, attributes)
    manifest["settings"] |= {"limit": limit, "antialias": antialias, "resize": _RESIZE[antialias]}
    if fractions is not None:
        manifest["settings"]["split_fractions"] = fractions
    columns = [NAMES.index(name) for name in SUITES[attributes]]
    return write_prepared(
        out,
        manifest,
        split,
        {"images.npy": np.dtype(("u1", (SIZE, SIZE, 3)))},
        partial(_shrink, antialias=antialias),
        lambda row: source.images(rows[row:]),
        {"labels.npy": source.labels[rows][:, columns]},
        chunk=CHUNK,
        jobs=jobs or (1 if len(rows) < 4000 else os.cpu_count() or 1),
        restart=restart,
        progress=progress,
    )


def _describe_source(source: Source, rows: np.ndarray, attributes: int) -> dict:
    """What the manifest says of the files that were found, and of what is always so."""
    found: dict = {
        "layout": source.layout,
        "files": source.lists,
        "is_official": OFFICIAL_LISTS.items() <= source.lists.items(),
    }
    if source.lacks:  # more may have come when an interrupted run is continued
        found["partial"] = {
            "lacks": source.lacks,
            "images_there": int(source.is_there.sum()),
            "rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        }
    names = list(SUITES[attributes])
    return {
        "format": FORMAT,
        "is_fake": is_fake(read(next(source.images(rows)))[1]),
        "source": found,
        "settings": {"attributes": len(names), "size": SIZE, "rounding": "half to even"},
        "names": names,
    }


def describe(out: Path) -> list[str]:
    """What is not as in the whole CelebA, in a few lines."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    lines = []
    if partial := manifest["source"].get("partial"):
        n_taken = sum(manifest["counts"].values())
        lines.append(
            f"the download {partial['lacks']}: {n_taken} of {partial['images_there']} images taken"
        )
    if fractions := manifest["settings"].get("split_fractions"):
        lines.append(f"the official partition is left aside for shares of {fractions}")
    return lines


def _as_fractions(fractions: Sequence[float]) -> list[float]:
    """Three shares as Python's own numbers."""
    shares = [as_number(share) or 0.0 for share in fractions]
    if len(shares) != len(SPLITS) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            "`split_fractions` must be three shares > 0 of train, val and test that sum to 1, such "
            f"as 0.8 0.1 0.1, got {' '.join(map(str, fractions))}."
        )
    return shares


def _choose_rows(
    source: Source, limit: int | None, fractions: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers sorted by split, and their splits; with a limit the first, in proportion."""
    there = np.flatnonzero(source.is_there)
    if source.lacks and limit is None:
        raise FileNotFoundError(
            f"{source.place} {source.lacks}. Fetch them, or pass --limit N to take about N of the "
            f"{len(there)} images that are there."
        )
    split = source.split[there]
    if fractions is not None:
        ends = np.rint(np.cumsum(fractions) * len(there)).astype(int)
        split = np.searchsorted(ends[:2], np.arange(len(there)), side="right").astype(np.uint8)
    for k, name in ((NO_SPLIT, ""), *enumerate(SPLITS)):
        if (split == k).any() == (k == NO_SPLIT):
            what = f"has no image of the split `{name}`" if name else "has images of no split"
            raise ValueError(
                f"{source.place} {what} ({len(there)} images are there). Fetch the others, or pass "
                "--split-fractions 0.8 0.1 0.1 to divide those that are there anew."
            )
    rows = [np.flatnonzero(split == k) for k in range(len(SPLITS))]
    if limit is not None and limit < len(split):
        shares = share_limit(limit, split)
        rows = [of_split[:share] for of_split, share in zip(rows, shares, strict=True)]
    chosen = np.concatenate(rows)
    return there[chosen], split[chosen]


def _shrink(images: list[Image], *, antialias: bool) -> Converted:
    """Decode and shrink a few images: uint8 (m, 64, 64, 3)."""
    pixels = [decode(*read(image), antialias=antialias) for image in images]
    return Converted({"images.npy": np.stack(pixels)}, {}, ())
