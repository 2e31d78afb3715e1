"""Every method is a grouping, ``(data, n_groups, config) -> MethodResult``; `METHODS` has all."""

from dmtg_lite.methods.balance import balance
from dmtg_lite.methods.dmtg import dmtg
from dmtg_lite.methods.fixed import draw_groups, naive, planted, random_groups, stl, train_groups
from dmtg_lite.methods.hoa import hoa, measure_pairs
from dmtg_lite.methods.mtg_net import mtg_net
from dmtg_lite.methods.recipe import choose_recipe
from dmtg_lite.methods.search import affinity, meta_learner, selection
from dmtg_lite.methods.search.columns import select_by_pairs
from dmtg_lite.methods.search.published import published_losses
from dmtg_lite.methods.search.selection import (
    Candidate,
    Selection,
    pairwise_candidates,
    select_groups,
)
from dmtg_lite.methods.search.trials import try_groups
from dmtg_lite.methods.table import METHODS, Method
from dmtg_lite.methods.tag import cosine, grad_tag, tag
from dmtg_lite.methods.two_shot import prune_finetune, two_shot, two_shot_pretrained
from dmtg_lite.runs.jobs import Workers
from dmtg_lite.runs.result import MethodResult, UnlearnedWarning
from dmtg_lite.runs.saving import Saving

__all__ = [
    "METHODS", "Candidate", "Method", "MethodResult", "Saving", "Selection", "UnlearnedWarning",
    "Workers", "affinity", "balance", "choose_recipe", "cosine", "dmtg", "draw_groups",
    "grad_tag", "hoa", "measure_pairs", "meta_learner", "mtg_net", "naive",
    "pairwise_candidates", "planted", "prune_finetune", "published_losses", "random_groups",
    "select_by_pairs", "select_groups", "selection", "stl", "tag", "train_groups", "try_groups",
    "two_shot", "two_shot_pretrained",
]  # fmt: skip
