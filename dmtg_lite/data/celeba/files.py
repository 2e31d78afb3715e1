"""CelebA as it comes: finding lists and images in the known layouts, and the way to JPEG bytes.

What is in the lists is `lists`, parquet shards are `parquet`, pixels `images`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from dmtg_lite.data.celeba.lists import ID, read_attributes, read_partition
from dmtg_lite.data.prepared_folder import sha256

IMAGES = "img_align_celeba"
ATTRIBUTE_LIST = "list_attr_celeba"
PARTITION_LIST = "list_eval_partition"
_FILES = (
    (f"{ATTRIBUTE_LIST}.txt", f"{ATTRIBUTE_LIST}.csv"),
    (f"{PARTITION_LIST}.txt", f"{PARTITION_LIST}.csv"),
    (f"{IMAGES}/{IMAGES}", IMAGES, f"{IMAGES}.zip"),  # Kaggle's folder is doubled
)
# Where people keep them below --root: torchvision, the authors, Kaggle, the Hub
_FOLDERS = (
    ".", "celeba", "CelebA", "Anno", "Eval", "Img", "CelebA/Anno", "CelebA/Eval", "CelebA/Img",
    "img_align+identity+attr", "data",
)  # fmt: skip
_MOST_BYTES = 1 << 20  # an official image has 3 to 12 kB; a hostile zip may claim gigabytes

Member = tuple[str, int, int, int, int, int]  # zip, offset, size packed and not, method, CRC
Image = tuple[str, str | bytes | Member]  # name in errors; its path, the JPEG, or where it is


@dataclass(frozen=True)
class Source:
    """A CelebA found on disk, checked, with nothing decoded yet."""

    layout: Literal["torchvision", "authors", "kaggle", "zip", "parquet"]
    labels: np.ndarray  # uint8 (n, 40), columns in the order of `NAMES`
    split: np.ndarray  # uint8 (n,): 0 train, 1 val, 2 test
    lists: dict[str, str]  # sha256 of every list file read, by file name
    images: Callable[[np.ndarray], Iterator[Image]]  # of ascending rows; refuses a missing one


def find_celeba(root: str | Path) -> Source:
    """Find CelebA under ``root`` in any of the known layouts and check its lists.

    Args:
        root: Folder that holds the lists and ``img_align_celeba`` (or its unopened zip) as
            torchvision, the authors' tree or Kaggle lay them out, or a folder of parquet shards.

    Raises:
        FileNotFoundError: If a file is missing; says which and where it was looked for.
        ValueError: If a list or the zip is broken; says where and what to do.
        ImportError: If parquet shards are found and pyarrow is not installed.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"`root` is no folder: {root}.")
    attributes, partition, images = (_find(root, names) for names in _FILES)
    if attributes is None or partition is None or images is None:
        shards = sorted(path for folder in _FOLDERS for path in (root / folder).glob("*.parquet"))
        if shards:
            from dmtg_lite.data.celeba.parquet import read_parquet  # pyarrow is an extra

            return read_parquet(shards)
        missing = [" or ".join(names) for names in _FILES if _find(root, names) is None]
        raise FileNotFoundError(
            f"no {', no '.join(missing)} and no *.parquet in {root} or its folders "
            f"{', '.join(_FOLDERS[1:])}. Pass the folder that holds CelebA's files as --root."
        )
    ids, labels = read_attributes(attributes)
    split = _join_split(ids, read_partition(partition), attributes, partition)
    lists = {path.name: sha256(path) for path in (attributes, partition)}
    layout = "authors" if attributes.parent.name == "Anno" else "torchvision"
    if images.suffix == ".zip":
        layout, there = "zip", _open_zip(images)
    else:
        layout = "kaggle" if attributes.suffix == ".csv" else layout
        there = {entry.name: entry.path for entry in os.scandir(images)}

    def images_of(rows: np.ndarray) -> Iterator[Image]:
        names = [ids[row] for row in rows]
        if missing := [name for name in names if name not in there]:
            raise FileNotFoundError(
                f"{images} lacks {len(missing)} images of the list, {missing[0]} first."
            )
        return ((name, there[name]) for name in names)

    return Source(layout, labels, split, lists, images_of)


def _find(root: Path, names: Sequence[str]) -> Path | None:
    paths = (root / folder / name for name in names for folder in _FOLDERS)
    return next((path for path in paths if path.exists()), None)


def _join_split(
    ids: list[str], partition: dict[str, int], attributes: Path, partitions: Path
) -> np.ndarray:
    """The split of each id, uint8 (n,)."""
    only = set(partition) - set(ids), set(ids) - set(partition)
    for path, lacks in zip((attributes, partitions), only, strict=True):
        if lacks:
            raise ValueError(
                f"{path} lacks {len(lacks)} ids of the other list, {min(lacks)} first: the two "
                "lists are not of one release, or one is cut short."
            )
    return np.array([partition[name] for name in ids], np.uint8)


def _open_zip(archive: Path) -> dict[str, Member]:
    """Where the images are in the unopened zip, by name."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{archive} is no complete zip ({error}). Download it again.") from None
    members: dict[str, Member] = {}
    for info in infos:
        path, name = PurePosixPath(info.filename), info.filename
        if ".." in path.parts or path.is_absolute() or "\\" in name or ":" in name:
            raise ValueError(f"{archive} member {name!r} points outside: not the official zip.")
        if not ID.fullmatch(path.name):
            continue  # folders, .DS_Store and the like
        method, size = info.compress_type, info.file_size
        if info.flag_bits & 1 or method not in (0, 8) or size > _MOST_BYTES:
            raise ValueError(f"{archive} member {name!r} is encrypted, too large or oddly packed.")
        if path.name in members:
            raise ValueError(f"{archive} has {path.name} more than once.")
        place = (info.header_offset, info.compress_size, size, method, info.CRC)
        members[path.name] = (str(archive), *place)
    return members


def read(image: Image) -> tuple[str, bytes]:
    """Name and bytes of an image. By offset in the zip: opened as such it holds all its 202,599
    members, 140 MB in each worker, and reading in one process for all is a tenth slower."""
    name, place = image
    if isinstance(place, bytes):
        return name, place
    if isinstance(place, str):
        return name, Path(place).read_bytes()
    archive, offset, packed_size, size, method, crc = place
    with open(archive, "rb", buffering=0) as file:
        file.seek(offset + 26)  # lengths of name and extra field: the directory's differ
        lengths = file.read(4)
        name_size, extra = (int.from_bytes(part, "little") for part in (lengths[:2], lengths[2:]))
        file.seek(name_size + extra, os.SEEK_CUR)
        data = file.read(packed_size)
    try:
        data = data if method == 0 else zlib.decompressobj(-15).decompress(data, size + 1)
    except zlib.error:
        data = b""
    if len(data) != size or zlib.crc32(data) != crc:
        raise ValueError(f"{archive} member {name} is damaged. Download the zip again.")
    return name, data
