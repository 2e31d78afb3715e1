"""CelebA as it comes: finding lists and images in the known layouts, and reading JPEG bytes from
them.

Reading the lists is `celeba_lists`, parquet shards `celeba_parquet`, decoding `celeba_images`,
writing the prepared folder `celeba_prepare`.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from dmtg_lite.data.celeba.lists import ID, join_split, read_attributes, read_partition
from dmtg_lite.data.celeba.source import Reader, Source
from dmtg_lite.data.prepared_folder import sha256

SPLITS = ("train", "val", "test")
IMAGES = "img_align_celeba"
ATTRIBUTE_LIST = "list_attr_celeba"
PARTITION_LIST = "list_eval_partition"
# sha256 of the two official text lists (tensorflow/datasets, url_checksums/celeb_a.txt)
OFFICIAL_LISTS = {
    "list_attr_celeba.txt": "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
    "list_eval_partition.txt": "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
}
# Where people keep the files, relative to --root: torchvision's folder, the authors' tree,
# Kaggle's.
_FOLDERS = (
    "", "celeba", "CelebA", "Anno", "Eval", "Img", "CelebA/Anno", "CelebA/Eval", "CelebA/Img",
    "img_align+identity+attr", "data",
)  # fmt: skip
_MOST_BYTES = (
    1 << 20
)  # an official image has 3 to 12 kB; a member of a hostile zip may claim gigabytes


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
    attribute_file = _find(root, f"{ATTRIBUTE_LIST}.txt", f"{ATTRIBUTE_LIST}.csv")
    if attribute_file is None:
        shards = sorted(path for folder in _FOLDERS for path in (root / folder).glob("*.parquet"))
        if shards:
            from dmtg_lite.data.celeba.parquet import read_parquet  # pyarrow is an extra

            return read_parquet(shards)
        raise FileNotFoundError(
            f"no {ATTRIBUTE_LIST}.txt, {ATTRIBUTE_LIST}.csv or *.parquet in {root} or its folders "
            "celeba, CelebA, Anno, data. Pass the folder that holds the CelebA files as --root."
        )
    partition_file = _find(root, f"{PARTITION_LIST}.txt", f"{PARTITION_LIST}.csv")
    if partition_file is None:
        raise FileNotFoundError(
            f"no {PARTITION_LIST}.txt or .csv in {root} or its folders celeba, Eval."
        )
    ids, labels = read_attributes(attribute_file)
    split = join_split(ids, read_partition(partition_file), attribute_file, partition_file)
    lists = {path.name: sha256(path) for path in (attribute_file, partition_file)}
    folder = _find(root, f"{IMAGES}/{IMAGES}", IMAGES, is_dir=True)  # Kaggle's is doubled
    if folder is not None:
        layout = "authors" if attribute_file.parent.name == "Anno" else "torchvision"
        layout = "kaggle" if attribute_file.suffix == ".csv" else layout
        return _with_folder(layout, ids, labels, split, lists, folder)
    archive = _find(root, f"{IMAGES}.zip")
    if archive is None:
        raise FileNotFoundError(
            f"no folder {IMAGES} and no {IMAGES}.zip in {root} or its folders celeba, Img."
        )
    return _with_zip(ids, labels, split, lists, archive)


def _find(root: Path, *names: str, is_dir: bool = False) -> Path | None:
    paths = (root / folder / name for name in names for folder in _FOLDERS)
    return next((path for path in paths if (path.is_dir() if is_dir else path.is_file())), None)


# ---- images in a folder --------------------------------------------------------------------------


def _with_folder(
    layout: str,
    ids: list[str],
    labels: np.ndarray,
    split: np.ndarray,
    lists: dict[str, str],
    folder: Path,
) -> Source:
    def check(rows: np.ndarray) -> None:
        there = {entry.name for entry in os.scandir(folder)}
        _refuse_missing([ids[row] for row in rows if ids[row] not in there], folder)

    def reader(rows: np.ndarray) -> Reader:
        return partial(_read_from_folder, str(folder), [ids[row] for row in rows])

    return Source(layout, labels, split, lists, reader, check)


def _refuse_missing(missing: list[str], place: Path) -> None:
    if missing:
        raise FileNotFoundError(
            f"{place} lacks {len(missing)} images of the list, {missing[0]} first."
        )


def _read_from_folder(folder: str, names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, Path(folder, name).read_bytes()


# ---- images in the unopened zip ------------------------------------------------------------------


def _with_zip(
    ids: list[str], labels: np.ndarray, split: np.ndarray, lists: dict[str, str], archive: Path
) -> Source:
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{archive} is no complete zip file ({error}). Download it again."
        ) from None
    by_name: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = member.filename
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name or ":" in name:
            raise ValueError(
                f"{archive} has the member {name!r}, which points outside: not the official zip."
            )
        if not ID.fullmatch(PurePosixPath(name).name):
            continue  # folders, .DS_Store and the like
        if (
            member.flag_bits & 1
            or member.compress_type not in (0, 8)
            or member.file_size > _MOST_BYTES
        ):
            raise ValueError(
                f"{archive} member {name!r} is encrypted, too large or of an unknown method."
            )
        if by_name.setdefault(PurePosixPath(name).name, member) is not member:
            raise ValueError(f"{archive} has {PurePosixPath(name).name} more than once.")

    def check(rows: np.ndarray) -> None:
        _refuse_missing([ids[row] for row in rows if ids[row] not in by_name], archive)

    def reader(rows: np.ndarray) -> Reader:
        infos = [by_name[ids[row]] for row in rows]
        places = [
            (i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC) for i in infos
        ]
        return partial(_read_from_zip, str(archive), [ids[row] for row in rows], places)

    return Source("zip", labels, split, lists, reader, check)


def _read_from_zip(
    archive: str, names: list[str], places: list[tuple[int, int, int, int, int]]
) -> Iterator[tuple[str, bytes]]:
    # By offset: a zipfile.ZipFile in each worker would hold all 202,599 members, 100 MB each time.
    with open(archive, "rb") as file:
        for name, (offset, packed_size, size, method, crc) in zip(names, places, strict=True):
            file.seek(offset)
            header = file.read(
                30
            )  # local header: its name and extra lengths differ from the directory's
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise ValueError(f"{archive} member {name} is damaged. Download the zip again.")
            file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
            data = file.read(packed_size)
            try:
                data = data if method == 0 else zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error:
                data = b""
            if len(data) != size or zlib.crc32(data) != crc:
                raise ValueError(f"{archive} member {name} is damaged. Download the zip again.")
            yield name, data
