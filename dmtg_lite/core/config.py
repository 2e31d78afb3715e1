"""Everything a student may tweak, in one frozen dataclass that prints as one pasteable line.

K is not here: it is the argument of the method. Nothing here trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias, get_args

from dmtg_lite.core.assignment import ESTIMATORS, Estimator
from dmtg_lite.core.checks import MOST, as_number, as_whole, check_choice, check_kind, describe

NGroups: TypeAlias = int | Literal["auto"]
"""K, or the word that leaves it to the closing costs."""

Optimiser = Literal["adam", "sgd"]
Schedule = Literal["constant", "plateau", "multistep"]
Precision = Literal["float32", "bfloat16"]
CloseRule = Literal["missed_least", "random"]
_MOST_GROUPS = 1000  # each is a copy of the encoder
_MOST_BRANCHES = 12  # opened when K is to be found: memory grows with every one


def _print(self: Any) -> str:
    """What differs from the defaults, as a line to paste."""
    changed = []
    for entry in fields(self):
        value, make = getattr(self, entry.name), entry.default_factory
        if value != (entry.default if make is MISSING else make()):
            changed.append(f"{entry.name}={value!r}")
    return f"{type(self).__name__}({', '.join(changed)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Spare:
    """Branches opened beyond K and closed again while training. None in the paper.

    Args:
        branches: How many; ``"double"``: as many as K, but no more branches than tasks in all.
        close_from: Step after which the first one closes.
        close_every: Steps from one closing to the next, until K branches are left.
        rule: Which branch closes: the one ``"missed_least"`` (see `runs.spare`), or a ``"random"``
            one, as a control.
    """

    branches: int | Literal["double"] = 0
    close_from: int = 400
    close_every: int = 50
    rule: CloseRule = "missed_least"

    __repr__ = _print

    def __post_init__(self) -> None:
        if not (isinstance(self.branches, str) and self.branches == "double"):
            _settle_whole(self, "branches", 0, "spare.", ' or "double"')
        _settle_whole(self, "close_from", 1, "spare.")
        _settle_whole(self, "close_every", 1, "spare.")
        check_choice("spare.rule", self.rule, get_args(CloseRule))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Restarts:
    """Train several times and keep the run with the lowest training loss. Once in the paper.

    Args:
        n: How often, pretraining included.
        halve_every: Successive halving: every this many steps only the best quarter, by training
            loss, goes on, until one is left. 0: all run to the end.
    """

    n: int = 1
    halve_every: int = 0

    __repr__ = _print

    def __post_init__(self) -> None:
        _settle_whole(self, "n", 1, "restarts.")
        _settle_whole(self, "halve_every", 0, "restarts.")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pruning:
    """Heads that leave while training. In the paper they leave at the end only.

    Args:
        below: Drop heads whose probability falls below this; 0: none. Dropped decoders are not
            computed any more, nor are branches left empty.
        start: First step at which heads are dropped: early probabilities still reverse.
    """

    below: float = 0.0
    start: int = 200

    __repr__ = _print

    def __post_init__(self) -> None:
        below = as_number(self.below)
        if below is None or not 0 <= below < 1:
            raise ValueError(f"`pruning.below` must be in [0, 1), got {describe(self.below)}.")
        _settle(self, "below", below)
        _settle_whole(self, "start", 0, "pruning.")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HeadOptions:
    """What heads are and when they learn.

    Args:
        hidden: Hidden units of each head; 0, the paper's on CelebA: linear.
        train_all: Every head learns from every batch, on features it sends no gradient into; so the
            loss matrix says what a branch could do for a task, not how rarely its head was trained.
            Off in the paper, where the draw weighs heads and encoders alike.
    """

    hidden: int = 0
    train_all: bool = False

    __repr__ = _print

    def __post_init__(self) -> None:
        _settle_whole(self, "hidden", 0, "heads.")
        _check_flag("heads.train_all", self.train_all)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrainConfig:
    """How a network is trained. Defaults are the paper's on CelebA: tau, both rates, encoder.

    Ours are batches of 64 and, for short runs, a constant rate; ``steps`` or ``epochs`` must be
    given. Its whole recipe, 100 epochs with a plateau, is ``experiments.PAPER["celeba9"]``. Where
    no config is given, `methods.choose_recipe` makes one.

    Change a field with ``dataclasses.replace(config, tau=0.5)``; presets are in
    `dmtg_lite.experiments` (``PAPER``, ``TOY``).

    Args:
        tau: Temperature of the draw, or (start, end) to anneal geometrically over the run.
        estimator: ``"gumbel"``, ``"straight_through"`` or ``"softmax"``; see `sample_assignment`.
        lr: Learning rate of the weights, by Adam.
        lr_assignment: Learning rate of S; ``None``: the same as ``lr``, the paper. A run of a few
            hundred steps needs about ten times more, since Adam moves S by at most this per step.
        optimiser_assignment: Rule for S: ``"adam"``, the paper, or ``"sgd"`` with momentum 0.9,
            which moves S by the size of its gradient, not by its sign: undecided tasks then wait
            instead of following noise. It wants losses of order 1 and a rate of 3 to 10.
        schedule: ``"constant"``; ``"plateau"``: halve the rates when the validation loss has not
            improved for 3 epochs (the paper says plateau and 0.5; the patience is ours);
            ``"multistep"``: halve them every 15 epochs, as the released code does.
        steps: Training steps after pretraining. Give this or ``epochs``.
        epochs: The same in passes over the training rows.
        pretrain: Naive MTL steps before branching out (epochs, if ``epochs`` is given).
        batch_size: B, rows of a step.
        shared: Encoder stages in the stem, shared by all groups.
        restarts: See `Restarts`; off in the paper.
        spare: See `Spare`; off in the paper.
        heads: See `HeadOptions`.
        normalise_losses: Divide each task's loss by its mean over the branches, so that a task with
            a small loss trains the encoder as much as the others. Off in the paper.
        pruning: See `Pruning`; off in the paper.
        jitter: Relative noise on the copied branches; 0 in the paper.
        encoder: A name of `encoders.ENCODERS`: ``"resnet"``, the paper's, ``"convnet"`` or
            ``"toy"`` for pictures; ``"mlp"`` for tables, ``"attention_pool"`` for sequences; for
            dense tasks ``"xception"`` and ``"vit_base"``, or their small siblings for a CPU.
        pretrained: A local safetensors file with the encoder's first weights, see
            `encoders.pretrained`.
        capacity: Bottleneck of ``"toy"``, ``"convnet"``, ``"mlp"`` and ``"attention_pool"``: what
            a branch can carry. The others have none.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast; S, softmax and losses stay float32).
        cuda_graph: Take steps on an NVIDIA GPU as one CUDA graph, in less of the host's time; see
            `runs.graph`. The numbers are the same but for the last digits.
        seed: Of weights, batches and noise.

    Raises:
        ValueError: If a value is out of its range; the message names the field.
    """

    tau: float | tuple[float, float] = 2.5
    estimator: Estimator = "gumbel"
    lr: float = 8e-4
    lr_assignment: float | None = None
    optimiser_assignment: Optimiser = "adam"
    schedule: Schedule = "constant"
    steps: int | None = None
    epochs: int | None = None
    pretrain: int = 0
    batch_size: int = 64
    shared: int = 0
    restarts: Restarts = field(default_factory=Restarts)
    spare: Spare = field(default_factory=Spare)
    heads: HeadOptions = field(default_factory=HeadOptions)
    normalise_losses: bool = False
    pruning: Pruning = field(default_factory=Pruning)
    jitter: float = 0.0
    encoder: str = "resnet"
    pretrained: str | None = None
    capacity: int = 1
    precision: Precision = "float32"
    cuda_graph: bool = False
    seed: int = 0

    __repr__ = _print

    def __post_init__(self) -> None:
        _settle(self, "tau", _as_tau(self.tau))
        check_choice("estimator", self.estimator, ESTIMATORS)
        check_choice("optimiser_assignment", self.optimiser_assignment, get_args(Optimiser))
        check_choice("schedule", self.schedule, get_args(Schedule))
        check_choice("precision", self.precision, get_args(Precision))
        for name in ("lr", "lr_assignment", "jitter"):
            _settle_rate(self, name)
        for name, least in _LEAST.items():
            _settle_whole(self, name, least)
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"give `steps` or `epochs`, not both (got {self.steps} and {self.epochs})."
            )
        _check_flag("normalise_losses", self.normalise_losses)
        _check_flag("cuda_graph", self.cuda_graph)
        for name, kind in _GROUPED.items():
            check_kind(name, getattr(self, name), kind, f"e.g. {kind.__name__}()")
        hint = "the name of an encoder (a module of your own: methods.dmtg(..., encoder=module))"
        _check_text("encoder", self.encoder, hint)
        if self.pretrained is not None:
            _check_text("pretrained", self.pretrained, "a path as text, or None")

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Self:
        """The config that ``dataclasses.asdict`` turned into JSON, also by an older version.

        Older versions had one flat list of fields; what has left must have been off.

        Raises:
            ValueError: If a field is unknown, or is one that left and was in use.
        """
        known = _regroup(settings)
        if known.get("optimiser_assignment", "") is None:  # once: as the weights
            known["optimiser_assignment"] = "adam"
        if isinstance(known.get("tau"), list):
            known["tau"] = tuple(known["tau"])
        if unknown := sorted(set(known) - {entry.name for entry in fields(cls)}):
            raise ValueError(
                f"unknown settings {unknown}; a config has {[f.name for f in fields(cls)]}."
            )
        return cls(
            **{
                name: _GROUPED[name](**value) if name in _GROUPED else value
                for name, value in known.items()
            }
        )

    def tau_at(self, progress: float) -> float:
        """Temperature at a fraction of the run: 0 at the first step, 1 at the last."""
        if not isinstance(self.tau, tuple):
            return float(self.tau)
        start, end = self.tau
        return float(start * (end / start) ** progress)

    def count_branches(self, n_groups: NGroups, n_tasks: int) -> tuple[int, int | None]:
        """(branches to open, how many of them are spare) for K groups of N tasks.

        With K ``"auto"`` the closing costs will say how many are spare: None. As many branches are
        opened as there are tasks, at most 12, or ``spare.branches`` + 1 where that is a number > 0.

        Raises:
            ValueError: If ``n_groups`` is neither a whole number >= 1 nor ``"auto"``.
        """
        spare = self.spare.branches
        n_groups = as_n_groups(n_groups)
        if n_groups == "auto":
            given = spare + 1 if isinstance(spare, int) and spare else None
            return given or min(n_tasks, _MOST_BRANCHES), None
        if spare == "double":
            spare = max(0, min(n_groups, n_tasks - n_groups))
        return n_groups + spare, spare

    def count_steps(self, n_rows: int) -> tuple[int, int]:
        """(pretraining steps, steps after it) on ``n_rows`` training rows.

        An epoch is as many whole batches as the rows give; the rows left over change from
        epoch to epoch, because each epoch shuffles anew.

        Raises:
            ValueError: If neither ``steps`` nor ``epochs`` is set.
        """
        if self.steps is not None:
            return self.pretrain, self.steps
        if self.epochs is None:
            raise ValueError(
                "the config says neither `steps` nor `epochs`; set one, or start from a preset."
            )
        per_epoch = self.steps_per_epoch(n_rows)
        return self.pretrain * per_epoch, self.epochs * per_epoch

    def steps_per_epoch(self, n_rows: int) -> int:
        """Whole batches in one pass over the rows, at least 1."""
        return max(1, n_rows // self.batch_size)


_LEAST = {
    "steps": 1, "epochs": 1, "pretrain": 0, "batch_size": 1, "shared": 0, "capacity": 1, "seed": 0
}  # fmt: skip
_MAY_BE_NONE = {"steps", "epochs", "lr_assignment"}
_GROUPED = {"spare": Spare, "restarts": Restarts, "pruning": Pruning, "heads": HeadOptions}
_MOVED = {  # names of the flat configs of old, and where they are now
    "spare_branches": ("spare", "branches"),
    "close_from": ("spare", "close_from"),
    "close_every": ("spare", "close_every"),
    "close_rule": ("spare", "rule"),
    "restarts": ("restarts", "n"),
    "halve_every": ("restarts", "halve_every"),
    "prune_below": ("pruning", "below"),
    "prune_from": ("pruning", "start"),
    "head_hidden": ("heads", "hidden"),
    "train_all_heads": ("heads", "train_all"),
}
_LEFT = {"optimiser": "adam", "scale_gradients": False}  # and the value that changed nothing


def _regroup(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of whatever version under the names of today."""
    known: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _LEFT:
            if value != _LEFT[name]:
                raise ValueError(f"`{name}={value!r}` is no longer offered: see the changelog.")
        elif name in _MOVED and not (name in _GROUPED and isinstance(value, Mapping)):
            group, own = _MOVED[name]
            known.setdefault(group, {})[own] = value
        else:
            known[name] = value
    return known


def list_decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the fields of a config those that decide on the numbers of a run, not how they are made:
    runs that agree in them are the same run."""
    return {name: value for name, value in settings.items() if name != "cuda_graph"}


def as_n_groups(n_groups: Any) -> NGroups:
    """K as a number of Python's own, or ``"auto"``.

    Raises:
        ValueError: If it is neither a whole number from 1 to 1000 nor ``"auto"``.
    """
    if isinstance(n_groups, str) and n_groups == "auto":
        return "auto"
    return as_whole("n_groups", n_groups, 1, ' or "auto"', most=_MOST_GROUPS)


def _settle(config: Any, name: str, value: object) -> None:
    """Set a field of a frozen config, while it is being made."""
    object.__setattr__(config, name, value)


def _settle_whole(config: Any, name: str, least: int, group: str = "", hint: str = "") -> None:
    given = getattr(config, name)
    if given is not None or name not in _MAY_BE_NONE:
        most = 2**63 - 1 if name == "seed" else MOST
        _settle(config, name, as_whole(f"{group}{name}", given, least, hint, most=most))


def _settle_rate(config: Any, name: str) -> None:
    given = getattr(config, name)
    if given is not None or name not in _MAY_BE_NONE:
        rate = as_number(given)
        if rate is None or rate < 0:
            raise ValueError(f"`{name}` must be a finite number >= 0, got {describe(given)}.")
        _settle(config, name, rate)


def _as_tau(given: Any) -> float | tuple[float, float]:
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2
    taus = [as_number(one) for one in (given if is_pair else [given])]
    if any(tau is None or tau <= 0 for tau in taus):
        raise ValueError(
            f"`tau` must be a number > 0 or (start, end), both > 0; got {describe(given)}."
        )
    found: Any = tuple(taus)
    return found if is_pair else found[0]


def _check_text(name: str, value: object, meant: str) -> None:
    if not (isinstance(value, str) and value):
        raise ValueError(f"`{name}` must be {meant}, got {describe(value)}.")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")
