"""The door of every method: what is asked for is checked once, before anything trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from dmtg_lite.core.checks import check_kind
from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.encoders import Own
from dmtg_lite.methods.recipe import settle_config
from dmtg_lite.runs.result import MethodResult
from dmtg_lite.runs.saving import UNSAVED, Saving


def method(train: Callable[..., MethodResult]):  # the type is that of `call`, written once
    """Make a method of ``(data, n_groups, config, *, saving, ...) -> MethodResult``.

    It has its own torch settings then; ``config=None`` means `recipe.choose_recipe`, which is
    printed. And it takes ``encoder=``: a name, a module, or a list of stages, which is registered
    under a name of its architecture, so that checkpoints know it.

    Where checkpoints are kept, so is the result, in the run folder (see `Saving`).

    A task that ends no better than a constant answer is warned of: `result.UnlearnedWarning`.

    Raises:
        ValueError: If data, config or saving are something else.
    """

    @wraps(train)
    @sealed()
    def call(
        data: TaskData,
        n_groups: NGroups | None = None,
        config: TrainConfig | None = None,
        *,
        saving: Saving = UNSAVED,
        encoder: str | Own | None = None,
        **more: Any,
    ) -> MethodResult:
        check_kind("data", data, TaskData, "e.g. data.toy_faces()")
        check_kind("saving", saving, Saving, "e.g. methods.Saving('runs/mine')")
        if n_groups is None:
            raise ValueError(
                f"`n_groups` must be a whole number >= 1, got None: {train.__name__}(data, 3) for "
                "at most three groups; of naive, stl and planted any number: they have their own."
            )
        config = settle_config(data, n_groups, config, encoder)
        result = train(data, n_groups, config, saving=saving, **more)
        if folder := saving.below(result.method).run_folder:
            result.save(folder)
        result.warn_unlearned(stacklevel=3)  # over the decorator, to the line of the caller
        return result

    known = dict(signature(train).parameters)  # for help(): those of `train`, and `encoder`
    known["config"] = known["config"].replace(default=None, annotation="TrainConfig | None")
    keyword = Parameter("encoder", Parameter.KEYWORD_ONLY, default=None, annotation="str | Own")
    shown = signature(train).replace(parameters=[*known.values(), keyword])
    vars(call)["__signature__"] = shown
    return call
