"""CelebA as it comes: finding lists and images in the known layouts, and the way to their bytes.

What is in the lists is `lists`, parquet shards are `parquet`, pixels `images`.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from dmtg_lite.data.celeba.lists import read_attributes, read_partition
from dmtg_lite.data.foreign_files import read_file
from dmtg_lite.data.open_prepared import sha256
from dmtg_lite.files import check_is_file

IMAGES = "img_align_celeba"
ATTRIBUTE_LIST = "list_attr_celeba"
PARTITION_LIST = "list_eval_partition"
_FILES = (
    (f"{ATTRIBUTE_LIST}.txt", f"{ATTRIBUTE_LIST}.csv"),
    (f"{PARTITION_LIST}.txt", f"{PARTITION_LIST}.csv"),
    # Kaggle's folder is doubled; the authors offer the images as PNG, too
    (f"{IMAGES}/{IMAGES}", IMAGES, f"{IMAGES}.zip", f"{IMAGES}_png"),
)
# Where people keep them below --root: torchvision, the authors, Kaggle, the Hub
_FOLDERS = (
    ".", "celeba", "CelebA", "Anno", "Eval", "Img", "CelebA/Anno", "CelebA/Eval", "CelebA/Img",
    "img_align+identity+attr", "data",
)  # fmt: skip
_IMAGE = re.compile(r"([0-9]{6})\.(?:jpe?g|png|webp)", re.IGNORECASE)  # lists say .jpg for all
_MOST_BYTES = 1 << 20  # a JPEG has 3 to 12 kB, a PNG 80; a hostile zip may claim gigabytes

_SHARDS = ("*.parquet", "*/*.parquet", "*/*/*.parquet")  # the Hub's: CONFIG/SPLIT/0000.parquet
NO_SPLIT = 255  # of an image that no list or name puts into a split

Member = tuple[str, int, int, int, int, int]  # zip, offset, size packed and not, method, CRC
Image = tuple[str, str | bytes | Member]  # name in errors; its path, its bytes, or where they are


@dataclass(frozen=True)
class Source:
    """A CelebA found on disk, checked, with nothing decoded yet."""

    layout: Literal["torchvision", "authors", "kaggle", "zip", "parquet"]
    place: Path  # of the images, to be named in errors
    labels: np.ndarray  # uint8 (n, 40), columns in the order of `NAMES`
    split: np.ndarray  # uint8 (n,): 0 train, 1 val, 2 test, or `NO_SPLIT`
    is_there: np.ndarray  # bool (n,): the images that are on the disk
    lacks: str  # what ``place`` lacks of a partial download, in words; "" of a whole one
    lists: dict[str, str]  # sha256 of every list file read, by file name
    images: Callable[[np.ndarray], Iterator[Image]]  # of ascending rows, all of them there


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
        hint = " It is a file: unpack it and pass the folder." if root.exists() else ""
        raise FileNotFoundError(f"`root` is no folder: {root}.{hint}")
    attributes, partition, images = (_find(root, names) for names in _FILES)
    if attributes is None or partition is None or images is None:
        shards = sorted({path for depth in _SHARDS for path in root.glob(depth)})
        if shards:
            from dmtg_lite.data.celeba.parquet import read_parquet  # pyarrow is an extra

            return read_parquet(root, shards)
        missing = [" or ".join(names) for names in _FILES if _find(root, names) is None]
        raise FileNotFoundError(
            f"no {', no '.join(missing)} and no *.parquet in {root} or its folders "
            f"{', '.join(_FOLDERS[1:])}.{_name_archives(root)} Pass the folder that holds CelebA's "
            "files as --root."
        )
    ids, labels = read_attributes(attributes)
    split = _join_split(ids, read_partition(partition), attributes, partition)
    lists = {path.name: sha256(path) for path in (attributes, partition)}
    layout = "authors" if attributes.parent.name == "Anno" else "torchvision"
    if images.suffix == ".zip":
        layout, there = "zip", _open_zip(images)
    else:
        layout, there = "kaggle" if attributes.suffix == ".csv" else layout, _list_folder(images)
    missing = [name for name in ids if name not in there]
    lacks = ""
    if missing:
        lacks = f"lacks {len(missing)} images of the list, {missing[0]} first"
    is_there = np.array([name in there for name in ids])

    def images_of(rows: np.ndarray) -> Iterator[Image]:
        return ((ids[row], there[ids[row]]) for row in rows)

    return Source(
        layout=layout,
        place=images,
        labels=labels,
        split=split,
        is_there=is_there,
        lacks=lacks,
        lists=lists,
        images=images_of,
    )


def _find(root: Path, names: Sequence[str]) -> Path | None:
    paths = (root / folder / name for name in names for folder in _FOLDERS)
    return next((path for path in paths if path.exists()), None)


def _name_archives(root: Path) -> str:
    """What to do with archives that nobody opened yet, if there are any."""
    found = [path.name for kind in ("*.zip", "*.7z*", "*.tar*") for path in root.glob(kind)]
    if not found:
        return ""
    return (
        f" There is {', '.join(sorted(found)[:3])}, unopened (Kaggle's download is an "
        "archive.zip): unpack it there."
    )


def _list_folder(folder: Path) -> dict[str, str]:
    """Where the images of a folder are, by their names in the lists."""
    there: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if match := _IMAGE.fullmatch(entry.name):
                name = f"{match[1]}.jpg"
                if name not in there or entry.name == name:  # a copy as PNG may lie beside it
                    there[name] = entry.path
    return there


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
    check_is_file(archive, "zip archive")
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
        if min((info.header_offset for info in infos), default=0) < 0:
            raise zipfile.BadZipFile("its end is not where it says")
    except Exception as error:  # noqa: BLE001  zipfile has many ways to find an archive broken
        raise ValueError(f"{archive} is no complete zip ({error}). Download it again.") from None
    members: dict[str, Member] = {}
    for info in infos:
        path, name = PurePosixPath(info.filename), info.filename
        if ".." in path.parts or path.is_absolute() or "\\" in name or ":" in name:
            raise ValueError(f"{archive} member {name!r} points outside: not the official zip.")
        match = _IMAGE.fullmatch(path.name)
        if match is None or "__MACOSX" in path.parts:
            continue  # folders, .DS_Store and the like
        method, size = info.compress_type, info.file_size
        packed = max(size, info.compress_size)
        if info.flag_bits & 1 or method not in (0, 8) or packed > _MOST_BYTES:
            raise ValueError(f"{archive} member {name!r} is encrypted, too large or oddly packed.")
        name = f"{match[1]}.jpg"
        if name in members:
            raise ValueError(f"{archive} has {name} more than once. Download it again.")
        place = (info.header_offset, info.compress_size, size, method, info.CRC)
        members[name] = (str(archive), *place)
    return members


def read(image: Image) -> tuple[str, bytes]:
    """Name and bytes of an image. By offset in the zip: opened as such it holds all its 202,599
    members, 140 MB in each worker, and reading in one process for all is a tenth slower."""
    name, place = image
    if isinstance(place, bytes):
        return name, place
    if isinstance(place, str):
        return place, read_file(place, _MOST_BYTES)
    archive, offset, packed_size, size, method, crc = place
    try:
        with open(archive, "rb", buffering=0) as file:
            file.seek(offset + 26)  # lengths of name and extra field: the directory's differ
            lengths = file.read(4)
            skip = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            file.seek(skip, os.SEEK_CUR)
            data = file.read(packed_size)
        data = data if method == 0 else zlib.decompressobj(-15).decompress(data, size + 1)
    except zlib.error:
        data = b""
    if len(data) != size or zlib.crc32(data) != crc:
        raise ValueError(f"{archive} member {name} is damaged. Download the zip again.")
    return f"{archive} member {name}", data
