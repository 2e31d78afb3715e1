"""CelebA as Hugging Face serves it: parquet shards with the JPEG bytes and one column an attribute.

Needs pyarrow (extra ``parquet``). The shards carry no file names, so rows keep their order there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dmtg_lite.data.celeba.files import Image, Source
from dmtg_lite.data.celeba.lists import ANY_BINARY, NAMES

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_SPLITS = {"train": 0, "valid": 1, "val": 1, "validation": 1, "test": 2}  # how names begin


def read_parquet(shards: list[Path]) -> Source:
    """The labels of all shards ``train-*``, ``valid-*`` and ``test-*``; images when asked for.

    Raises:
        ValueError: If a shard is missing, damaged, or has other columns or values.
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        need = 'reading parquet needs pyarrow. Run: pip install "dmtg-lite[parquet]"'
        raise ImportError(need) from None
    split_of = {shard: _SPLITS.get(re.split(r"[-.]", shard.name)[0]) for shard in shards}
    labels, split, groups = [], [], []
    for shard in sorted(shards, key=lambda shard: (split_of[shard] or 0, shard)):
        k, total = split_of[shard], re.search(r"-of-(\d+)", shard.name)
        if k is None:
            raise ValueError(f"{shard} should be named train-*, valid-* or test-*.parquet.")
        n_there = list(split_of.values()).count(k)
        if total and int(total[1]) != n_there:
            raise ValueError(
                f"{shard.parent} has {n_there} of {int(total[1])} shards of {shard.name}."
            )
        try:
            file = pq.ParquetFile(shard)
        except Exception as error:  # noqa: BLE001  pyarrow has a class for each way of being broken
            raise ValueError(
                f"{shard} is no complete parquet file ({error}). Download it again."
            ) from None
        with file:
            labels.append(_read_labels(shard, file))
            for group in range(file.num_row_groups):
                groups.append((shard, group, file.metadata.row_group(group).num_rows))
        split.append(np.full(len(labels[-1]), k, np.uint8))

    def images(rows: np.ndarray) -> Iterator[Image]:
        start = 0
        for shard, group, size in groups:
            wanted = rows[(rows >= start) & (rows < start + size)] - start
            if len(wanted):
                yield from _read_images(shard, group, wanted)
            start += size

    # hashing 1.4 GB says no more than its length
    lists = {shard.name: f"{shard.stat().st_size} bytes" for shard in shards}
    return Source("parquet", np.concatenate(labels), np.concatenate(split), lists, images)


def _read_labels(shard: Path, file: pq.ParquetFile) -> np.ndarray:
    columns = file.schema_arrow.names
    if "image" not in columns:
        raise ValueError(f"{shard} has no column `image`; its columns are {columns[:5]}…")
    if "attributes" in columns:  # one copy keeps them in a struct
        table = file.read(columns=["attributes"]).flatten()
        table = table.rename_columns([n.removeprefix("attributes.") for n in table.column_names])
    else:
        table = file.read(columns=list(NAMES))
    missing = [name for name in NAMES if name not in table.column_names]
    if missing:
        raise ValueError(f"{shard} lacks {len(missing)} of the 40 attributes, {missing[0]} first.")
    labels = np.empty((table.num_rows, len(NAMES)), np.uint8)
    for column, name in enumerate(NAMES):
        values = [ANY_BINARY.get(str(value), -1) for value in table[name].to_pylist()]
        if -1 in values:
            strange = table[name][values.index(-1)]
            allowed = "allowed are -1, 0, 1 and booleans"
            raise ValueError(f"{shard} column {name} has the value {strange}; {allowed}.")
        labels[:, column] = values
    return labels


def _read_images(shard: Path, group: int, rows: np.ndarray) -> Iterator[Image]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(shard) as file:
        column = file.read_row_group(group, columns=["image"])["image"]
    for row in rows.tolist():
        value = column[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        name = f"{shard.name} row {row} of row group {group}"
        if not isinstance(data, bytes):
            raise ValueError(f"{name} has no image bytes in it.")
        yield name, data
