"""Restarts trained as one program lose what each loses alone, and end as if alone."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dmtg_lite import data, methods
from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.encoders import register
from dmtg_lite.runs.run import Run
from dmtg_lite.runs.saving import Saving
from dmtg_lite.runs.together import train_together

FACES = data.toy_faces(n_tasks=4, n_groups=2, n_train=60, n_val=20, n_test=20)
CONFIG = TrainConfig(
    encoder="toy", steps=24, pretrain=4, batch_size=16, lr=3e-3, lr_assignment=0.1, jitter=0.1
)
CLOSING = replace(
    CONFIG,
    heads=HeadOptions(train_all=True),
    spare=Spare(branches=2, close_from=8, close_every=6),
    optimiser_assignment="sgd",
    normalise_losses=True,
)


def make_runs(config: TrainConfig, n: int = 3, saving: Saving | None = None) -> list[Run]:
    return [Run(FACES, config, 2, seed=7 + i, saving=saving or Saving()) for i in range(n)]


@pytest.mark.parametrize("config", [CONFIG, CLOSING], ids=["paper", "closings"])
def test_each_run_loses_what_it_loses_alone(config: TrainConfig) -> None:
    """Pretraining and closings included, with rows and noise of its own; stopped on the way."""
    together, alone = make_runs(config), make_runs(config)
    assert train_together(together, 10)
    assert train_together(together, 24)
    for one, other in zip(together, alone, strict=True):
        other.train_until()
        assert one.network.branch_ids == other.network.branch_ids
        assert one.encoder_macs == other.encoder_macs
        np.testing.assert_array_equal(one.history.steps, other.history.steps)
        for name in ("loss_matrices", "probabilities", "task_losses"):
            seen, wanted = getattr(one.history, name), getattr(other.history, name)
            np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-4, err_msg=name)
    losses = [run.history.task_losses for run in together]
    assert not np.allclose(losses[0], losses[1], atol=1e-2)  # and not one run three times


def test_each_run_goes_on_alone_as_if_nothing_had_been() -> None:
    """Weights, S and what their optimisers remember are its own again."""
    together, alone = make_runs(CLOSING, 2), make_runs(CLOSING, 2)
    assert train_together(together, 17)  # between two closings
    for one, other in zip(together, alone, strict=True):
        other.train_until(17)
        for state in (one.train_until(17), other.state):
            assert state is not None
            assert state.program is state.network
            known = [w for opt in state.optimizers.values() for w in opt.state]
            assert {id(w) for w in known} == {id(w) for w in state.network.parameters()}
        one.train_until()
        other.train_until()
        seen, wanted = one.history.loss_matrices[-1], other.history.loss_matrices[-1]
        np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-4)


def test_what_depends_on_its_run_alone_is_trained_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """Whoever keeps something on the way, or may part from the others."""
    register("dropping", nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.Dropout(0.1)))
    apart = [
        replace(CONFIG, schedule="plateau"),
        replace(CONFIG, pruning=Pruning(below=0.1)),
        replace(CONFIG, encoder="dropping"),
    ]
    assert not any(train_together(make_runs(config), 2) for config in apart)
    savings = [Saving(tmp_path), Saving(loggers=[lambda *_: None]), Saving(validate_every=2)]
    assert not any(train_together(make_runs(CONFIG, saving=saving), 2) for saving in savings)
    assert not train_together(make_runs(CONFIG, n=1), 2)
    monkeypatch.setenv("DMTG_PLAIN", "1")
    assert not train_together(make_runs(CONFIG), 2)


@pytest.mark.parametrize("halve_every", [0, 8])
def test_the_best_restart_is_the_same(monkeypatch: pytest.MonkeyPatch, halve_every: int) -> None:
    config = replace(CONFIG, restarts=Restarts(n=5, halve_every=halve_every))
    together = methods.dmtg(FACES, 2, config)
    module = sys.modules["dmtg_lite.methods.dmtg"]
    monkeypatch.setattr(module, "train_together", lambda runs, step: False)
    alone = methods.dmtg(FACES, 2, config)
    assert together.groups == alone.groups
    assert together.encoder_cost == alone.encoder_cost
    for one, other in zip(together.restarts, alone.restarts, strict=True):
        assert one["steps"] == other["steps"]
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-4)
    torch.testing.assert_close(
        torch.tensor(list(together.task_losses.values())),
        torch.tensor(list(alone.task_losses.values())),
        rtol=0,
        atol=1e-4,
    )
