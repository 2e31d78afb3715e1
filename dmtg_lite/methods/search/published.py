"""Losses that others measured and published, to choose groups from real numbers in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from dmtg_lite.methods.search.selection import Candidate


def published_losses(split: Literal["val", "test"] = "val") -> list[Candidate]:
    """What Standley et al. measured: five tasks of Taskonomy in all 31 groups, and smaller singles.

    The first five networks serve one task each at half the size and half the cost; of the other 31,
    one a group, each costs 1. Losses are those of their setting 1: the cross-entropy of
    segmentation, l1 of the others.

    Args:
        split: ``"val"``: to choose by, with `select_groups`. ``"test"``: what the chosen came to.

    Source:
        Standley et al., Which Tasks Should Be Learned Together in Multi-task Learning? (ICML 2020);
        their repository taskgrouping, under the MIT licence, as `standley_2020.json` says.

    Example:
        >>> select_groups(published_losses(), budget=2).groups
        [('segmentation', 'depth', 'normal'), ('normal', 'keypoints', 'edges')]
    """
    if split not in ("val", "test"):
        raise ValueError(f'`split` must be "val" or "test", got {split!r}.')
    text = (Path(__file__).parent / "standley_2020.json").read_text(encoding="utf-8")
    return [
        Candidate(one["tasks"], dict(zip(one["tasks"], one[split], strict=True)), one["cost"])
        for one in json.loads(text)["networks"]
    ]
