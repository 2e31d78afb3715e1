"""What a task is, and the three task suites of the paper.

A task is a name, a number of outputs, a loss and an error metric. Nothing here knows about
features or networks: data lives in `dmtg_lite.data`, heads in `dmtg_lite.core.heads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dmtg_lite.core.checks import as_number, as_whole, describe

LOSSES = ("cross_entropy", "l1", "squared", "tolerant_l1")
METRIC_LABELS = {
    "error_percent": "error, %",
    "miou": "mIoU, %",
    "rmse": "aligned RMSE",
    "normals_under_30": "normals < 30°, %",
    "f1": "F1, %",
    "mae": "mean absolute error",
    "rms_error": "RMS error",
}
METRICS = tuple(METRIC_LABELS)
HIGHER_IS_BETTER = frozenset({"miou", "normals_under_30", "f1"})
IN_THEIR_UNIT = frozenset({"mae", "rms_error"})  # of any size, as the target is


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to predict.

    Args:
        name: Unique within a suite; shown in plots and used as the key of predictions.
        n_outputs: Numbers a head predicts: classes of a classification, channels of a picture.
        loss: ``"cross_entropy"`` or ``"l1"`` (the two losses of the paper, section 4.1);
            ``"squared"`` of a number a row; or ``"tolerant_l1"``: the lowest l1 of the nine shifts
            of a picture by at most one pixel, as the released code uses it on depth and normals.
        metric: How its error is reported; ``"error_percent"`` is 100 - accuracy in percent,
            ``"mae"`` and ``"rms_error"`` are in the unit of the target.
        is_dense: One prediction per pixel instead of one per row.
        center, spread: A loss of numbers sees (target - center) / spread, in the unit of the
            target; so does a head's output. Losses of different tasks become comparable, errors
            keep their unit.
        classes: What the classes are called where the data come from, in the order of their
            numbers: text, numbers or booleans. Empty: not told.
        weight: Times its loss, wherever that is computed; 1 in the paper. Errors know nothing of
            it. Set it with `TaskData.weigh`.

    Raises:
        ValueError: If the name is empty, ``n_outputs`` < 1, ``spread`` or ``weight`` is not
            positive, or loss or metric is unknown, or the names of the classes are not
            ``n_outputs`` different ones.
    """

    name: str
    n_outputs: int = 2
    loss: str = "cross_entropy"
    metric: str = "error_percent"
    is_dense: bool = False
    center: float = 0.0
    spread: float = 1.0
    classes: tuple[Any, ...] = field(default=(), repr=False)
    weight: float = field(default=1.0, repr=False)  # see `TaskData.fingerprint`

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"`name` of a task must be a text, got {describe(self.name)}.")
        n_outputs = as_whole(f"n_outputs` of task `{self.name}", self.n_outputs, 1)
        object.__setattr__(self, "n_outputs", n_outputs)
        if self.loss not in LOSSES:
            raise ValueError(
                f"`loss` of task {self.name!r} must be one of {LOSSES}, got {self.loss!r}."
            )
        if self.metric not in METRICS:
            raise ValueError(
                f"`metric` of task {self.name!r} must be one of {METRICS}, got {self.metric!r}."
            )
        center = as_number(self.center)
        if center is None:
            raise ValueError(
                f"`center` of task {self.name!r} must be a number, got {describe(self.center)}."
            )
        object.__setattr__(self, "center", center)
        for scale in ("spread", "weight"):
            object.__setattr__(self, scale, _as_scale(self, scale))
        object.__setattr__(self, "classes", _as_classes(self))

    @property
    def is_number(self) -> bool:
        """One real number a row, as in a regression; neither classes nor a picture."""
        return not self.is_dense and self.loss != "cross_entropy"

    @property
    def higher_is_better(self) -> bool:
        """True for metrics such as mIoU, whose gain is relative metric change (Table A2)."""
        return self.metric in HIGHER_IS_BETTER


def _as_scale(task: Task, name: str) -> float:
    given = as_number(getattr(task, name))
    if given is None or given <= 0:
        found = describe(getattr(task, name))
        raise ValueError(f"`{name}` of task {task.name!r} must be > 0, got {found}.")
    return given


def _as_classes(task: Task) -> tuple[Any, ...]:
    classes = tuple(task.classes)
    is_plain = all(isinstance(one, (str, int, float)) for one in classes)
    if classes and not (is_plain and len(set(classes)) == len(classes) == task.n_outputs):
        raise ValueError(
            f"`classes` of task {task.name!r} must be {task.n_outputs} different texts, numbers or "
            f"booleans, one a class, got {describe(classes)}."
        )
    return classes


def check_unique(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return ``tasks`` as a tuple, refusing an empty suite and two tasks of one name."""
    if others := [one for one in tasks if not isinstance(one, Task)]:
        raise ValueError(f"`tasks` must hold Task(...) only, got {describe(others[0])}.")
    names = [task.name for task in tasks]
    if not names:
        raise ValueError("`tasks` is empty: a suite needs at least one task.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"`tasks` names {twice} more than once; predictions are keyed by task name."
        )
    return tuple(tasks)


def check_flat(task: Task) -> None:
    """Refuse what heads on flat features cannot answer.

    Raises:
        ValueError: If it is neither a classification nor one number a row.
    """
    if task.is_number:
        fits = task.n_outputs == 1 and task.loss != "tolerant_l1"
        fits = fits and task.metric in ("mae", "rms_error")
    else:
        fits = not task.is_dense and task.metric == "error_percent" and task.n_outputs > 1
    if not fits:
        raise ValueError(
            f"task {task.name!r} (loss {task.loss!r}, metric {task.metric!r}, dense "
            f"{task.is_dense}, {task.n_outputs} outputs) cannot be served: heads on flat features "
            "serve 2 or more classes with cross_entropy and error_percent, or 1 number with l1 or "
            "squared and mae or rms_error."
        )


# The 40 attributes in the order of the official file, which is alphabetical.
CELEBA_40 = tuple(
    Task(name)
    for name in (
        "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
        "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair",
        "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair",
        "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
        "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline",
        "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings",
        "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
    )
)  # fmt: skip

# The nine that TAG chose and the paper's Table 3 reports (section 4.1).
CELEBA_9 = tuple(
    Task(name)
    for name in (
        "5_o_Clock_Shadow", "Black_Hair", "Blond_Hair", "Brown_Hair", "Goatee", "Mustache",
        "No_Beard", "Rosy_Cheeks", "Wearing_Hat",
    )
)  # fmt: skip

# Section 4.1: cross-entropy for segmentation, l1 for the rest; metrics as in Table A2. Center and
# spread are those of Standley et al. (2020), whose losses the released code uses: (d - 1500) / 1000
# of depth in 1/512 m, (k - 50) / 100 of keypoints and (e - 718) / 1070 of edges in counts of 65535.
TASKONOMY_5 = (
    Task("depth", 1, "l1", "rmse", is_dense=True, center=1500 / 512, spread=1000 / 512),
    Task("normal", 3, "l1", "normals_under_30", is_dense=True),
    Task("segmentation", 18, "cross_entropy", "miou", is_dense=True),
    Task("keypoints", 1, "l1", "f1", is_dense=True, center=50 / 65535, spread=100 / 65535),
    Task("edges", 1, "l1", "f1", is_dense=True, center=718 / 65535, spread=1070 / 65535),
)


def make_tolerant(
    tasks: Sequence[Task], names: Sequence[str] = ("depth", "normal")
) -> tuple[Task, ...]:
    """The same tasks, these with the l1 loss that forgives a shift of one pixel.

    Use: ``replace(data, tasks=make_tolerant(data.tasks))``.

    Source:
        The released code's "rotate" option, on for depth and normals; not in the paper.
    """
    wrong = [
        name for name in names if name not in {task.name for task in tasks if task.loss == "l1"}
    ]
    if wrong:
        raise ValueError(
            f"`names` {wrong} are no tasks with an l1 loss, as the tolerant one needs."
        )
    return tuple(
        replace(task, loss="tolerant_l1") if task.name in names else task for task in tasks
    )
