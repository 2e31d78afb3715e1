"""What is told of spare branches that close: plain numbers, without torch.

The rule and the closing itself are in `runs.spare`.
"""

from __future__ import annotations

from typing import TypedDict


class Closing(TypedDict):
    """One branch that closed; branches are known by the number they were opened with."""

    step: int
    branch: int
    cost: float  # of closing it, in the unit of the losses
    branches: list[int]  # open before
    costs: list[float]  # of closing each of them
    moved: dict[str, int]  # its tasks, and the branch that took each


class Elbow(TypedDict):
    """What closing branch after branch down to one would cost, and the K that this says."""

    n_branches: list[int]  # open before each closing: M, M-1, ..., 2
    branches: list[int]  # which one closes each time, by its column in the matrix with all M
    costs: list[float]  # in the unit of the losses
    n_groups: int  # see `runs.spare.read_n_groups`
