"""Widgets for notebooks, and the replay page: names load on first use, nothing is imported before.

The replay page needs no extra; the rest needs ipywidgets, anywidget and plotly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Dashboard", "HeadGraph", "Playground", "TauExplorer", "write_replay"]

_HOME = {
    "Dashboard": "widgets.dashboard",
    "HeadGraph": "widgets.anywidgets",
    "Playground": "widgets.playground",
    "TauExplorer": "widgets.tau_explorer",
    "write_replay": "replay",
}

if TYPE_CHECKING:
    from dmtg_lite.views.replay import write_replay
    from dmtg_lite.views.widgets.anywidgets import HeadGraph
    from dmtg_lite.views.widgets.dashboard import Dashboard
    from dmtg_lite.views.widgets.playground import Playground
    from dmtg_lite.views.widgets.tau_explorer import TauExplorer


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {__all__}.")
    try:
        module = import_module(f"dmtg_lite.views.{_HOME[name]}")
    except ModuleNotFoundError as error:
        extras = ("IPython", "anywidget", "comm", "ipywidgets", "plotly", "traitlets")
        if (error.name or "").partition(".")[0] not in extras:
            raise
        raise ImportError(
            f'{name} needs {error.name}: pip install "dmtg-lite[notebook]"'
        ) from error
    return getattr(module, name)
