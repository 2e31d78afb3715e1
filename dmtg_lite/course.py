"""What the notebooks say to a student: is an exercise solved, and where does an equation stand?

`check` never shows an answer. A fact that is read off is kept as a `seal`, a salted hash of it;
what somebody changed or invented is judged by a property. Needs nothing but Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent


class Open(Exception):
    """Raised where a function of an exercise returns None: nobody has written it yet."""


class Mark(int):
    """What `check` found: 1 where correct, else 0, so that ``points * mark`` is a grade.

    `state` is "open", "not yet" or "correct".
    """

    state: str

    def __new__(cls, state: str) -> Mark:
        mark = super().__new__(cls, state == "correct")
        mark.state = state
        return mark

    def _ipython_display_(self) -> None:
        """Nothing below the cell: `check` has said it."""


def check(
    number: str,
    answer: object,
    test: Callable | None = None,
    *,
    sealed: str = "",
    digits: int = 0,
    given: object = None,
    note: str = "",
) -> Mark:
    """Say whether an exercise is solved. An error in an answer is reported, never raised.

    Args:
        number: Of the exercise, such as "1.2".
        answer: What the student wrote. A function of theirs that returns None is still open.
        test: Asserts what must hold of ``answer``; the message of an assert is the hint.
        sealed: What `seal` made of the right answer, where that is a fact.
        digits: Decimals that count in a sealed number.
        given: What stands there at first: an answer equal to it is still open.
        note: A sentence for who has solved it.

    Example:
        >>> mark = check("1.1", "Two", sealed=seal("1.1", "two"), note="More cost more.")
        1.1 correct. More cost more.
        >>> print(mark.state, 3 * mark)
        correct 3
    """
    try:
        if _is_same(answer, given):
            raise Open
        if sealed:
            _compare(number, answer, sealed, digits)
        if test is not None:
            test(_Asked(answer) if callable(answer) else answer)
    except Open:
        state, says = "open", " is still open; the rest of the notebook runs without it"
    except AssertionError as error:  # `test` says what is wrong
        hint = str(error).partition("\n")[0]  # other libraries' messages go on with the values
        state, says = "not yet", f" not yet: {hint}" if hint else " not yet"
    except Exception as error:  # noqa: BLE001  whatever a student's code may raise
        state, says = "not yet", f" not yet: your code raised {type(error).__name__}: {error}"
    else:
        state, says = "correct", f" correct. {note}" if note else " correct"
    print(f"{number}{says}")
    return Mark(state)


def seal(number: str, answer: object, *, digits: int = 0) -> str:
    """What a check cell may show of the right answer: its kind, and ten digits of a salted hash.

    Texts count without case and outer blanks, numbers to ``digits`` decimals, sets in any order.
    """
    told = f"dmtg_lite {number} {_tell(answer, digits)}"
    return f"{_kind(answer)}:{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def show_line(file: str, text: str, *, equation: int | None = None) -> None:
    """Print the one line of the library that holds a text, read from its source now.

    Args:
        file: Below the package, such as "core/objective.py".
        text: Some of that line.
        equation: The paper's number of what the line computes.

    Raises:
        ValueError: If there is no such file, or not exactly one such line in it.
    """
    path = _ROOT / file
    if not path.is_file():
        raise ValueError(f"`file` must be a file below dmtg_lite/, got {file!r}.")
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    found = [(n, line.strip()) for n, line in lines if text in line]
    if len(found) != 1:
        raise ValueError(f"{text!r} must be in one line of {file}, and is in {len(found)}.")
    ((number, line),) = found
    name = f"equation {equation} is " if equation else ""
    print(f"{name}{file}, line {number}:\n    {line}")


class _Asked:
    """A student's function, for which returning None means that it is not written yet."""

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: object, **kwargs: object) -> object:
        value = self._function(*args, **kwargs)
        if value is None:
            raise Open
        return value


def _is_same(answer: object, given: object) -> bool:
    """Whether nothing was changed; arrays, which compare entry by entry, never start as given."""
    return answer is given or (type(answer) is type(given) and bool(answer == given))


def _plain(answer: Any) -> Any:
    """A scalar of numpy or torch as Python's."""
    return answer.item() if getattr(answer, "ndim", None) == 0 else answer


def _kind(answer: object) -> str:
    answer = _plain(answer)
    kinds = {"text": str, "yes or no": bool, "number": int | float, "set": set | frozenset}
    found = [name for name, kind in kinds.items() if isinstance(answer, kind)]
    return found[0] if found else "list" if isinstance(answer, Iterable) else "other thing"


def _tell(answer: Any, digits: int) -> str:
    """One spelling for all ways of writing an answer."""
    answer, kind = _plain(answer), _kind(answer)
    if kind == "text":
        return " ".join(answer.casefold().split())
    if kind == "number":
        return f"{round(float(answer), digits) + 0.0:.{max(digits, 0)}f}"  # + 0.0: no minus zero
    if kind in ("set", "list"):
        told = [_tell(one, digits) for one in answer]
        return str(sorted(told) if kind == "set" else told)
    return str(answer)


def _compare(number: str, answer: Any, sealed: str, digits: int) -> None:
    """Raises AssertionError with the kind of the error: one without which the answer fits."""

    def fits(other: object) -> bool:
        return seal(number, other, digits=digits) == sealed

    kind, wanted = _kind(answer), sealed.partition(":")[0]
    if {kind, wanted} == {"list", "set"}:
        answer = set(answer) if wanted == "set" else sorted(answer)
    elif kind != wanted:
        raise AssertionError(f"a {wanted} is asked for, and this is a {kind}.")
    if not fits(answer):
        near = _near(_plain(answer), digits) if kind == "number" else {}
        hints = [hint for hint, others in near.items() if any(map(fits, others))]
        raise AssertionError(hints[0] if hints else "look again at what the cells above show.")


def _near(value: float, digits: int) -> dict[str, list[float]]:
    """Hints for a number, and what is right where they are."""
    last = 10.0**-digits
    return {
        "the size is right, the sign is not.": [-value],
        "is a share or a percentage asked for?": [value * 100, value / 100],
        "upside down: what is divided by what?": [1 / value] if value else [],
        "one off in the last digit that counts.": [value + last, value - last],
    }
