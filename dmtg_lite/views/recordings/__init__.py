"""Recorded runs and tables that ship with the package, to look at without training anything.

A run is one `.npz` beside this file; ``about`` says title, method, config, seed, data, planted
groups, groups found, and in ``note`` why the run is worth a look. A table is one `.json`: what many
runs came to, and the command that trained them. Needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from dmtg_lite.runs.history import History
from dmtg_lite.schema import read_json

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(__file__).parent


class Table(TypedDict):
    """What a table's file must hold; whatever else it says of itself is kept."""

    about: str
    command: str
    rows: list[dict[str, Any]]


def names(folder: str | Path = FOLDER) -> list[str]:
    """Names of the recordings, sorted."""
    return sorted(path.stem for path in Path(folder).glob("*.npz"))


def load(name: str, folder: str | Path = FOLDER) -> History:
    """One recorded run by name.

    Raises:
        ValueError: If there is no such recording; the message lists those there are.
    """
    if name not in names(folder):
        raise ValueError(f"no recording named {name!r}; there are {names(folder)}.")
    return History.load(Path(folder) / f"{name}.npz")


def load_table(name: str) -> pd.DataFrame:
    """One recorded table by name: "ablations", "baselines" or "rooms"; needs pandas.

    Returns:
        A row per run, or as ``attrs["about"]`` says; ``attrs["command"]`` made it.
    """
    import pandas as pd

    table = read_json(FOLDER / f"{name}.json", Table)
    frame = pd.DataFrame(table.pop("rows"))
    frame.attrs = table
    return frame
