"""The settings of a run of the playground, the controls they are chosen by, and its presets.

No widgets and no training here: `views.widgets.playground` has both. As a line and as a link:
`views.playground_text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from dmtg_lite import data as data_sets
from dmtg_lite.core.checks import as_number, check_choice, describe
from dmtg_lite.core.config import NGroups, TrainConfig, as_n_groups
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.recipe import choose_recipe
from dmtg_lite.runs.presets import TOY

OWN = "own"  # data that the reader hands over
CLEAN = 0.02  # share of labels that drawn faces have flipped anyway
RUNS = ("A", "B")


@dataclass(frozen=True, slots=True)
class Suite:
    """Data that a function of `dmtg_lite.data` makes of a seed, and a config that suits them."""

    words: str
    call: str
    arguments: dict[str, Any]
    first_task: str  # the one whose loss may weigh more
    config: TrainConfig

    @property
    def has_noise(self) -> bool:
        """Whether its labels can be flipped."""
        return self.call == "toy_faces"


_SMALL = {"size": 16}  # as the what-if page draws them; the labels are those of any size
_ROOMS = {"n_train": 100, "n_val": 20, "n_test": 40, "size": 32}
_FEW = replace(TOY["rooms"], pretrain=40, steps=120)
_BITS, _PLANES = ({"labels": labels} | _SMALL for labels in ("independent", "planes"))
SUITES = {
    "faces": Suite("drawn faces", "toy_faces", _SMALL, "dark_hair", TOY["faces"]),
    "independent": Suite(
        "faces, independent labels", "toy_faces", _BITS, "light_hair", TOY["independent"]
    ),
    "planes": Suite(
        "faces, planes (two parts a group)",
        "toy_faces",
        _PLANES,
        "light_hair_full_moustache_1",
        TOY["planes"],
    ),
    "digits": Suite("real digits", "digits", {}, "at_least_5", TOY["digits"]),
    "rooms": Suite("drawn rooms (minutes)", "toy_rooms", _ROOMS, "depth", _FEW),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one of the two runs is. Frozen: `change` gives another one.

    Args:
        data: A name of `SUITES`, or ``"own"``.
        n_groups: K, how many groups.
        config: Of the training; its seed is that of the data too.
        label_noise: Share of the training labels that are flipped; of drawn faces only.
        weight: Of the loss of the first task.

    Raises:
        ValueError: If there are no such data, or a value is out of its range.
    """

    data: str = "faces"
    n_groups: NGroups = 3
    config: TrainConfig = TOY["faces"]
    label_noise: float = CLEAN
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("data", self.data, (*SUITES, OWN))
        object.__setattr__(self, "n_groups", as_n_groups(self.n_groups))
        share, weight = as_number(self.label_noise), as_number(self.weight)
        if share is None or not 0 <= share <= 0.5:
            raise ValueError(f"`label_noise` must be 0 to 0.5, got {describe(self.label_noise)}.")
        if share != CLEAN and not self.has_noise:
            raise ValueError("`label_noise` is of drawn faces only: other labels are as they are.")
        if weight is None or weight <= 0:
            raise ValueError(f"`weight` must be > 0, got {describe(self.weight)}.")

    @property
    def has_noise(self) -> bool:
        return self.data != OWN and SUITES[self.data].has_noise

    @property
    def form(self) -> dict[str, Any]:
        """The value of every control, as JSON has it."""
        config = self.config
        tau, end = config.tau if isinstance(config.tau, tuple) else (config.tau, None)
        rate = config.lr if config.lr_assignment is None else config.lr_assignment
        own = {name: getattr(config, name) for name in _PLAIN}
        own |= {"tau": tau, "tau_end": end, "lr_assignment": rate, "data": self.data}
        own |= {"n_groups": self.n_groups, "label_noise": self.label_noise, "weight": self.weight}
        own |= {"spare": config.spare.branches, "pruning": config.pruning.below}
        return {control.name: own[control.name] for control in CONTROLS}

    def change(self, values: Mapping[str, Any], own: TaskData | None = None) -> Settings:
        """The settings with other values of some controls.

        Other data bring the config that suits them; K and seed stay. ``own`` are the reader's.
        """
        before = self.form
        values = {name: value for name, value in values.items() if value != before[name]}
        if "data" in values:
            name, k = values["data"], values.get("n_groups", self.n_groups)
            fresh = Settings(data=name, n_groups=k, config=suit(name, k, own, before["seed"]))
            return fresh.change({n: v for n, v in values.items() if n not in ("data", "n_groups")})
        config = replace(self.config, **{n: v for n, v in values.items() if n in _PLAIN})
        if "lr_assignment" in values:
            config = replace(config, lr_assignment=values["lr_assignment"])
        if {"tau", "tau_end"} & values.keys():
            tau, end = (values.get(name, before[name]) for name in ("tau", "tau_end"))
            config = replace(config, tau=tau if end is None else (tau, end))
        if "spare" in values:
            config = replace(config, spare=replace(config.spare, branches=values["spare"]))
        if "pruning" in values:
            config = replace(config, pruning=replace(config.pruning, below=values["pruning"]))
        mine = {n: values[n] for n in ("n_groups", "label_noise", "weight") if n in values}
        return replace(self, config=config, **mine)

    def open(self, own: TaskData | None = None) -> TaskData:
        """The data."""
        opened = own if self.data == OWN else _open(self.data, self.label_noise, self.config.seed)
        if opened is None:
            raise ValueError("there are no data of your own here: hand them over, Playground(mine)")
        return opened if self.weight == 1 else opened.weigh({opened.task_names[0]: self.weight})


@lru_cache(maxsize=4)
def _open(name: str, label_noise: float, seed: int) -> TaskData:
    suite = SUITES[name]
    noise = {"label_noise": label_noise} if suite.has_noise else {}
    return getattr(data_sets, suite.call)(**suite.arguments, **noise, seed=seed)


def suit(name: str, n_groups: NGroups, own: TaskData | None, seed: int) -> TrainConfig:
    """The config for data of this name."""
    if name == OWN and own is not None:
        return replace(choose_recipe(own, n_groups), seed=seed)
    return replace(SUITES.get(name, SUITES["faces"]).config, seed=seed)


# ---------------------------------------------------------------- the form
Choices = tuple[tuple[Any, str], ...]


@dataclass(frozen=True, slots=True)
class Control:
    """A row of the form: what may be chosen, and an explanation of at most 25 words."""

    name: str
    label: str
    help: str
    choices: Choices = field(repr=False, default=())  # none: a whole number is typed

    def say(self, value: Any) -> str:
        """A value in words."""
        return dict(self.choices).get(value, f"{value:g}" if isinstance(value, float) else value)


def _each(*numbers: float) -> Choices:
    return tuple((number, f"{number:g}") for number in numbers)


_PLAIN = "capacity estimator optimiser_assignment normalise_losses seed".split()
_KS: Choices = (*((k, str(k)) for k in range(1, 9)), ("auto", "auto: the costs say"))
CONTROLS = (
    Control(
        "data",
        "data",
        "What is learned from. Other data bring the settings that suit them. Try independent "
        "labels: there, answers alone give no group away.",
        tuple((name, suite.words) for name, suite in SUITES.items()),
    ),
    Control(
        "n_groups",
        "groups K",
        "How many groups there may be, each with a branch. The drawn faces have three parts. Try "
        "two, then five.",
        _KS,
    ),
    Control(
        "capacity",
        "encoder capacity",
        "How many numbers a branch passes on to its heads. With room for everything, groups lose "
        "their meaning. Try 4.",
        _each(1, 2, 3, 4, 8, 16),
    ),
    Control(
        "tau",
        "temperature tau",
        "How evenly a draw spreads a task over the groups: small is nearly one-hot, large nearly "
        "1/K. Try both ends.",
        _each(0.1, 0.25, 0.5, 1, 2.5, 4, 10),
    ),
    Control(
        "tau_end",
        "tau at the end",
        "Constant, or tau moves towards this value over the run. Try from 4 to 0.25: from trying "
        "out to deciding.",
        ((None, "constant"), *_each(0.1, 0.25, 0.5, 1, 2.5, 4, 10)),
    ),
    Control(
        "estimator",
        "draw",
        "Soft: weights between 0 and 1. Hard: one group at a time. No noise: softmax(S) itself. "
        "What needs the noise? Try it.",
        (
            ("gumbel", "soft (Gumbel-softmax)"),
            ("straight_through", "hard (straight-through)"),
            ("softmax", "no noise (softmax)"),
        ),
    ),
    Control(
        "lr_assignment",
        "rate of S",
        "Learning rate of the logits S. Adam wants about 0.03, SGD 3 to 10. Try a hundred times "
        "more.",
        _each(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 6, 10, 60, 600),
    ),
    Control(
        "optimiser_assignment",
        "rule of S",
        "Adam moves S by the gradient's sign, SGD by its size, so undecided tasks wait. Change the "
        "rate with it.",
        (("adam", "Adam (the paper)"), ("sgd", "SGD")),
    ),
    Control(
        "normalise_losses",
        "normalise losses",
        "Divide each task's loss by its mean over the branches, so that a large one does not drown "
        "the others. Off in the paper.",
        ((False, "no"), (True, "yes")),
    ),
    Control(
        "pruning",
        "prune below",
        "Heads whose probability falls below this leave during training. Early probabilities still "
        "turn, so try a large value with care.",
        ((0.0, "at the end only"), *_each(0.02, 0.05, 0.1, 0.3)),
    ),
    Control(
        "spare",
        "spare branches",
        "Opened beyond K, and closed again one by one: which is missed least goes. Without them a "
        "run often settles wrongly.",
        ((0, "none"), ("double", "as many as K"), (1, "1"), (2, "2"), (3, "3"), (6, "6")),
    ),
    Control(
        "label_noise",
        "labels flipped",
        "Share of wrong training labels, on drawn faces; test labels stay clean. Half of them "
        "wrong leaves nothing to learn.",
        ((0.0, "none"), (CLEAN, "2 %"), (0.1, "10 %"), (0.3, "30 %"), (0.4, "40 %")),
    ),
    Control(
        "weight",
        "first task's loss",
        "How much the loss of the first task counts: as if its number had another unit. Try 100, "
        "then normalise losses too.",
        ((1.0, "as it is"), (10.0, "10 times"), (100.0, "100 times")),
    ),
    Control(
        "seed",
        "seed",
        "Of data, first weights, batches and noise. One run proves little: try three before you "
        "believe anything.",
    ),
)


# ---------------------------------------------------------------- what happens if ...
@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A question with two runs that answer it.

    Args:
        title: Ends "what happens if".
        expect: A question to answer before Start.
        seen: What we saw of it, in which seeds.
        changes: What run B has otherwise than run A.
        usual: Run A.
    """

    title: str
    expect: str
    seen: str
    changes: dict[str, Any]
    usual: Settings = Settings()

    @property
    def settings(self) -> dict[str, Settings]:
        return {"A": self.usual, "B": self.usual.change(self.changes)}

    def is_meant(self, settings: Mapping[str, Settings]) -> bool:
        """Whether these are its settings, whatever the seed that both share."""
        seed = {"seed": settings["A"].config.seed}
        return all(settings[run] == one.change(seed) for run, one in self.settings.items())


_PLAIN_RUN = Settings(config=TOY["faces_plain"])  # the paper's optimiser, no spare branches
PRESETS = (
    Preset(
        title="K is too small",
        expect="Three parts of the face, two branches of one number each. Will tasks stay "
        "undecided, and who pays?",
        seen="All nine tasks are as decided as in run A, yet tasks of one part are torn apart: "
        "agreement 0.35 and 0.50 in place of 1, mean error 14 and 15 % in place of 5 and 6 "
        "(seeds 0 and 1).",
        changes={"n_groups": 2},
    ),
    Preset(
        title="capacity is too large",
        expect="A branch of run B passes on four numbers, enough for all three parts. Will the "
        "groups be the same, and will errors fall?",
        seen="Run B is as decided, and need not find the parts: agreement 0.64 in seed 0, and no "
        "more errors for it, 5 % in both runs. With room for all, groups mean little. In seed 1 "
        "run B finds them, run A does not: 6 and 25 %.",
        changes={"capacity": 4},
        usual=_PLAIN_RUN,
    ),
    Preset(
        title="there is no noise",
        expect="All branches begin as copies and are asked exactly alike. What will S do in the "
        "first hundred steps?",
        seen="Nothing moves for a hundred steps; then roundings grow, and two of nine tasks are "
        "undecided at the end. Agreement 0.23 and 0.35, mean error 15 and 16 % in place of 5 and "
        "6 (seeds 0 and 1).",
        changes={"estimator": "softmax"},
    ),
    Preset(
        title="S is too fast",
        expect="The paper's optimiser, and in run B a hundred times its rate of S. After how many "
        "steps is the entropy 0, and are the groups the same?",
        seen="All tasks are decided, on chance: in seed 0 agreement 0.50 in place of 1, mean error "
        "15 % in place of 5. In seed 1 both runs fail, 0.64 and 15 % beside 0 and 25 %: a plain "
        "run often does, at any rate.",
        changes={"lr_assignment": 3.0},
        usual=_PLAIN_RUN,
    ),
    Preset(
        title="one loss is a hundred times larger",
        expect="The first task is loud in run B. Which tasks will suffer: its neighbours, the "
        "others, or itself?",
        seen="The others pay: mean error 8 and 15 % in place of 5 and 6 (seeds 0 and 1), and in "
        "seed 1 the groups are lost, agreement 0.48. With normalised losses both seeds are as run "
        "A again: agreement 1, error 5 and 6 %.",
        changes={"weight": 100.0},
    ),
    Preset(
        title="labels are flipped",
        expect="Three of ten training labels are wrong in run B. Are the groups lost, or only "
        "accuracy?",
        seen="The groups are found all the same, agreement 1 in seeds 0 and 1; the mean error "
        "on clean pictures is 14 and 11 % in place of 5 and 6.",
        changes={"label_noise": 0.3},
    ),
)
"""What happens if ... Each was run as it stands; a single number is of one processor."""
