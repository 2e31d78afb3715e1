"""A fake CelebA in the official file formats, so that the path from files to training can run.

The faces are drawn and the labels random: nothing in it is CelebA but the byte formats and the
aggregate statistics. Every JPEG says so in a comment, and so does FAKE.txt.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from dmtg_lite.core.checks import as_whole
from dmtg_lite.data.celeba.files import ATTRIBUTE_LIST, IMAGES, PARTITION_LIST
from dmtg_lite.data.celeba.images import FAKE_COMMENT
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.stand_ins.attribute_copula import sample_attributes
from dmtg_lite.data.stand_ins.celeba import draw_face
from dmtg_lite.data.stand_ins.new_folder import new_folder

Layout: TypeAlias = Literal["torchvision", "authors", "kaggle", "zip", "parquet"]
LAYOUTS = get_args(Layout)
# Where attributes, partition and images lie below the root, if not all in `celeba`.
_PLACES = {"authors": ("Anno", "Eval", "Img"), "kaggle": ("", "", IMAGES)}
_SHARES = (162_770 / 202_599, 19_867 / 202_599)  # train, valid; the rest is test
_MARK = (
    "FAKE. The faces in this folder are drawn by a program and the labels are random numbers with\n"
    "the positive rates and correlations of CelebA's attributes. Nothing here is CelebA.\n"
)


def make_fake_celeba(
    out: str | Path,
    *,
    n: int = 600,
    layout: Layout = "torchvision",
    seed: int = 0,
    n_drawn: int | None = None,
    progress: bool = False,
) -> Path:
    """Write ``n`` drawn faces and their lists into the new folder ``out``.

    The layouts hold the same pixels and labels: 178 x 218 baseline RGB JPEGs (in parquet PNGs of
    them, as the Hub's copy has it), 40 attributes, splits in CelebA's proportions, contiguous.

    Args:
        out: Folder to make; it may exist if it is empty.
        n: Images, at least 10.
        layout: ``"torchvision"``, ``"authors"``, ``"kaggle"``, ``"zip"`` or ``"parquet"``.
        seed: Same seed, same faces.
        n_drawn: Draw only so many faces and repeat them; for measuring speed on many files.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument is wrong or ``out`` holds something already.
        ImportError: If Pillow or tqdm (extra ``data``) or pyarrow (extra ``parquet``) is missing.
    """
    out = Path(out).absolute()
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {LAYOUTS}, got {layout!r}.")
    if not 10 <= n <= 999_999:
        raise ValueError(f"`n` must be between 10 and 999,999, got {n}.")
    seed = as_whole("seed", seed, 0)
    n_drawn = min(n, n_drawn or n)
    labels = sample_attributes(n_drawn, seed=seed)[np.arange(n) % n_drawn]
    train, valid = round(n * _SHARES[0]), max(1, round(n * _SHARES[1]))
    split = np.repeat([0, 1, 2], [train, valid, n - train - valid])
    mark = ("FAKE.txt", _MARK)
    with new_folder(out, mark=mark, total=n, unit="face", progress=progress) as (folder, tick):

        def draw_all() -> Iterator[bytes]:
            drawn: list[bytes] = []
            for row in range(n):
                if row < n_drawn:
                    data = encode_face(labels[row], np.random.default_rng([seed, row]))
                    drawn += [data] if n_drawn < n else []
                else:
                    data = drawn[row % n_drawn]
                yield data
                tick()

        if layout == "parquet":
            _write_parquet(folder / "img_align+identity+attr", labels, split, draw_all())
        else:
            _write_files(folder, layout, labels, split, draw_all())
    return out


def encode_face(labels: np.ndarray, rng: np.random.Generator) -> bytes:
    """One drawn face as a JPEG like CelebA's (quality 75, density 72), marked as fake."""
    buffer = io.BytesIO()
    draw_face(labels, rng).save(buffer, "JPEG", quality=75, dpi=(72, 72), comment=FAKE_COMMENT)
    return buffer.getvalue()


def to_png(jpeg: bytes) -> bytes:
    """The pixels of a drawn face as a PNG, marked as fake too."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark, buffer = PngInfo(), io.BytesIO()
    mark.add_text("Comment", FAKE_COMMENT)
    Image.open(io.BytesIO(jpeg)).save(buffer, "PNG", pnginfo=mark)
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
    out: Path, layout: str, labels: np.ndarray, split: np.ndarray, images: Iterable[bytes]
) -> None:
    ids = [f"{row + 1:06d}.jpg" for row in range(len(labels))]
    anno, evaluation, img = (out / place for place in _PLACES.get(layout, ("celeba",) * 3))
    for folder in (anno, evaluation, img):
        folder.mkdir(parents=True, exist_ok=True)
    if layout == "kaggle":
        rows = [["image_id", *NAMES]]
        rows += [
            [name, *map(str, v)] for name, v in zip(ids, 2 * labels.astype(int) - 1, strict=True)
        ]
        attributes = "".join(",".join(row) + "\n" for row in rows).encode()
        suffix, pairs = ".csv", "image_id,partition\r\n"
    else:
        attributes, suffix, pairs = attribute_text(labels), ".txt", ""
    comma = "," if layout == "kaggle" else " "
    pairs += "".join(f"{name}{comma}{k}\r\n" for name, k in zip(ids, split, strict=True))
    (anno / f"{ATTRIBUTE_LIST}{suffix}").write_bytes(attributes)
    (evaluation / f"{PARTITION_LIST}{suffix}").write_bytes(pairs.encode())
    if layout == "zip":
        with zipfile.ZipFile(img / f"{IMAGES}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in zip(ids, images, strict=True):
                archive.writestr(f"{IMAGES}/{name}", data)
        return
    (img / IMAGES).mkdir()
    for name, data in zip(ids, images, strict=True):
        (img / IMAGES / name).write_bytes(data)


def _write_parquet(
    out: Path, labels: np.ndarray, split: np.ndarray, images: Iterator[bytes]
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
                "image": [{"bytes": to_png(next(images)), "path": None} for _ in rows],
                "celeb_id": pa.array(rows, pa.int64()),
                **{attribute: labels[rows, a].astype(bool) for a, attribute in enumerate(NAMES)},
            }
            path = out / f"{name}-{shard:05d}-of-{len(parts):05d}.parquet"
            pq.write_table(pa.table(columns), path, row_group_size=100)
