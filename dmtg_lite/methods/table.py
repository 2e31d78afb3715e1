"""What each method is: one table for all who ask. How a method works is in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dmtg_lite.core.config import NGroups, TrainConfig, as_n_groups
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.balance import balance
from dmtg_lite.methods.dmtg import dmtg
from dmtg_lite.methods.fixed import naive, planted, random_groups, stl
from dmtg_lite.methods.hoa import hoa
from dmtg_lite.methods.mtg_net import mtg_net
from dmtg_lite.methods.tag import cosine, grad_tag, tag
from dmtg_lite.methods.two_shot import prune_finetune, two_shot, two_shot_pretrained
from dmtg_lite.runs.result import MethodResult


@dataclass(frozen=True, slots=True)
class Method:
    """One way to a trained grouping: ``METHODS["dmtg"](data, 3, config)``.

    Args:
        name: Its key in `METHODS` and in every result.
        label: Its name in the paper's tables; ours where the paper has none.
        train: ``(data, n_groups, config, *, saving) -> MethodResult``.
        needs_k: It asks for a number of groups; False: ``n_groups`` is ignored.
        finds_k: It can read K off its closing costs: ``n_groups`` may be ``"auto"``.
        searches: Its groups come from other runs, before the one whose numbers count.
        is_balanced: It fills every group, so that K may not exceed N.
        needs_planted: It needs data whose groups are known.
        is_asked_for: It needs an extra, so that it takes part where it is named.
    """

    name: str
    label: str
    train: Callable[..., MethodResult]
    needs_k: bool = True
    finds_k: bool = False
    searches: bool = False
    is_balanced: bool = False
    needs_planted: bool = False
    is_asked_for: bool = False

    def __call__(
        self, data: TaskData, n_groups: NGroups, config: TrainConfig | None = None, **more: Any
    ) -> MethodResult:
        return self.train(data, n_groups, config, **more)

    def check(self, data: TaskData, n_groups: NGroups, config: TrainConfig) -> None:
        """Refuse before any training what it cannot be asked for.

        Raises:
            ValueError: If K is out of range, ``"auto"`` for a method that needs a number, or there
                are no planted groups where they are needed.
        """
        config.count_branches(n_groups, len(data.tasks))
        n_groups = as_n_groups(n_groups)
        if n_groups == "auto" and self.needs_k and not self.finds_k:
            finders = ", ".join(one.name for one in METHODS.values() if one.finds_k)
            raise ValueError(f'{self.name} needs a number of groups; "auto" is for {finders}.')
        if self.is_balanced and isinstance(n_groups, int) and n_groups > len(data.tasks):
            raise ValueError(
                f"`n_groups` must be in 1..{len(data.tasks)} for {self.name}, got {n_groups}."
            )
        if self.needs_planted and data.planted_groups is None:
            raise ValueError(f"{data.name!r} has no planted groups, and {self.name} needs them.")


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("naive", "Naive MTL", naive, needs_k=False),
        Method("stl", "STL", stl, needs_k=False),
        Method("random", "RG", random_groups, is_balanced=True),
        Method("planted", "planted groups", planted, needs_k=False, needs_planted=True),
        Method("balance", "UPGrad", balance, needs_k=False, is_asked_for=True),
        *(
            Method(
                f"balance_{name.lower()}", name, partial(balance, aggregator=name.lower()),
                needs_k=False, is_asked_for=True,
            )
            for name in ("PCGrad", "MGDA")
        ),
        Method("dmtg", "DMTG", dmtg, finds_k=True),
        Method("hoa", "HOA", hoa, searches=True),
        Method("tag", "TAG", tag, searches=True),
        Method("cosine", "gradient cosine", cosine, searches=True),
        Method("grad_tag", "Grad-TAG", grad_tag, searches=True),
        Method("mtg_net", "MTG-Net", mtg_net, searches=True),
        Method("two_shot", "Retrain from scratch", two_shot, finds_k=True, searches=True),
        Method(
            "two_shot_pretrained", "Retrain from Naive MTL init", two_shot_pretrained,
            finds_k=True, searches=True,
        ),
        Method(
            "prune_finetune", "pruned and finetuned", prune_finetune, finds_k=True, searches=True
        ),
    )
}  # fmt: skip
