"""What a dashboard reads of a run, wherever that trains, and what it can do to it from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from dmtg_lite.core.record import Knobs
from dmtg_lite.runs.history import History

Knob = float | tuple[float, float]  # as configured: a number, or two where it is annealed


def tell_turn(name: str, value: float | None, step: int) -> str:
    """A knob that was turned, in words."""
    to = "as configured from" if value is None else f"turned to {value:g} at"
    return f"{name} {to} step {step}"


class Source(Protocol):
    """A run in view: `Recorded`, a `FollowedRun` or a `LiveSession`.

    Its values are read by the painter whenever one of the ``listeners`` was called.
    """

    listeners: set[Callable[[], None]]

    @property
    def controls(self) -> tuple[str, ...]:
        """What can be done to it, by name of the dashboard's controls."""
        ...

    @property
    def is_steerable(self) -> bool:
        """Whether anybody is there to take a command."""
        ...

    @property
    def history(self) -> History:
        """What is known of it; another object when it begins anew, or another run is opened."""
        ...

    @property
    def state(self) -> str:
        """What it does, in words."""
        ...

    @property
    def error(self) -> str:
        """Why it failed or cannot be read; empty otherwise."""
        ...

    @property
    def pretrained(self) -> int:
        """Naive MTL steps taken."""
        ...

    @property
    def pretraining(self) -> Sequence[tuple[int, float]]:
        """Some of them with their mean loss, as far as they are known here."""
        ...

    @property
    def n_groups(self) -> int | Literal["auto"] | None:
        """K that was asked for; None: not known."""
        ...

    @property
    def n_steps(self) -> int | None:
        """Steps of the whole run, after pretraining; None: as many as there are."""
        ...

    @property
    def config_line(self) -> str:
        """The run as one line to paste."""
        ...


class Steered(Source, Protocol):
    """One that takes commands. They return at once and act between two steps."""

    @property
    def configured(self) -> dict[str, Knob]:
        """``tau`` and ``lr_assignment`` as the config has them."""
        ...

    @property
    def knobs(self) -> Knobs:
        """As they are turned; see `turn`."""
        ...

    def run_if_headless(self) -> None: ...
    def start(self) -> None: ...
    def pause(self) -> None: ...
    def step(self, n: int = 1) -> None: ...
    def turn(self, **knobs: float | None) -> None: ...


class Recorded:
    """A run that is over, or of which no more is known than its history."""

    controls, is_steerable = (), False
    state, error, pretrained, n_groups, n_steps = "recorded", "", 0, None, None
    pretraining = ()

    def __init__(self, history: History) -> None:
        self.history = history
        self.listeners: set[Callable[[], None]] = set()

    @property
    def config_line(self) -> str:
        return self.history.about.config
