"""From pretraining to result: the one path that every method and the live session take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import Watch, branch_out, build_network, continue_fit, open_folder
from dmtg_lite.runs.history import History
from dmtg_lite.runs.metrics import total
from dmtg_lite.runs.saving import UNSAVED, Saving
from dmtg_lite.runs.spare import check_closings


class Run:
    """One network, pretrained as Naive MTL, branched out, and trained with its grouping.

    Methods call `train_until`, which does all of it. A live session takes the same steps one by
    one, from the states that `start_pretraining` and `start_training` give it.

    Args:
        data: The tasks and their data.
        config: See `TrainConfig`.
        n_groups: K, or ``"auto"``, of an assignment to be learned.
        members: Rows of every group's tasks, to fix the assignment instead.
        from_scratch: No pretraining; training then lasts as long as both.
        prepare: Called with the state before training: how a method changes the step.
        seed: Of the whole run; ``None``: the config's.
        saving: Checkpoints, run folder and progress bar.
        method: Name in the run folder.
        label: Of the bar; ``None``: the method's name.

    Attributes:
        n_pretraining, n_steps: Steps of both parts.
        state, history: Of the training; None and empty before it.

    Raises:
        ValueError: If K is none, or the run is too short to close all spare branches.
    """

    def __init__(
        self,
        data: TaskData,
        config: TrainConfig,
        n_groups: NGroups = 1,
        *,
        members: Sequence[Sequence[int]] | None = None,
        from_scratch: bool = False,
        prepare: Callable[[TrainState], None] = lambda state: None,
        seed: int | None = None,
        saving: Saving = UNSAVED,
        method: str = "dmtg",
        label: str | None = None,
    ) -> None:
        self.data, self.config, self.members = data, config, members
        self.n_groups: NGroups = n_groups
        self.seed = config.seed if seed is None else seed
        self.saving, self.prepare = saving, prepare
        self.method, self.label = method, method if label is None else label
        before, after = config.count_steps(len(data.train))
        self.n_pretraining, self.n_steps = (0, before + after) if from_scratch else (before, after)
        n_branches = len(members or [])
        if members is None:  # what will be refused is refused before the pretraining
            n_branches, n_spare = config.count_branches(n_groups, len(data.tasks))
            check_closings(config, n_branches, n_spare, self.n_steps)
        self.history = History(data.task_names, n_branches)
        self.state: TrainState | None = None
        self._macs_before = 0

    def start_pretraining(self) -> TrainState:
        """The Naive MTL network whose copies every grouping starts from (section 4.1)."""
        naive = build_network(self.data, self.config, seed=self.seed)
        return TrainState(naive, self.config, seed=derive_seed(self.seed, Stream.PRETRAINING))

    def start_training(self, pretraining: TrainState) -> TrainState:
        """K copies of the pretrained network, with the assignment learned or fixed."""
        naive, self._macs_before = pretraining.network, pretraining.encoder_macs
        if self.members is None:
            network = branch_out(naive, self.n_groups, self.config, seed=self.seed)
        else:
            network = naive.branch_out(len(self.members), members=self.members)
        self.state = TrainState(network, self.config, seed=derive_seed(self.seed, Stream.TRAINING))
        self.prepare(self.state)
        return self.state

    def train_until(self, step: int | None = None) -> TrainState:
        """Train up to a step, ``None``: to the end; or read it from the checkpoints."""
        with open_folder(self.saving.run_folder, self.data, self.config, **self.facts) as watch:
            state = self.state
            if state is None:
                pretraining = self.start_pretraining()
                self._pretrain(pretraining, watch)
                state = self.start_training(pretraining)
            options: dict[str, Any] = self.saving.part("main", self.label)
            continue_fit(
                self.history, state, self.data, self.n_steps, stop_at=step, watch=watch, **options
            )
        return state

    def _pretrain(self, state: TrainState, watch: Watch) -> None:
        options: dict[str, Any] = self.saving.part("pretrain", f"{self.label} pretraining")
        options |= {"validate_every": 0, "watch": watch, "is_pretraining": True}
        scratch = History(self.data.task_names, 1)
        continue_fit(scratch, state, self.data, self.n_pretraining, **options)

    @property
    def facts(self) -> dict[str, Any]:
        """What its folder says of it, see `describe_run`."""
        return {
            "method": self.method,
            "n_groups": self.n_groups if self.members is None else len(self.members),
            "n_branches": self.history.n_groups,
            "n_steps": self.n_steps,
            "n_pretraining": self.n_pretraining,
        }

    @property
    def network(self) -> GroupedNetwork:
        """The network in training; there is none before `start_training`."""
        if self.state is None:
            raise RuntimeError("this run has not begun: call `train_until` first.")
        return self.state.network

    @property
    def encoder_macs(self) -> int:
        """Encoder multiply-adds spent so far, pretraining included."""
        return self._macs_before + (self.state.encoder_macs if self.state else 0)

    def measure_train_loss(self) -> float:
        """Total loss on the training rows, each task served by its most probable group."""
        return total(evaluate(self.network, self.data.train, with_errors=False).losses)


@sealed()
def pretrain(
    data: TaskData, config: TrainConfig, *, seed: int | None = None
) -> tuple[GroupedNetwork, TrainState]:
    """Train the Naive MTL network whose copies every grouping starts from (section 4.1)."""
    run = Run(data, config, members=[range(len(data.tasks))], seed=seed)
    state = run.start_pretraining()
    continue_fit(History(data.task_names, 1), state, data, run.n_pretraining)
    return state.network, state
