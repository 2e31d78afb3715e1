"""Writing the prepared CelebA: one uint8 array, labels, split and a manifest, in bounded memory.

The work happens in OUT.partial, which an interrupted run leaves behind and the next one continues;
OUT itself appears only when everything is there. Reading it back is `celeba`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dmtg_lite.core.tasks import CELEBA_9
from dmtg_lite.data.celeba.files import OFFICIAL_LISTS, SPLITS, find_celeba
from dmtg_lite.data.celeba.images import SIZE, decode, is_fake
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.celeba.source import Reader, Source
from dmtg_lite.data.prepared_folder import already_there, partial_folder
from dmtg_lite.data.workers import in_order

FORMAT = "dmtg-celeba/1"
CHUNK = 256  # images a worker does at a time: 3 MB of results
SUITES = {9: tuple(task.name for task in CELEBA_9), 40: NAMES}
SAVE_EVERY = 2.0  # seconds between records of how far the work got


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
    """Turn the official CelebA files into a folder that `dmtg_lite.data.celeba.load` maps into
    memory.

    Writes ``images.npy`` uint8 (n, 64, 64, 3), ``labels.npy`` uint8 (n, A) of 0 and 1,
    ``split.npy`` uint8 (n,) and ``manifest.json`` with sha256 checksums; rows are sorted by
    split. Killed at any moment and run again, it continues and ends with the same bytes.

    Args:
        root: Folder in any of the layouts of `celeba_files.find_celeba`.
        out: Folder to make. ``out`` + ``.partial`` holds the work until it is complete.
        attributes: 40, or the paper's 9 (default). 40 serves both suites.
        limit: Take about this many images, shared between the splits as in the whole set.
        antialias: Pillow's antialiased filter instead of the paper's plain bilinear.
        jobs: Worker processes; default all cores, or none at all for fewer than 4,000 images.
            A script that calls this needs its ``if __name__ == "__main__":``, as always with
            workers.
        progress: Show a progress bar.

    Returns:
        ``out``. If it is there already and was made with the same settings, nothing is done.

    Raises:
        ValueError: If an argument, a list or an image is refused; nothing is left behind.
        FileNotFoundError: If a list or an image is missing; nothing is left behind.
        OSError: If the disk is full; nothing is left behind.
        ImportError: If Pillow or tqdm is missing (extra ``data``) or pyarrow (extra ``parquet``).
    """
    try:
        import PIL
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(f'{error.name} is missing. Run: pip install "dmtg-lite[data]"') from None
    if attributes not in SUITES:
        raise ValueError(f"`attributes` must be 9 or 40, got {attributes}.")
    if limit is not None and limit < len(SPLITS):
        raise ValueError(f"`limit` must be at least {len(SPLITS)}, one image a split, got {limit}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, got {jobs}.")
    out = Path(out).absolute()
    source = find_celeba(root)
    rows = _choose_rows(source.split, limit)
    source.check(rows)
    manifest = {
        "format": FORMAT,
        "is_fake": is_fake(b"".join(data for _, data in source.reader(rows[:1])())),
        "source": {
            "layout": source.layout,
            "files": source.lists,
            "is_official": _is_official(source),
        },
        "settings": {
            "attributes": attributes,
            "limit": limit,
            "size": SIZE,
            "antialias": antialias,
            "resize": "Pillow bilinear"
            if antialias
            else "bilinear, half-pixel centres, no antialiasing",
            "rounding": "half to even",
        },
        "names": list(SUITES[attributes]),
        "counts": {name: int((source.split[rows] == k).sum()) for k, name in enumerate(SPLITS)},
        "pillow": PIL.__version__,
    }
    if out.exists():
        return already_there(out, manifest)
    image = np.dtype(("u1", (SIZE, SIZE, 3)))
    with (
        partial_folder(
            out, manifest, {"images.npy": image}, len(rows), save_every=SAVE_EVERY
        ) as work,
        tqdm(total=len(rows), initial=work.n_done, unit="image", disable=not progress) as bar,
    ):
        chunks = [rows[start : start + CHUNK] for start in range(work.n_done, len(rows), CHUNK)]
        jobs = jobs or (1 if len(rows) < 4000 else os.cpu_count() or 1)
        arguments = ((source.reader(chunk), antialias) for chunk in chunks)
        try:
            for pixels in in_order(_shrink, arguments, n_workers=min(jobs, len(chunks))):
                work.append({"images.npy": pixels})
                bar.update(len(pixels))
        except (
            ValueError
        ):  # a refusal leaves nothing; any other end leaves the work to be continued
            work.drop()
            raise
        columns = [NAMES.index(name) for name in SUITES[attributes]]
        labels = source.labels[np.ix_(rows, columns)]
        work.finish({"labels.npy": labels, "split.npy": source.split[rows]})
    return out


def _choose_rows(split: np.ndarray, limit: int | None) -> np.ndarray:
    """Row numbers sorted by split; with a limit the first of each split, in proportion."""
    rows = [np.flatnonzero(split == k) for k in range(len(SPLITS))]
    for name, there in zip(SPLITS, rows, strict=True):
        if not len(there):
            raise ValueError(f"the partition has no image of the split `{name}`.")
    if limit is not None and limit < len(split):
        shares = [max(1, round(limit * len(there) / len(split))) for there in rows]
        shares[0] = max(1, limit - sum(shares[1:]))  # rounding is settled in train, the largest
        rows = [there[:share] for there, share in zip(rows, shares, strict=True)]
    return np.concatenate(rows)


def _is_official(source: Source) -> bool:
    return all(source.lists.get(name) == digest for name, digest in OFFICIAL_LISTS.items())


def _shrink(read: Reader, antialias: bool) -> np.ndarray:
    """Decode and shrink one chunk: uint8 (m, 64, 64, 3)."""
    return np.stack([decode(name, data, antialias=antialias) for name, data in read()])
