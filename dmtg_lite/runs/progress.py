"""A progress bar round whatever takes long: steps, runs, batches that are evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def with_progress(
    items: Iterable[T], label: str | None, n_items: int, *, start: int = 0
) -> Iterable[T]:
    """The items, with a bar of that label while they are taken; ``None``: without one.

    Raises:
        ImportError: If there is no tqdm.
    """
    if label is None:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError('a progress bar needs tqdm: pip install "dmtg-lite[data]".') from error
    return tqdm(items, desc=label, initial=start, total=n_items, leave=False)
