"""CelebA as Hugging Face serves it: parquet shards with the JPEG bytes and one column an attribute.

Needs pyarrow (extra ``parquet``). The shards carry no file names, so rows keep their order in the
shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from dmtg_lite.data.celeba.lists import ANY_BINARY, NAMES
from dmtg_lite.data.celeba.source import Reader, Source


def read_parquet(shards: list[Path]) -> Source:
    """Read the labels of all shards; images are read when asked for.

    Args:
        shards: Files named ``train-*``, ``valid-*`` and ``test-*``; of ``-of-00019`` all must be
            there.

    Raises:
        ValueError: If a shard is missing, damaged, or has other columns or values.
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(
            'reading parquet needs pyarrow. Run: pip install "dmtg-lite[parquet]"'
        ) from None
    prefixes = {"train": 0, "valid": 1, "val": 1, "validation": 1, "test": 2}
    splits = [prefixes.get(re.split(r"[-.]", shard.name)[0]) for shard in shards]
    order = sorted(range(len(shards)), key=lambda i: (splits[i] is None, splits[i], shards[i].name))
    labels, split, places = [], [], []
    for i in order:
        shard = shards[i]
        if splits[i] is None:
            raise ValueError(f"{shard} should be named train-*, valid-* or test-*.parquet.")
        total = re.search(r"-of-(\d+)", shard.name)
        siblings = [
            s for s, other in zip(splits, shards, strict=True) if s == splits[i] and other != shard
        ]
        if total and int(total[1]) != 1 + len(siblings):
            raise ValueError(
                f"{shard.parent} has {1 + len(siblings)} of {int(total[1])} shards of {shard.name}."
            )
        try:
            file = pq.ParquetFile(shard)
        except Exception as error:  # noqa: BLE001  pyarrow's own classes, one for each way of being broken
            raise ValueError(
                f"{shard} is no complete parquet file ({error}). Download it again."
            ) from None
        with file:
            labels.append(_parquet_labels(shard, file))
            for group in range(file.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                places += [(str(shard), group, row) for row in range(n_rows)]
        split.append(np.full(len(labels[-1]), splits[i], np.uint8))

    def reader(rows: np.ndarray) -> Reader:
        return partial(_read_from_parquet, [places[row] for row in rows])

    lists = {
        shard.name: f"{shard.stat().st_size} bytes" for shard in shards
    }  # hashing 1.4 GB says no more
    return Source(
        "parquet", np.concatenate(labels), np.concatenate(split), lists, reader, lambda rows: None
    )


def _parquet_labels(shard: Path, file: object) -> np.ndarray:
    columns = file.schema_arrow.names
    if "image" not in columns:
        raise ValueError(f"{shard} has no column `image`; its columns are {columns[:5]}…")
    if "attributes" in columns:  # one copy keeps them in a struct
        table = file.read(columns=["attributes"]).flatten()
        table = table.rename_columns(
            [name.removeprefix("attributes.") for name in table.column_names]
        )
    else:
        table = file.read(columns=[name for name in NAMES if name in columns])
    missing = [name for name in NAMES if name not in table.column_names]
    if missing:
        raise ValueError(f"{shard} lacks {len(missing)} of the 40 attributes, {missing[0]} first.")
    labels = np.empty((table.num_rows, len(NAMES)), np.uint8)
    for column, name in enumerate(NAMES):
        values = table[name].to_pylist()
        strange = next((value for value in values if str(value) not in ANY_BINARY), None)
        if strange is not None or None in values:
            raise ValueError(
                f"{shard} column {name} has the value {strange!r}; allowed are -1, 0, 1 and "
                "booleans."
            )
        labels[:, column] = [ANY_BINARY[str(value)] for value in values]
    return labels


@lru_cache(maxsize=1)  # the rows of a chunk mostly come from one row group
def _row_group(shard: str, group: int) -> object:
    import pyarrow.parquet as pq

    with pq.ParquetFile(shard) as file:
        return file.read_row_group(group, columns=["image"])["image"]


def _read_from_parquet(places: list[tuple[str, int, int]]) -> Iterator[tuple[str, bytes]]:
    for shard, group, row in places:
        value = _row_group(shard, group)[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        name = f"{Path(shard).name} row {row} of row group {group}"
        if not isinstance(data, bytes):
            raise ValueError(f"{name} has no image bytes in it.")
        yield name, data
