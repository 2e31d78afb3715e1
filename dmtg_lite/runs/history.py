"""A recorded run: arrays and a JSON-able description, with no torch in sight.

A live view, the replay page, plots and tables all read a `History`; the training loop appends to
it. It is saved as one `.npz` that loads without pickle, so a recording from a stranger is safe.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Self, TypedDict

import numpy as np

from dmtg_lite.core.groups import Groups
from dmtg_lite.core.record import Closing, Elbow
from dmtg_lite.files import check_is_file, write_atomically
from dmtg_lite.schema import AnyFloat, FieldError, check_value, parse_json

FORMAT = "dmtg-run/2"
_READABLE = (FORMAT, "dmtg-run/1")  # the first held no loss matrices
_FULL = 65535  # probabilities are stored as uint16: error <= 0.5 / 65535, half the bytes of float32
_MAX_BYTES = 4 << 30  # of a recording unpacked: 40 tasks, 10 groups and 5,000 records are 9 MB


class Outline(TypedDict):
    """What a recording says of itself beside `About`; older ones know nothing of spare branches."""

    format: str
    task_names: list[str]
    n_groups: int
    closings: list[Closing] | None
    elbow: Elbow | None
    has_loss_matrices: bool


@dataclass(slots=True, kw_only=True)
class About:
    """What a run is called, and what came of it: empty where that is not known, or not yet.

    Args:
        title, note: A headline and a sentence for people.
        method, data, seed: What was run on what.
        config: As a line to paste.
        planted_groups: The true groups, where they are known.
        groups: Found; None while the run goes on.
        task_losses, task_errors: ``{task: value}`` on test.
        encoder_cost, agreement: As in `MethodResult`.
        versions: ``{package: version}``.
    """

    title: str = ""
    note: str = ""
    method: str = ""
    data: str = ""
    seed: int | None = None
    config: str = ""
    planted_groups: Groups | None = None
    groups: Groups | None = None
    task_losses: dict[str, AnyFloat] | None = None
    task_errors: dict[str, AnyFloat] | None = None
    encoder_cost: float | None = None
    agreement: float | None = None
    versions: dict[str, str] | None = None

    @classmethod
    def from_json(cls, meta: dict[str, Any]) -> Self:
        """Of a recording, whatever else it says."""
        return cls(**{f.name: meta[f.name] for f in fields(cls) if f.name in meta})


class History:
    """Everything a plot needs of one run: T recorded steps of N tasks and K groups.

    Where a run opens spare branches, the columns are all branches it ever had: a branch keeps its
    column, and from the record of its closing on the column is 0 (`compute_is_open`).

    One thread may append while others read: a reader sees the records that were complete when it
    asked. An array read later may be longer; `slice` copies all arrays at one length.

    Args:
        task_names: The N task names, in row order.
        n_groups: K, the number of columns; spare branches included.
        about: Names and outcome; grows as a run ends.

    Attributes:
        elbow: What closing on down to one branch would have cost, as read when the first branch
            closed; None without spare branches.
        has_loss_matrices: False for a recording that was made before they were kept.
    """

    ARRAYS = ("steps", "probabilities", "task_losses", "tau", "lr_assignment", "loss_matrices")
    VALIDATION = ("validation_steps", "validation_losses", "validation_errors")

    def __init__(
        self, task_names: Sequence[str], n_groups: int, *, about: About | None = None
    ) -> None:
        if n_groups < 1:
            raise ValueError(f"`n_groups` must be >= 1, got {n_groups}.")
        self.task_names = [str(name) for name in task_names]
        self.n_groups = int(n_groups)
        self.about = about or About()
        self.elbow: Elbow | None = None
        self.has_loss_matrices = True
        self._closings: list[Closing] = []
        self._lock = threading.Lock()
        self._size = 0
        n_tasks = len(self.task_names)
        self._validation = self._no_validation()
        self._arrays: dict[str, np.ndarray] = {
            "steps": np.empty(256, np.int32),
            "probabilities": np.empty((256, n_tasks, self.n_groups), np.float32),
            "task_losses": np.empty((256, n_tasks), np.float32),
            "tau": np.empty(256, np.float32),
            "lr_assignment": np.empty(256, np.float32),
            "loss_matrices": np.empty((256, n_tasks, self.n_groups), np.float16),
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
            f"groups, last step {self.steps[-1] if len(self) else None})"
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
        loss_matrices: np.ndarray | None = None,
    ) -> None:
        """Add one record, or M records at once when every argument has a leading axis of M.

        Args:
            step: Step number, or (M,).
            probabilities: softmax(S) after the step, shape (N, K) or (M, N, K).
            task_losses: Loss of each task under the drawn assignment, shape (N,) or (M, N).
            tau: Temperature of the step, or (M,).
            lr_assignment: Learning rate of S at the step, or (M,).
            loss_matrices: Loss of every head in the step, like ``probabilities``; nan where there
                is no head. ``None``: not known.
        """
        if loss_matrices is None:
            loss_matrices = np.full_like(np.asarray(probabilities, np.float32), np.nan)
        given = (step, probabilities, task_losses, tau, lr_assignment, loss_matrices)
        new = {
            name: self._rows(name, values) for name, values in zip(self.ARRAYS, given, strict=True)
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

    def _rows(self, name: str, values: float | np.ndarray) -> np.ndarray:
        """One record or M of them as (M, ...); another shape is refused, not reshaped."""
        dtype, shape = self._arrays[name].dtype, self._arrays[name].shape[1:]
        with np.errstate(over="ignore"):  # a loss beyond float16 is kept as infinite
            array = np.asarray(values).astype(dtype)
        if shape not in (array.shape, array.shape[1:]):
            raise ValueError(f"`{name}` must have shape {shape} or (M, ...), got {array.shape}.")
        return array.reshape(-1, *shape)

    def tell(self, closing: Closing | None, elbow: Elbow | None) -> None:
        """Remember what became of spare branches after a step."""
        if elbow is not None:
            self.elbow = elbow
        if closing is not None:
            self._closings = [
                *self._closings,
                closing,
            ]  # another list: readers may hold the old one

    def tell_validation(self, step: int, losses: Sequence[float], errors: Sequence[float]) -> None:
        """Remember what was measured on the validation split after a step: (N,) each."""
        given: dict[str, Any] = dict(
            zip(self.VALIDATION, ([step], [losses], [errors]), strict=True)
        )
        self._validation = {  # other arrays: readers may hold the old ones
            name: np.append(old, np.asarray(given[name], old.dtype), axis=0)
            for name, old in self._validation.items()
        }

    def _no_validation(self) -> dict[str, np.ndarray]:
        empty = np.empty((0, self.n_tasks), np.float32)
        return dict(zip(self.VALIDATION, (np.empty(0, np.int32), empty, empty), strict=True))

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
        """softmax(S), shape (T, N, K), float32; exactly 0 where a head is pruned or its branch
        closed."""
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
    def loss_matrices(self) -> np.ndarray:
        """Loss of every head in each step, shape (T, N, K), float16; nan where there is no head."""
        return self._read("loss_matrices")

    @property
    def validation_steps(self) -> np.ndarray:
        """Steps after which the validation split was looked at, shape (V,), int32."""
        return self._validation["validation_steps"]

    @property
    def validation_losses(self) -> np.ndarray:
        """Loss of each task on the validation split, shape (V, N), float32; each task served by
        its most probable group."""
        return self._validation["validation_losses"]

    @property
    def validation_errors(self) -> np.ndarray:
        """The same of errors, in the unit of each task's metric."""
        return self._validation["validation_errors"]

    @property
    def entropy(self) -> np.ndarray:
        """Mean entropy of the rows of softmax(S), shape (T,), in units of log K: 1 uniform, 0
        one-hot."""
        return compute_entropy(self.probabilities)

    @property
    def closings(self) -> list[Closing]:
        """The branches closed in the recorded steps, in order."""
        last = self.steps[-1] if len(self) else 0
        return [closing for closing in self._closings if closing["step"] <= last]

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
        part = History(self.task_names, self.n_groups, about=About(**asdict(self.about)))
        part.elbow, part.has_loss_matrices = self.elbow, self.has_loss_matrices
        part._closings = self._closings
        steps, seen = self.steps, self._validation
        rows = np.arange(len(steps))[start:stop:every]
        if len(rows):
            part.append(*(getattr(self, name)[rows] for name in self.ARRAYS))
            # of the validation what was measured since the record before
            after = steps[rows[0] - 1] if rows[0] else -1
            at = seen["validation_steps"]
            own = (at > after) & (at <= steps[rows[-1]])
            part._validation = {name: values[own] for name, values in seen.items()}
        return part

    def extend(self, other: History) -> None:
        """Append what another history of the same run has after the last step here."""
        last = int(self.steps[-1]) if len(self) else -1
        later = other.slice(start=int(np.searchsorted(other.steps, last, side="right")))
        if len(later):
            self.append(*(getattr(later, name) for name in self.ARRAYS))
        self._closings, self.elbow = other._closings, other.elbow or self.elbow
        seen = later.validation_steps > (self.validation_steps[-1:].sum() or -1)
        self._validation = {
            name: np.append(own, later._validation[name][seen], axis=0)
            for name, own in self._validation.items()
        }

    def save(self, path: str | Path) -> Path:
        """Write the run to ``path`` (.npz) atomically: a reader sees the old file or the new
        one."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"`path` must end in .npz, got {path}.")
        return write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        run = self.slice()  # one moment of a run that may still be growing
        meta = {
            **asdict(run.about),
            "closings": run.closings,
            "elbow": run.elbow,
            "has_loss_matrices": run.has_loss_matrices,
            "format": FORMAT,
            "task_names": run.task_names,
            "n_groups": run.n_groups,
        }
        p, arrays = run.probabilities, {name: getattr(run, name) for name in self.ARRAYS}
        # a head that is still there never rounds to 0, which is how a pruned one is written
        codes = np.where(np.isnan(p), 1, np.maximum(np.round(p * _FULL), p > 0))
        arrays["probabilities"] = codes.astype(np.uint16)
        arrays |= run._validation
        content = io.BytesIO()
        np.savez_compressed(content, meta=np.array(json.dumps(meta)), **arrays)
        return content.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read a run that `save` wrote, also an older one; pickled content is refused.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a recorded run, or of a format this version cannot read.
        """
        path = check_is_file(path, "recorded run")
        with open(path, "rb") as content:
            return cls.read(content, str(path))

    @classmethod
    def read(cls, content: BinaryIO, name: str) -> History:
        """The same from an open file, or what `to_bytes` gave; ``name`` is for messages."""
        try:
            with np.load(content, allow_pickle=False) as file:
                if sum(member.file_size for member in file.zip.infolist()) > _MAX_BYTES:
                    raise FieldError(f"unpacked it has more than {_MAX_BYTES:,} bytes")
                return cls._from_file(file)
        except Exception as error:
            # numpy's own words would advise to load the file unsafely
            reason = error if isinstance(error, FieldError) else type(error).__name__
            raise ValueError(
                f"{name} is not a recorded run of format {FORMAT!r} ({reason}). "
                "Recordings are the .npz files that `History.save` or `dmtg-lite demo` write."
            ) from error

    @classmethod
    def _from_file(cls, file: Mapping[str, np.ndarray]) -> History:
        nothing = {"closings": [], "elbow": None, "has_loss_matrices": False}
        meta = nothing | parse_json(str(file["meta"]), dict[str, Any])
        if meta.get("format") not in _READABLE:
            raise FieldError(f"format {meta.get('format')!r}, expected {FORMAT!r}")
        check_value(meta, Outline)
        check_value(meta, About)
        history = cls(meta["task_names"], meta["n_groups"], about=About.from_json(meta))
        names = (*cls.ARRAYS, *cls.VALIDATION)
        arrays = {name: file[name] for name in names if name in file}
        if (p := arrays.get("probabilities")) is not None and p.dtype == np.uint16:
            arrays["probabilities"] = p.astype(np.float32) / _FULL
        history.restore(arrays, meta["closings"] or [], meta["elbow"])
        history.has_loss_matrices = meta["has_loss_matrices"]
        return history

    def restore(
        self, arrays: Mapping[str, np.ndarray], closings: list[Closing], elbow: Elbow | None
    ) -> None:
        """Fill an empty history with what a file holds of one.

        Args:
            arrays: By name, of the types that this class keeps; ``loss_matrices`` and what the
                validation split gave may be missing.
            closings, elbow: As a `Closing` and an `Elbow` should be, whoever wrote them.

        Raises:
            FieldError: If a value is not what a run could have left; nothing is kept then.
        """
        has_validation = any(name in arrays for name in self.VALIDATION)
        for first, examples in (("steps", self._arrays), (self.VALIDATION[0], self._validation)):
            length = len(np.atleast_1d(arrays.get(first, 0)))
            for name, own in examples.items():
                given, shape = arrays.get(name), (length, *own.shape[1:])
                is_optional = name == "loss_matrices" or (first != "steps" and not has_validation)
                if given is None and is_optional:
                    continue
                if given is None or (given.dtype, given.shape) != (own.dtype, shape):
                    got = "nothing" if given is None else f"{given.dtype} of shape {given.shape}"
                    raise FieldError(f"`{name}` must be {own.dtype} of shape {shape}, got {got}.")
        _check_records(arrays)
        check_value({"closings": closings, "elbow": elbow}, _SPARE)
        for closing in closings:
            named = [closing["branch"], *closing["branches"], *closing["moved"].values()]
            if max(named) >= self.n_groups or not set(closing["moved"]) <= set(self.task_names):
                raise FieldError(f"`closings` names a branch or task that is not there: {closing}.")
        if elbow and not len(elbow["n_branches"]) == len(elbow["branches"]) == len(elbow["costs"]):
            raise FieldError("`elbow` must hold as many costs as branches.")
        self.append(
            arrays["steps"],
            arrays["probabilities"],
            arrays["task_losses"],
            arrays["tau"],
            arrays["lr_assignment"],
            arrays.get("loss_matrices"),
        )
        self.elbow, self._closings = elbow, list(closings)
        if has_validation:
            self._validation = {name: arrays[name] for name in self.VALIDATION}


_SPARE = {"closings": list[Closing], "elbow": Elbow | None}


def _check_records(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse steps that go back, what is no probability, and losses that no run could have."""
    steps, p, losses = (arrays[name] for name in ("steps", "probabilities", "task_losses"))
    if (np.diff(steps, prepend=0) < 0).any():
        raise FieldError("`steps` must be >= 0 and never go back.")
    if not ((p >= 0) & (p <= 1) | np.isnan(p)).all():
        raise FieldError("`probabilities` must lie between 0 and 1.")
    if not np.isfinite(losses[:1]).all():  # a run that blew up began well
        raise FieldError("`task_losses` must be finite, at least in the first record.")
    if (np.diff(arrays.get("validation_steps", []), prepend=0) < 0).any():
        raise FieldError("`validation_steps` must be >= 0 and never go back.")
    for name in ("tau", "lr_assignment"):
        if not (np.isfinite(arrays[name]) & (arrays[name] >= 0)).all():
            raise FieldError(f"`{name}` must be finite and not negative.")


def compute_is_open(probabilities: np.ndarray) -> np.ndarray:
    """Which branches are open, shape (..., N, K) -> (..., K): closed is 0 for all tasks, not just
    small."""
    return (np.asarray(probabilities) != 0).any(-2)  # so that the NaN of a run that blew up is open


def compute_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Mean entropy of the N rows, shape (..., N, K) -> (...), in units of log K: 1 uniform, 0
    one-hot.

    K counts all columns, closed branches too: with one unit for the whole run a fall of the curve
    is a fall of entropy. The most it can be is then log(open branches) / log K, which plots draw
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
