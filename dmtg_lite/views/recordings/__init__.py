"""Recorded runs that ship with the package, to look at without training anything.

Each is one `.npz` beside this file; ``about`` says title, method, config, seed, data, planted
groups, groups found, and in ``note`` why the run is worth a look. Needs no torch.
"""

from __future__ import annotations

from pathlib import Path

from dmtg_lite.runs.history import History

FOLDER = Path(__file__).parent


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
