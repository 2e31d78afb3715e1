"""What options made of a dataclass promise, on one that nobody trains with."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from dmtg_lite import cli
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.experiments import TOY
from dmtg_lite.studies.config_options import add_config_options, change_config, read_config_options


@dataclass(frozen=True)
class Oven:
    """Where it is baked.

    Args:
        heat: Degrees, or 100 % by ``"grill"``.
        fan: Whether it blows.
    """

    heat: int | Literal["grill"] = 180
    fan: bool = False


@dataclass(frozen=True)
class Cake:
    """A cake.

    Args:
        tiers: How many, one on the other.
        sweet, sour: Spoons.
        name: What is written on it.

    Raises:
        ValueError: Never.
    """

    tiers: int = 1
    sweet: float | tuple[float, float] = 1.0
    sour: float | None = 0.5
    name: str | None = None
    icing: Literal["sugar", "none at all"] = "sugar"
    oven: Oven = field(default_factory=Oven)
    seed: int = 0


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser()
    own.add_argument("shop")
    add_config_options(own, Cake, skip=["seed"], aliases={"--hot": "--oven-heat"})
    return own


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ("", {}),
        ("--tiers 3 --name Anna", {"tiers": 3, "name": "Anna"}),
        ("--sweet 2", {"sweet": 2.0}),
        ("--sweet 2,0.5", {"sweet": (2.0, 0.5)}),
        ("--sour none", {"sour": None}),
        ("--icing sugar --oven-heat 200", {"icing": "sugar", "oven": Oven(heat=200)}),
        ("--hot grill --oven-fan", {"oven": Oven(heat="grill", fan=True)}),
        ("--no-oven-fan", {"oven": Oven()}),
    ],
)
def test_what_is_given_is_changed_and_nothing_else(arguments: str, changed: dict[str, Any]) -> None:
    """Options before the positional too: none takes more words than its own."""
    for words in (["shop", *arguments.split()], [*arguments.split(), "shop"]):
        changes = read_config_options(parser().parse_args(words))
        assert change_config(Cake(), changes) == Cake(**changed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--tiers many", "must be a whole number, got 'many'"),
        ("--oven-heat hot", "must be a whole number or 'grill', got 'hot'"),
        ("--sweet 1,2,3", "must be a number or a number,a number, got '1,2,3'"),
        ("--sour much", "must be a number or none, got 'much'"),
        ("--icing jam", "must be 'sugar' or 'none at all', got 'jam'"),
        ("--seed 3", "unrecognized arguments: --seed"),
    ],
)
def test_what_cannot_be_read_is_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    """The message says what may be given, and what was."""
    with pytest.raises(SystemExit):
        parser().parse_args(["shop", *arguments.split()])
    assert message in capsys.readouterr().err


def test_help_is_what_the_docstring_says() -> None:
    """Of every field, on nested ones too, and with the percent sign that argparse would eat."""
    text = " ".join(parser().format_help().split())
    assert "--tiers N How many, one on the other." in text
    assert text.count("Spoons.") == 2
    assert "--sweet X|X,X" in text
    assert 'Degrees, or 100 % by "grill".' in text
    assert "oven: Where it is baked." in text
    assert "Never" not in text


def test_every_field_of_the_config_can_be_set() -> None:
    """All but the seed, which is an option of the command; old spellings go on."""
    own = argparse.ArgumentParser()
    add_config_options(own, TrainConfig, skip=["seed"], aliases=cli.OTHER_SPELLINGS)
    options = {option for action in own._actions for option in action.option_strings}
    old = "tau lr lr-assignment steps epochs pretrain batch-size shared restarts spare-branches "
    old += "close-from close-every encoder pretrained prune-below prune-from precision"
    assert {f"--{name}" for name in old.split()} <= options
    assert all(action.help for action in own._actions)
    given = own.parse_args(["--restarts", "2", "--prune-below", "0.1", "--tau", "9,1"])
    config = change_config(TOY["faces"], read_config_options(given))
    assert (config.restarts.n, config.pruning.below, config.tau) == (2, 0.1, (9.0, 1.0))
    assert config.spare == TOY["faces"].spare
