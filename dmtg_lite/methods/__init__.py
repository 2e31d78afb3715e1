"""Every method is a grouping: ``(data, n_groups, config) -> MethodResult``."""

from __future__ import annotations

from collections.abc import Callable

from dmtg_lite.methods.dmtg import dmtg
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.methods.naive import naive, stl
from dmtg_lite.methods.random_groups import draw_groups, planted, random_groups
from dmtg_lite.methods.result import MethodResult
from dmtg_lite.methods.saving import Saving

METHODS: dict[str, Callable[..., MethodResult]] = {
    "naive": naive, "stl": stl, "random": random_groups, "planted": planted, "dmtg": dmtg,
}  # fmt: skip

__all__ = [
    "METHODS", "MethodResult", "Saving", "dmtg", "draw_groups", "naive", "planted", "random_groups", "stl",
    "train_groups",
]  # fmt: skip
