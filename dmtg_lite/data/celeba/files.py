"""CelebA as it comes: finding lists and images in the known layouts, and the way to JPEG bytes.

What is in the lists is `lists`, parquet shards are `parquet`, pixels `images`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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

Image = tuple[str, str | bytes]  # what to call it in an error; its path, or the JPEG itself


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
        layout, (there, get) = "zip", _open_zip(images)
    else:
        layout = "kaggle" if attributes.suffix == ".csv" else layout
        there, get = set(os.listdir(images)), partial(os.path.join, images)

    def images_of(rows: np.ndarray) -> Iterator[Image]:
        names = [ids[row] for row in rows]
        if missing := [name for name in names if name not in there]:
            raise FileNotFoundError(
                f"{images} lacks {len(missing)} images of the list, {missing[0]} first."
            )
        return ((name, get(name)) for name in names)

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


def _open_zip(archive: Path) -> tuple[Collection[str], Callable[[str], bytes]]:
    """The images in the unopened zip, and how to read one; here and not in the workers, for an
    open zip holds all its 202,599 members, 140 MB."""
    try:
        file = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{archive} is no complete zip ({error}). Download it again.") from None
    members: dict[str, zipfile.ZipInfo] = {}
    for member in file.infolist():
        path, name = PurePosixPath(member.filename), member.filename
        if ".." in path.parts or path.is_absolute() or "\\" in name or ":" in name:
            raise ValueError(f"{archive} member {name!r} points outside: not the official zip.")
        if not ID.fullmatch(path.name):
            continue  # folders, .DS_Store and the like
        if member.file_size > _MOST_BYTES:
            raise ValueError(f"{archive} member {name!r} is too large for an image of CelebA.")
        if members.setdefault(path.name, member) is not member:
            raise ValueError(f"{archive} has {path.name} more than once.")

    def read(name: str) -> bytes:
        try:
            return file.read(members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ValueError(  # RuntimeError: encrypted, or packed by an unknown method
                f"{archive} member {name} is damaged ({error}). Download the zip again."
            ) from None

    return members, read
