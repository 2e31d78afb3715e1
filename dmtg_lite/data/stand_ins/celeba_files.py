"""A fake CelebA in the official file formats, so that the whole path from files to training can
run.

The faces are drawn and the labels random: nothing in it is CelebA but the byte formats and the
aggregate statistics. Every JPEG says so in a comment, and so does FAKE.txt.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dmtg_lite.data.celeba.files import ATTRIBUTE_LIST, IMAGES, PARTITION_LIST
from dmtg_lite.data.celeba.images import FAKE_COMMENT
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.stand_ins.attribute_copula import sample_attributes
from dmtg_lite.data.stand_ins.celeba import draw_face

LAYOUTS = ("torchvision", "authors", "kaggle", "zip", "parquet")
_SHARES = (162_770 / 202_599, 19_867 / 202_599)  # train, valid; the rest is test
_MARK = (
    "FAKE. The faces in this folder are drawn by a program and the labels are random numbers with\n"
    "the positive rates and correlations of CelebA's attributes. Nothing here is CelebA.\n"
)


def make_fake_celeba(
    out: str | Path,
    *,
    n: int = 600,
    layout: str = "torchvision",
    seed: int = 0,
    n_drawn: int | None = None,
    progress: bool = False,
) -> Path:
    """Write ``n`` drawn faces and their lists into the new folder ``out``.

    The layouts hold the same images and labels: 178 x 218 baseline RGB JPEGs, 40 attributes,
    splits in CelebA's proportions, contiguous.

    Args:
        out: Folder to make.
        n: Images, at least 10.
        layout: ``"torchvision"``, ``"authors"``, ``"kaggle"``, ``"zip"`` or ``"parquet"``.
        seed: Same seed, same faces.
        n_drawn: Draw only so many faces and repeat them; for measuring speed on many files.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument is wrong or ``out`` exists already.
        ImportError: If Pillow or tqdm (extra ``data``) or pyarrow (extra ``parquet``) is missing.
    """
    out = Path(out).absolute()
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {LAYOUTS}, got {layout!r}.")
    if not 10 <= n <= 999_999:
        raise ValueError(f"`n` must be between 10 and 999,999, got {n}.")
    if out.exists():
        raise ValueError(f"{out} exists already. Delete it or choose another --out.")
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(f'{error.name} is missing. Run: pip install "dmtg-lite[data]"') from None
    n_drawn = min(n, n_drawn or n)
    labels = sample_attributes(n_drawn, seed=seed)[np.arange(n) % n_drawn]
    split = np.repeat(
        [0, 1, 2], [(a := round(n * _SHARES[0])), (b := max(1, round(n * _SHARES[1]))), n - a - b]
    )
    images = iter(
        tqdm(_draw_all(labels, n_drawn, seed), total=n, unit="face", disable=not progress)
    )
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        (partial / "FAKE.txt").write_text(_MARK)
        if layout == "parquet":
            _write_parquet(partial / "img_align+identity+attr", labels, split, images)
        else:
            _write_files(partial, layout, labels, split, images)
        os.rename(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def _draw_all(labels: np.ndarray, n_drawn: int, seed: int) -> Iterator[tuple[str, bytes]]:
    drawn: list[bytes] = []
    for row, values in enumerate(labels):
        if row < n_drawn:
            data = encode_face(values, np.random.default_rng([seed, row]))
            drawn += [data] if n_drawn < len(labels) else []
        else:
            data = drawn[row % n_drawn]
        yield f"{row + 1:06d}.jpg", data


def encode_face(labels: np.ndarray, rng: np.random.Generator) -> bytes:
    """One drawn face as a JPEG like CelebA's (quality 75, density 72), marked as fake in a comment."""
    buffer = io.BytesIO()
    draw_face(labels, rng).save(buffer, "JPEG", quality=75, dpi=(72, 72), comment=FAKE_COMMENT)
    return buffer.getvalue()


def attribute_text(labels: np.ndarray) -> bytes:
    """``list_attr_celeba.txt`` byte for byte as CelebA writes it.

    CRLF, a blank after the last name, and columns that look fixed-width but lose a blank where
    the first value is 1.
    """
    lines = [str(len(labels)), " ".join(NAMES) + " "]
    for row, values in enumerate(2 * labels.astype(int) - 1, 1):
        lines.append(f"{row:06d}.jpg {values[0]}" + "".join(f" {value:2d}" for value in values[1:]))
    return "".join(line + "\r\n" for line in lines).encode()


def _write_files(
    out: Path,
    layout: str,
    labels: np.ndarray,
    split: np.ndarray,
    images: Iterator[tuple[str, bytes]],
) -> None:
    ids = [f"{row + 1:06d}.jpg" for row in range(len(labels))]
    places = {"authors": ("Anno", "Eval", "Img"), "kaggle": ("", "", IMAGES)}
    anno, evaluation, img = (
        out / name for name in places.get(layout, ("celeba", "celeba", "celeba"))
    )
    for folder in (anno, evaluation, img):
        folder.mkdir(parents=True, exist_ok=True)
    if layout == "kaggle":
        rows = [
            ",".join([name, *map(str, v)])
            for name, v in zip(ids, 2 * labels.astype(int) - 1, strict=True)
        ]
        header = ",".join(["image_id", *NAMES])
        (anno / f"{ATTRIBUTE_LIST}.csv").write_bytes("\n".join([header, *rows, ""]).encode())
        pairs = [
            "image_id,partition",
            *(f"{name},{k}" for name, k in zip(ids, split, strict=True)),
            "",
        ]
        (evaluation / f"{PARTITION_LIST}.csv").write_bytes("\r\n".join(pairs).encode())
    else:
        (anno / f"{ATTRIBUTE_LIST}.txt").write_bytes(attribute_text(labels))
        pairs = [f"{name} {k}\r\n" for name, k in zip(ids, split, strict=True)]
        (evaluation / f"{PARTITION_LIST}.txt").write_bytes("".join(pairs).encode())
    if layout == "zip":
        with zipfile.ZipFile(img / f"{IMAGES}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in images:
                archive.writestr(f"{IMAGES}/{name}", data)
        return
    (img / IMAGES).mkdir()
    for name, data in images:
        (img / IMAGES / name).write_bytes(data)


def _write_parquet(
    out: Path, labels: np.ndarray, split: np.ndarray, images: Iterator[tuple[str, bytes]]
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(
            'writing parquet needs pyarrow. Run: pip install "dmtg-lite[parquet]"'
        ) from None
    out.mkdir()
    for k, name in enumerate(("train", "valid", "test")):
        parts = np.array_split(np.flatnonzero(split == k), 2 if k == 0 else 1)
        for shard, rows in enumerate(parts):
            columns = {
                "image": [{"bytes": next(images)[1], "path": None} for _ in rows],
                "celeb_id": pa.array(rows, pa.int64()),
                **{attribute: labels[rows, a].astype(bool) for a, attribute in enumerate(NAMES)},
            }
            path = out / f"{name}-{shard:05d}-of-{len(parts):05d}.parquet"
            pq.write_table(pa.table(columns), path, row_group_size=100)
