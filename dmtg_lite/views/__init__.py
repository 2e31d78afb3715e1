"""What one looks at: the live session, plots, widgets, replay pages and recorded runs.

Names load on first use: all but what trains (`LiveSession`, `WATCHABLE`) open without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_HOME = {  # public name -> the module that defines it; the names not listed are modules themselves
    "WATCHABLE": "live",
    "LiveSession": "live",
    "Playground": "widgets",
    "Dashboard": "widgets",
    "TauExplorer": "widgets",
    "train_in_background": "background",
    "write_replay": "replay",
}

__all__ = [
    "WATCHABLE", "Dashboard", "LiveSession", "Playground", "TauExplorer", "live", "plots",
    "recordings", "train_in_background", "widgets", "write_replay",
]  # fmt: skip

if TYPE_CHECKING:  # what `__getattr__` does, for editors and type checkers
    from dmtg_lite.views import live, plots, recordings, widgets
    from dmtg_lite.views.background import train_in_background
    from dmtg_lite.views.live import WATCHABLE, LiveSession
    from dmtg_lite.views.replay import write_replay
    from dmtg_lite.views.widgets import Dashboard, Playground, TauExplorer


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {__all__}.")
    if name in _HOME:
        return getattr(import_module(f"dmtg_lite.views.{_HOME[name]}"), name)
    return import_module(f"dmtg_lite.views.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
