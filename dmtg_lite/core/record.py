"""What is told of a run step by step, and of spare branches that close. Loads without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor


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

    n_branches: list[int]  # open before each closing: all that are now, one less, ..., 2
    branches: list[int]  # which one closes each time, by its column in the matrix of all
    costs: list[float]  # in the unit of the losses
    n_groups: int  # see `runs.spare.read_n_groups`


@dataclass(frozen=True, slots=True)
class Validation:
    """Loss and error of each task on the validation split, in the order of the tasks: N each."""

    losses: list[float]
    errors: list[float]


@dataclass(slots=True)
class Knobs:
    """What may be turned while a run goes on, read once per step. None: as configured."""

    tau: float | None = None
    lr_assignment: float | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimisation step, as detached tensors that stay on their device.

    K counts all branches that were ever open; the columns of those that have closed are 0 in
    probabilities and nan in the loss matrix, as are heads that do not exist.
    """

    step: int  # 1 for the first
    task_losses: Tensor  # (N,), under the drawn assignment
    loss_matrix: Tensor  # (N, K)
    probabilities: Tensor  # (N, K), softmax(S) after the step
    tau: float
    lr_assignment: float
    closing: Closing | None = None  # the branch that closed after this step
    elbow: Elbow | None = None  # what closing on would cost, at the first look
    validation: Validation | None = None  # where the split was looked at after this step
