"""CelebA as Hugging Face serves it: parquet shards with the image bytes and a column an attribute.

Needs pyarrow (extra ``parquet``). The shards carry no file names, so rows keep their order there.
Their own names are free: what counts is the columns, and a split in the name of file or folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dmtg_lite.data.celeba.files import NO_SPLIT, Image, Source
from dmtg_lite.data.celeba.lists import ANY_BINARY, NAMES
from dmtg_lite.data.foreign_files import name_content
from dmtg_lite.files import check_is_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_SPLITS = {"train": 0, "valid": 1, "val": 1, "validation": 1, "test": 2}
_SPLIT_COLUMNS = ("split", "partition")
_SPLIT_VALUES = {**_SPLITS, "0": 0, "1": 1, "2": 2}


def read_parquet(root: Path, shards: list[Path]) -> Source:
    """The labels of all shards that hold images and attributes; images when asked for.

    The split of a row is what the name of its file says, or that of its folder below ``root``
    (``train-00000-of-00002.parquet``, ``train/0000.parquet``), or else a column ``split`` or
    ``partition``; or it has none.

    Raises:
        ValueError: If a shard is damaged, is there twice, or has other columns or values.
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        need = 'reading parquet needs pyarrow. Run: pip install "dmtg-lite[parquet]"'
        raise ImportError(need) from None
    split_of = {shard: _name_split(shard.relative_to(root)) for shard in shards}
    labels, split, groups, used = [], [], [], []
    for shard in sorted(shards, key=lambda shard: (split_of[shard], shard)):
        with _open(shard) as file:
            columns = file.schema_arrow.names
            if len(set(columns)) < len(columns):
                raise ValueError(f"{shard} has two columns of one name. Download it again.")
            if not {"attributes", *NAMES} & set(columns) and len(shards) > 1:
                continue  # another configuration of the same data set: boxes, identities
            labels.append(_read_labels(shard, file))
            split.append(_read_split(shard, file, split_of[shard], len(labels[-1])))
            for group in range(file.num_row_groups):
                groups.append((shard, group, file.metadata.row_group(group).num_rows))
        used.append(shard)
    if not used:
        raise ValueError(f"{shards[0]} and the others have no column {NAMES[0]} or `attributes`.")
    starts = np.cumsum([0, *(size for _, _, size in groups)])
    if starts[-1] != sum(map(len, labels)):
        raise ValueError(f"{used[0].parent} has shards whose row groups do not add up.")

    def images(rows: np.ndarray) -> Iterator[Image]:
        group_of = np.searchsorted(starts, rows, side="right") - 1
        firsts = np.flatnonzero(np.diff(group_of, prepend=-1))  # a group is read for each run
        for run, place in zip(np.split(rows, firsts[1:]), group_of[firsts], strict=False):
            shard, group, _ = groups[place]
            yield from _read_images(shard, group, run - starts[place])

    # hashing 1.4 GB says no more than its length
    lists: dict[str, str] = {}
    for shard in used:
        name = shard.name if shard.name not in lists else shard.relative_to(root).as_posix()
        lists[name] = f"{shard.stat().st_size} bytes"
    all_labels, all_splits = np.concatenate(labels), np.concatenate(split)
    return Source(
        layout="parquet",
        place=used[0].parent,
        labels=all_labels,
        split=all_splits,
        is_there=np.ones(len(all_labels), bool),
        lacks=_find_missing(used, split_of),
        lists=lists,
        images=images,
    )


def _name_split(path: Path) -> int:
    """The split that the name of a shard tells, else that of its folder, else none."""
    for name in (path.stem, *reversed(path.parent.parts)):
        words = re.split(r"[^a-z]+", name.lower())
        if found := {_SPLITS[word] for word in words if word in _SPLITS}:
            return found.pop() if len(found) == 1 else NO_SPLIT
    return NO_SPLIT


def _find_missing(shards: list[Path], split_of: dict[Path, int]) -> str:
    """What is missing of shards that say how many they are; refuses one that is there twice."""
    seen: dict[tuple[int, str], Path] = {}
    for shard in shards:
        twin = seen.setdefault((split_of[shard], shard.name), shard)
        if twin != shard:
            raise ValueError(f"{shard.name} is in {twin.parent} and in {shard.parent}. Keep one.")
    lacks = ""
    for shard in shards:
        total = re.search(r"-of-(\d+)", shard.name)
        n_there = sum(split_of[other] == split_of[shard] for other in shards)
        if total and int(total[1]) < n_there:
            raise ValueError(
                f"{shard} says that it is one of {int(total[1])}, and {n_there} are there. Keep "
                "the shards of one version."
            )
        if total and int(total[1]) > n_there and not lacks:
            lacks = f"has {n_there} of {int(total[1])} shards of {shard.name}"
    return lacks


def _open(shard: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    check_is_file(shard, "parquet file")
    try:
        return pq.ParquetFile(shard)
    except Exception as error:  # noqa: BLE001  pyarrow has a class for each way of being broken
        with open(shard, "rb") as file:
            kind = name_content(file.read(1000))
        raise ValueError(
            f"{shard} is no complete parquet file ({kind}; {error}). Download it again."
        ) from None


def _read_columns(
    shard: Path, file: pq.ParquetFile, names: list[str], group: int | None = None
) -> pa.Table:
    try:
        return file.read(columns=names) if group is None else file.read_row_group(group, names)
    except Exception as error:  # noqa: BLE001  as above
        raise ValueError(f"{shard} is damaged ({error}). Download it again.") from None


def _read_labels(shard: Path, file: pq.ParquetFile) -> np.ndarray:
    columns = file.schema_arrow.names
    if "image" not in columns:
        raise ValueError(f"{shard} has no column `image`; its columns are {columns[:5]}.")
    if "attributes" in columns:  # one copy keeps them in a struct
        table = _read_columns(shard, file, ["attributes"]).flatten()
        table = table.rename_columns([n.removeprefix("attributes.") for n in table.column_names])
    else:
        table = _read_columns(shard, file, list(NAMES))
    missing = [name for name in NAMES if name not in table.column_names]
    if missing:
        raise ValueError(f"{shard} lacks {len(missing)} of the 40 attributes, {missing[0]} first.")
    values = [_map_column(shard, table, name, ANY_BINARY) for name in NAMES]
    return np.stack(values, 1)


def _read_split(shard: Path, file: pq.ParquetFile, named: int, n: int) -> np.ndarray:
    """The split of each row, uint8 (n,)."""
    column = next((name for name in _SPLIT_COLUMNS if name in file.schema_arrow.names), None)
    if named != NO_SPLIT or column is None:
        return np.full(n, named, np.uint8)
    return _map_column(shard, _read_columns(shard, file, [column]), column, _SPLIT_VALUES)


def _map_column(shard: Path, table: pa.Table, name: str, values: dict[str, int]) -> np.ndarray:
    """A column of one of a few values as uint8 (n,)."""
    cells = [str(cell) for cell in table[name].to_pylist()]
    if strange := set(cells) - values.keys():
        raise ValueError(
            f"{shard} column {name} has the value {min(strange)[:40]}; allowed are "
            f"{', '.join(values)}."
        )
    return np.array([values[cell] for cell in cells], np.uint8)


def _read_images(shard: Path, group: int, rows: np.ndarray) -> Iterator[Image]:
    with _open(shard) as file:
        column = _read_columns(shard, file, ["image"], group)["image"]
    for row in rows.tolist():
        value = column[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        name = f"{shard.name} row {row} of row group {group}"
        if not isinstance(data, bytes):
            raise ValueError(f"{name} has no image bytes in it: the shards must hold them.")
        yield name, data
