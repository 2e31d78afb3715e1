"""Everything a student may tweak, in one frozen dataclass that prints as one pasteable line.

K is not here: it is the argument of the method. Nothing here trains.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from dmtg_lite.core.assignment import ESTIMATORS

CLOSE_RULES = ("missed_least", "random")
_MOST_BRANCHES = 12  # opened when K is to be found: memory grows with every one


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrainConfig:
    """How a network is trained. Defaults are the paper's CelebA values where it states one.

    Change a field with ``dataclasses.replace(config, tau=0.5)``; presets are in
    `dmtg_lite.experiments` (``PAPER``, ``TOY``).

    Args:
        tau: Temperature of the draw: a number, or (start, end) to anneal geometrically over the
            run.
        estimator: ``"gumbel"``, ``"straight_through"`` or ``"softmax"``; see `sample_assignment`.
        lr: Learning rate of the weights.
        lr_assignment: Learning rate of S; ``None``: the same as ``lr``, the paper. A run of a few
            hundred steps needs about ten times more, since Adam moves S by at most this per step.
        optimiser: ``"adam"`` (the paper), or ``"sgd"`` with momentum 0.9.
        optimiser_assignment: The same for S; ``None``: as ``optimiser``, the paper. SGD moves S by
            the size of its gradient, Adam by its sign: undecided tasks then wait instead of
                following noise.
            It wants losses of order 1 (see ``normalise_losses``) and a rate of 3 to 10.
        schedule: ``"constant"``; ``"plateau"``: halve the rates when the validation loss has not
            improved for 3 epochs (the paper says plateau and 0.5; the patience is ours);
            ``"multistep"``: halve them every 15 epochs, as the released code does.
        steps: Training steps after pretraining. Give this or ``epochs``.
        epochs: The same in passes over the training images.
        pretrain: Naive MTL steps before branching out (epochs, if ``epochs`` is given).
        batch_size: B.
        shared: Encoder stages in the stem, shared by all groups.
        restarts: Train this often, pretraining included, and keep the run with the lowest training
            loss. 1 in the paper.
        halve_every: Successive halving of the restarts: every this many steps only the best
            quarter, by training loss, goes on, until one is left. 0: all restarts run to the end.
        spare_branches: Branches opened beyond K and closed again while training; ``"double"``: as
            many as K, but no more branches than tasks in all. 0 in the paper.
        close_from: Step after which the first spare branch closes.
        close_every: Steps from one closing to the next, until K branches are left.
        close_rule: Which branch closes: the one ``"missed_least"`` (see `dmtg_lite.runs.closing`),
            or a ``"random"`` one, as a control.
        train_all_heads: Every head learns from every batch, on features it sends no gradient into;
            so the loss matrix says what a branch could do for a task, not how rarely its head was
            trained. Off in the paper, where the draw weighs heads and encoders alike.
        normalise_losses: Divide each task's loss by its mean over the branches, so that a task with
            a small loss trains the encoder as much as the others. Off in the paper.
        scale_gradients: Scale gradients by 1 / sqrt(N) between branch and heads and by 1 / sqrt(K)
            between stem and branches, as the released code means to on Taskonomy. Off in the paper.
        prune_below: Drop heads whose probability falls below this while training; 0 (the paper):
            only at the end. Dropped decoders are not computed any more, nor are branches left
            empty.
        prune_from: First step at which ``prune_below`` acts: early probabilities still reverse.
        jitter: Relative noise on the copied branches; 0 in the paper.
        encoder: A name of `encoders.ENCODERS`: ``"toy"`` or ``"resnet"`` for whole images; for
            dense tasks ``"xception"`` and ``"vit_base"``, or their small siblings for a CPU.
        pretrained: A local safetensors file with the encoder's first weights; see
            `encoders.pretrained`.
        capacity: Bottleneck of the toy encoder.
        head_hidden: Hidden units of each head; 0 (the paper's CelebA heads): linear.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast; S, softmax and losses stay float32).
        seed: Of weights, batches and noise.

    Raises:
        ValueError: If a value is out of its range; the message names the field.
    """

    tau: float | tuple[float, float] = 2.5
    estimator: str = "gumbel"
    lr: float = 8e-4
    lr_assignment: float | None = None
    optimiser: str = "adam"
    optimiser_assignment: str | None = None
    schedule: str = "constant"
    steps: int | None = None
    epochs: int | None = None
    pretrain: int = 0
    batch_size: int = 64
    shared: int = 0
    restarts: int = 1
    halve_every: int = 0
    spare_branches: int | str = 0
    close_from: int = 400
    close_every: int = 50
    close_rule: str = "missed_least"
    train_all_heads: bool = False
    normalise_losses: bool = False
    scale_gradients: bool = False
    prune_below: float = 0.0
    prune_from: int = 200
    jitter: float = 0.0
    encoder: str = "toy"
    pretrained: str | None = None
    capacity: int = 1
    head_hidden: int = 0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.tau, list):  # as it comes back from JSON
            object.__setattr__(self, "tau", tuple(self.tau))
        start, end = (
            self.tau if isinstance(self.tau, tuple) and len(self.tau) == 2 else (self.tau, self.tau)
        )
        if not all(_is_number(tau) and tau > 0 for tau in (start, end)):
            raise ValueError(
                f"`tau` must be a number > 0 or (start, end), both > 0; got {self.tau!r}."
            )
        for name, choices in (
            ("estimator", ESTIMATORS),
            ("optimiser", ("adam", "sgd")),
            ("optimiser_assignment", (None, "adam", "sgd")),
            ("close_rule", CLOSE_RULES),
            ("schedule", ("constant", "plateau", "multistep")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {choices}, got {getattr(self, name)!r}.")
        for name in ("lr", "lr_assignment"):
            value = getattr(self, name)
            if not (value is None and name == "lr_assignment") and not (
                _is_number(value) and value >= 0
            ):
                raise ValueError(f"`{name}` must be a finite number >= 0, got {value!r}.")
        for name, least in (
            ("steps", 1), ("epochs", 1), ("pretrain", 0), ("batch_size", 1), ("shared", 0),
            ("restarts", 1), ("halve_every", 0), ("prune_from", 0), ("capacity", 1), ("seed", 0),
            ("close_from", 1), ("close_every", 1), ("head_hidden", 0), ("spare_branches", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            optional = value is None and name in ("steps", "epochs")
            optional |= value == "double" and name == "spare_branches"
            if not optional and (type(value) is not int or value < least):
                hint = ' or "double"' if name == "spare_branches" else ""
                raise ValueError(
                    f"`{name}` must be a whole number >= {least}{hint}, got {value!r}."
                )
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"give `steps` or `epochs`, not both (got {self.steps} and {self.epochs})."
            )
        for name in ("normalise_losses", "train_all_heads", "scale_gradients"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be True or False, got {getattr(self, name)!r}.")
        if not (isinstance(self.encoder, str) and self.encoder):
            raise ValueError(f"`encoder` must be the name of an encoder, got {self.encoder!r}.")
        if not (self.pretrained is None or (isinstance(self.pretrained, str) and self.pretrained)):
            raise ValueError(
                f"`pretrained` must be a path as text, or None, got {self.pretrained!r}."
            )
        if not (_is_number(self.prune_below) and 0 <= self.prune_below < 1):
            raise ValueError(f"`prune_below` must be in [0, 1), got {self.prune_below!r}.")
        if not (_is_number(self.jitter) and self.jitter >= 0):
            raise ValueError(f"`jitter` must be a finite number >= 0, got {self.jitter!r}.")

    def __repr__(self) -> str:
        changed = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"TrainConfig({changed})"

    def tau_at(self, progress: float) -> float:
        """Temperature at a fraction of the run: 0 at the first step, 1 at the last."""
        if not isinstance(self.tau, tuple):
            return float(self.tau)
        start, end = self.tau
        return float(start * (end / start) ** progress)

    def count_branches(self, n_groups: int | str, n_tasks: int) -> tuple[int, int | None]:
        """(branches to open, how many of them are spare) for K groups of N tasks.

        With K ``"auto"`` the closing costs will say how many are spare: None. As many branches are
        opened as there are tasks, at most 12, or ``spare_branches`` + 1 where that is a number > 0.

        Raises:
            ValueError: If ``n_groups`` is neither a whole number >= 1 nor ``"auto"``.
        """
        if n_groups == "auto":
            return (
                self.spare_branches + 1 if self._spare_is_set() else min(n_tasks, _MOST_BRANCHES)
            ), None
        if isinstance(n_groups, bool) or not isinstance(n_groups, int) or n_groups < 1:
            raise ValueError(f'`n_groups` must be >= 1 or "auto", got {n_groups!r}.')
        if self.spare_branches == "double":
            return max(n_groups, min(2 * n_groups, n_tasks)), max(
                0, min(n_groups, n_tasks - n_groups)
            )
        return n_groups + self.spare_branches, self.spare_branches

    def _spare_is_set(self) -> bool:
        return isinstance(self.spare_branches, int) and self.spare_branches > 0

    def count_steps(self, n_images: int) -> tuple[int, int]:
        """(pretraining steps, steps after it) on ``n_images`` training images.

        An epoch is as many whole batches as the images give; the images left over change from
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
        per_epoch = self.steps_per_epoch(n_images)
        return self.pretrain * per_epoch, self.epochs * per_epoch

    def steps_per_epoch(self, n_images: int) -> int:
        """Whole batches in one pass over the images, at least 1."""
        return max(1, n_images // self.batch_size)
