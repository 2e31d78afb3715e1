"""Runs that several tests look at."""

from __future__ import annotations

import numpy as np
import pytest

from dmtg_lite.core.record import Closing
from dmtg_lite.runs.history import History

NAMES = ["hair", "<b>beard</b>", "hat", "nose"]


@pytest.fixture
def run() -> History:
    """1000 steps in which four tasks settle into three groups, and lose least in their own."""
    rng = np.random.default_rng(0)
    own = np.eye(3)[[0, 0, 1, 2]]
    logits = np.linspace(0, 5, 1000)[:, None, None] * own
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = 0.5 + np.linspace(0, 1, 1000)[:, None, None] * (1 - own)
    tau, rate = np.full(1000, 2.5), np.full(1000, 0.03)
    history = History(NAMES, 3)
    history.append(np.arange(1, 1001), p, rng.random((1000, 4)), tau, rate, losses)
    return history


@pytest.fixture
def closing_run() -> History:
    """Five branches for three groups: 4 closes at step 40, 1 at step 60; 3 is open, but empty."""
    p = np.full((100, 4, 5), 0.02)
    p[:, range(4), [0, 4, 1, 2]] = 0.92
    p[39:, :, 4] = 0
    p[59:, :, 1] = 0
    losses = np.where(p > 0, 1 - p / 2, np.nan)
    ones = np.ones(100)
    history = History(NAMES, 5)
    p /= p.sum(-1, keepdims=True)
    history.append(np.arange(1, 101), p, np.ones((100, 4)), ones, ones, losses)
    for step, branch, n_open in ((40, 4, 5), (60, 1, 4)):
        costs = {"cost": branch / 10, "costs": [1.0] * n_open, "branches": list(range(n_open))}
        history.tell(Closing(step=step, branch=branch, moved={}, **costs), None)
    costs = [0.4, 0.3, 1.5, 1.7]
    history.elbow = {"n_branches": [5, 4, 3, 2], "branches": [], "costs": costs, "n_groups": 3}
    return history
