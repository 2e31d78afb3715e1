"""A folder of a fake data set, which appears when complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(
    out: Path, *, mark: tuple[str, str], total: int, unit: str, progress: bool
) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Where to write, and what to call after each of ``total`` units of a progress bar.

    ``mark`` is name and text of the file that says what is fake. Refuses an ``out`` that holds
    something (ValueError), and a missing Pillow or tqdm (ImportError) before anything is drawn.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out} exists already and is no empty folder. Delete it or choose another --out."
        )
    try:
        import PIL  # noqa: F401
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(f'{error.name} is missing. Run: pip install "dmtg-lite[data]"') from None
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.mkdir()
    except FileExistsError:  # a user's, or another run's
        raise ValueError(
            f"{partial}, where the work would be, is there already. Delete it or choose another "
            "--out."
        ) from None
    try:
        (partial / mark[0]).write_text(mark[1], encoding="utf-8")
        with tqdm(total=total, unit=unit, disable=not progress) as bar:
            yield partial, bar.update
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
