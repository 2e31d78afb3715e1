"""What a run costs, in encoder multiply-adds: counted between two steps."""

from __future__ import annotations

from dmtg_lite.core.data import TaskData
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.record import StepRecord
from dmtg_lite.core.state import TrainState


def count_batch_macs(state: TrainState, data: TaskData) -> int:
    """Encoder multiply-adds of one batch's forward pass through the network as it stands."""
    batch_size = min(state.config.batch_size, len(data.train))
    return count_macs(state.network, data.feature_shape)["encoder"] * batch_size


class CountCost:
    """Adds each step to ``state.encoder_macs``; comes before whatever closes branches.

    A step counts as its forward pass, which is a third of it. Each further backward pass, of
    methods that take one a task, adds two thirds.
    """

    def __init__(self, data: TaskData) -> None:
        self._data, self._n_groups, self._batch_macs = data, 0, 0

    def __call__(self, state: TrainState, record: StepRecord) -> StepRecord:
        if state.network.n_groups != self._n_groups:  # branches closed after the step before
            self._n_groups = state.network.n_groups
            self._batch_macs = count_batch_macs(state, self._data)
        state.encoder_macs += self._batch_macs * (1 + 2 * state.n_backward) // 3
        return record
