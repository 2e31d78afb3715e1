"""A recorded run: arrays and a JSON-able description, with no torch in sight.

A live view, the replay page, plots and tables all read a `History`; the training loop appends to
it. It is saved as one `.npz` that loads without pickle, so a recording from a stranger is safe.
"""

from __future__ import annotations

import copy
import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmtg_lite.files import write_atomically

FORMAT = "dmtg-run/1"
_FULL = 65535  # probabilities are stored as uint16: error <= 0.5 / 65535, half the bytes of float32


class History:
    """Everything a plot needs of one run: T recorded steps of N tasks and K groups.

    Where a run opens spare branches, the columns are all branches it ever had: a branch keeps its
    column, and from the record of its closing on the column is 0 (`compute_is_open`).

    One thread may append while others read: a reader sees the records that were complete when it
    asked. An array read later may be longer; `slice` copies all arrays at one length.

    Args:
        task_names: The N task names, in row order.
        n_groups: K, the number of columns; spare branches included.
        meta: JSON-able description: config, seed, method, results, versions. Grows as a run ends,
            and ``meta["closings"]`` by one entry at each closing.
    """

    ARRAYS = (
        "steps",
        "probabilities",
        "task_losses",
        "tau",
        "lr_assignment",
    )  # in `append`'s order

    def __init__(
        self, task_names: Sequence[str], n_groups: int, *, meta: dict[str, Any] | None = None
    ) -> None:
        if n_groups < 1:
            raise ValueError(f"`n_groups` must be >= 1, got {n_groups}.")
        self.task_names = [str(name) for name in task_names]
        self.n_groups = int(n_groups)
        self.meta: dict[str, Any] = dict(meta or {})
        self._lock = threading.Lock()
        self._size = 0
        n_tasks = len(self.task_names)
        self._arrays: dict[str, np.ndarray] = {
            "steps": np.empty(256, np.int32),
            "probabilities": np.empty((256, n_tasks, self.n_groups), np.float32),
            "task_losses": np.empty((256, n_tasks), np.float32),
            "tau": np.empty(256, np.float32),
            "lr_assignment": np.empty(256, np.float32),
        }

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, so that a run can come back from another process."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return (
            f"History({len(self)} records, N={len(self.task_names)} tasks, K={self.n_groups} "
            "groups, "
            f"last step {self.steps[-1] if len(self) else None})"
        )

    @property
    def n_tasks(self) -> int:
        return len(self.task_names)

    def append(
        self,
        step: int | np.ndarray,
        probabilities: np.ndarray,
        task_losses: np.ndarray,
        tau: float | np.ndarray,
        lr_assignment: float | np.ndarray,
    ) -> None:
        """Add one record, or M records at once when every argument has a leading axis of M.

        Args:
            step: Step number, or (M,).
            probabilities: softmax(S) after the step, shape (N, K) or (M, N, K).
            task_losses: Loss of each task under the drawn assignment, shape (N,) or (M, N).
            tau: Temperature of the step, or (M,).
            lr_assignment: Learning rate of S at the step, or (M,).
        """
        new = {
            "steps": np.atleast_1d(np.asarray(step, np.int32)),
            "probabilities": self._rows(
                "probabilities", probabilities, self.n_tasks, self.n_groups
            ),
            "task_losses": self._rows("task_losses", task_losses, self.n_tasks),
            "tau": np.atleast_1d(np.asarray(tau, np.float32)),
            "lr_assignment": np.atleast_1d(np.asarray(lr_assignment, np.float32)),
        }
        lengths = {name: len(array) for name, array in new.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"records of unequal length: {lengths}. Pass M of each, or one of each."
            )
        with self._lock:
            end = self._size + lengths["steps"]
            for name, array in new.items():
                if end > len(self._arrays[name]):  # double, so that appending T records costs O(T)
                    grown = np.empty((2 * end, *self._arrays[name].shape[1:]), array.dtype)
                    grown[: self._size] = self._arrays[name][: self._size]
                    self._arrays[name] = grown
                self._arrays[name][self._size : end] = array
            self._size = end

    @staticmethod
    def _rows(name: str, values: np.ndarray, *shape: int) -> np.ndarray:
        """One record or M of them as (M, *shape); another shape is refused, not reshaped into nonsense."""
        array = np.asarray(values, np.float32)
        if shape not in (array.shape, array.shape[1:]):
            raise ValueError(f"`{name}` must have shape {shape} or (M, ...), got {array.shape}.")
        return array.reshape(-1, *shape)

    def _read(self, name: str) -> np.ndarray:
        with self._lock:
            view = self._arrays[name][: self._size]
        view.flags.writeable = False
        return view

    @property
    def steps(self) -> np.ndarray:
        """Step numbers, shape (T,), int32."""
        return self._read("steps")

    @property
    def probabilities(self) -> np.ndarray:
        """softmax(S), shape (T, N, K), float32; exactly 0 where a head is pruned or its branch closed."""
        return self._read("probabilities")

    @property
    def task_losses(self) -> np.ndarray:
        """Training loss of each task under the drawn assignment, shape (T, N), float32."""
        return self._read("task_losses")

    @property
    def tau(self) -> np.ndarray:
        """Temperature of each step, shape (T,), float32."""
        return self._read("tau")

    @property
    def lr_assignment(self) -> np.ndarray:
        """Learning rate of S at each step, shape (T,), float32."""
        return self._read("lr_assignment")

    @property
    def entropy(self) -> np.ndarray:
        """Mean entropy of the rows of softmax(S), shape (T,), in units of log K: 1 uniform, 0 one-hot."""
        return compute_entropy(self.probabilities)

    @property
    def closings(self) -> list[dict[str, Any]]:
        """The branches closed in the recorded steps, in order: dicts with step, branch, costs, moved."""
        last = self.steps[-1] if len(self) else 0
        return [closing for closing in self.meta.get("closings") or [] if closing["step"] <= last]

    def closed_branches(self, index: int = -1) -> list[int]:
        """Numbers of the branches that are closed at a record; none before the first."""
        if not len(self):
            return []
        return np.flatnonzero(~compute_is_open(self.probabilities[index])).tolist()

    def groups(self, index: int = -1) -> list[list[str]]:
        """Task names by most probable group at a record; empty groups are dropped."""
        if not len(self):
            raise ValueError("this history has no records yet.")
        group_of = self.probabilities[index].argmax(-1)  # (N,)
        groups = [
            [name for name, k in zip(self.task_names, group_of, strict=True) if k == group]
            for group in range(self.n_groups)
        ]
        return [group for group in groups if group]

    def slice(self, start: int | None = None, stop: int | None = None, every: int = 1) -> History:
        """A copy of some records, e.g. the past up to a scrubbed step or every tenth one."""
        part = History(self.task_names, self.n_groups, meta=copy.deepcopy(dict(self.meta)))
        rows = np.arange(len(self))[start:stop:every]
        if len(rows):
            part.append(
                self.steps[rows],
                self.probabilities[rows],
                self.task_losses[rows],
                self.tau[rows],
                self.lr_assignment[rows],
            )
        return part

    def save(self, path: str | Path) -> Path:
        """Write the run to ``path`` (.npz) atomically: a reader sees the old file or the new one."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"`path` must end in .npz, got {path}.")
        meta = {
            **self.meta,
            "format": FORMAT,
            "task_names": self.task_names,
            "n_groups": self.n_groups,
        }
        run = self.slice()  # one moment of a run that may still be growing
        p = run.probabilities
        arrays = {
            "meta": np.array(json.dumps(meta)),
            "steps": run.steps,
            # a head that is still there never rounds to 0, which is how a pruned one is written
            "probabilities": np.maximum(np.round(p * _FULL), p > 0).astype(np.uint16),
            "task_losses": run.task_losses,
            "tau": run.tau,
            "lr_assignment": run.lr_assignment,
        }
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return write_atomically(path, content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read a run that `save` wrote; pickled content is refused.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a recorded run, or of a format this version cannot read.
        """
        path = Path(path)
        try:
            # opened here, since numpy would leave half a file open
            with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                if meta.get("format") != FORMAT:
                    raise ValueError(f"format {meta.get('format')!r}, expected {FORMAT!r}")
                history = cls(meta.pop("task_names"), meta.pop("n_groups"), meta=meta)
                history.append(
                    file["steps"],
                    file["probabilities"].astype(np.float32) / _FULL,
                    file["task_losses"],
                    file["tau"],
                    file["lr_assignment"],
                )
        except FileNotFoundError:
            raise FileNotFoundError(f"no recorded run at {path}.") from None
        except Exception as error:
            # numpy's own words would advise to load the file unsafely
            raise ValueError(
                f"{path} is not a recorded run of format {FORMAT!r} ({type(error).__name__}). "
                "Recordings are the .npz files that `History.save` or `dmtg-lite demo` write."
            ) from error
        history.meta.pop("format", None)
        return history


def compute_is_open(probabilities: np.ndarray) -> np.ndarray:
    """Which branches are open, shape (..., N, K) -> (..., K): closed is 0 for all tasks, not just small."""
    return (np.asarray(probabilities) != 0).any(-2)  # so that the NaN of a run that blew up is open


def compute_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Mean entropy of the N rows, shape (..., N, K) -> (...), in units of log K: 1 uniform, 0
    one-hot.

    K counts all columns, closed branches too: with one unit for the whole run a fall of the curve
        is
    a fall of entropy. The most it can be is then log(open branches) / log K, which plots draw
    beside it.
    """
    p = np.asarray(probabilities)
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    return terms.sum(-1).mean(-1) / max(np.log(p.shape[-1]), 1e-12)


def compute_mean_assignment(
    probabilities: np.ndarray, tau: float, *, n_draws: int = 1000, seed: int = 0
) -> np.ndarray:
    """Mean relaxed assignment E[Z] by Monte Carlo: what a task really sends to each branch.

    softmax(S) says which group wins a draw; at tau > 0 the draws themselves are flatter, so a
    task that is "99 % settled" still trains other branches. Softmax is shift-invariant, so log
    softmax(S) serves as S.

    Args:
        probabilities: softmax(S), shape (..., N, K).
        tau: Temperature, > 0.
        n_draws: Gumbel draws; the standard error is below 0.5 / sqrt(n_draws).
        seed: Seed of the noise: the same noise for every call, so that a view does not flicker.

    Returns:
        E[Z], same shape, rows sum to 1.
    """
    if not tau > 0:
        raise ValueError(f"`tau` must be > 0, got {tau}.")
    p = np.asarray(probabilities, np.float64)
    gumbel = np.random.default_rng(seed).gumbel(size=(n_draws, *p.shape[-2:]))
    with np.errstate(divide="ignore"):  # a pruned head has log 0 = -inf and weight 0
        logits = np.log(p)
    mean = np.zeros_like(p)
    for noise in np.array_split(gumbel, max(1, n_draws // 250)):
        scores = (
            logits[None] + noise.reshape(len(noise), *([1] * (p.ndim - 2)), *p.shape[-2:])
        ) / tau
        scores -= scores.max(-1, keepdims=True)
        weights = np.exp(scores)
        mean += (weights / weights.sum(-1, keepdims=True)).sum(0)
    return (mean / n_draws).astype(np.float32)
