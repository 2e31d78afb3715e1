"""What `check` says to a student, what it gives a grader, and that it never tells the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmtg_lite.course import check, seal, show_line

SEALED = seal("1.1", 5.63, digits=2)


@pytest.mark.parametrize("answer", [5.63, 5.6297, np.float32(5.63), torch.tensor(5.63)])
def test_a_number_is_right_to_the_digits_that_count(answer, capsys) -> None:
    """However it was computed; what is right says so, and gives its points."""
    mark = check("1.1", answer, sealed=SEALED, digits=2, note="Well read.")
    assert (mark.state, 3 * mark) == ("correct", 3)
    assert capsys.readouterr().out == "1.1 correct. Well read.\n"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (-5.63, "the sign is not"),
        (563, "a share or a percentage"),
        (1 / 5.63, "upside down"),
        (5.64, "one off in the last digit"),
        (7.0, "look again"),
        (float("nan"), "look again"),
        ("5.63", "a number is asked for, and this is a text"),
        (True, "a number is asked for, and this is a yes or no"),
    ],
)
def test_a_hint_names_the_kind_of_error_and_not_the_answer(answer, hint, capsys) -> None:
    """Neither points nor the value that is asked for."""
    mark = check("1.1", answer, sealed=SEALED, digits=2)
    said = capsys.readouterr().out
    assert (mark.state, 3 * mark) == ("not yet", 0)
    assert said.startswith("1.1 not yet: ")
    assert hint in said
    assert "5.63" not in said


def test_a_seal_shows_no_answer_and_fits_one_exercise_only() -> None:
    """The same word is sealed otherwise in another exercise."""
    assert seal("1.1", "Naive  MTL ") == seal("1.1", "naive mtl") != seal("1.2", "naive mtl")
    assert "naive" not in seal("1.1", "naive mtl")
    assert seal("1.1", -0.0) == seal("1.1", 0)


def test_a_set_counts_in_any_order_and_a_list_in_its_own() -> None:
    """Written with either brackets; something else among them is wrong."""
    assert check("1.1", ["b", "A"], sealed=seal("1.1", {"a", "b"}))
    assert check("1.1", (2, 1), sealed=seal("1.1", [2, 1]))
    assert not check("1.1", [1, 2], sealed=seal("1.1", [2, 1]))
    assert not check("1.1", {"b"}, sealed=seal("1.1", {"a", "b"}))


@pytest.mark.parametrize(
    ("answer", "given"),
    [(None, None), (2.5, 2.5), ((None, None), (None, None)), (lambda: None, None)],
)
def test_what_nobody_touched_is_open(answer, given, capsys) -> None:
    """Nothing yet, the line as it was given, or a function that returns nothing."""
    mark = check("1.1", answer, lambda answer: answer(), given=given)
    assert (mark.state, int(mark)) == ("open", 0)
    assert "1.1 is still open; the rest of the notebook runs without it" in capsys.readouterr().out


def test_an_error_of_a_student_is_said_and_not_raised(capsys) -> None:
    """A failed assert gives its first line as a hint, an exception its kind."""

    def test(double) -> None:
        assert double(2) == 4, "twice two?\nvalues: 4"

    assert check("1.1", lambda x: x, test).state == "not yet"
    assert capsys.readouterr().out == "1.1 not yet: twice two?\n"
    assert check("1.1", lambda x: x / 0, test).state == "not yet"
    assert "your code raised ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert check("1.1", lambda x: 2 * x, test).state == "correct"


def test_a_line_is_quoted_from_the_source_or_refused(capsys) -> None:
    """So that a course cannot show what the library no longer does."""
    show_line("core/objective.py", "total = (loss_matrix * assignment)", equation=6)
    said = capsys.readouterr().out
    assert said.startswith("equation 6 is core/objective.py, line ")
    assert said.endswith("\n    total = (loss_matrix * assignment).sum()\n")
    with pytest.raises(ValueError, match="is in 0"):
        show_line("core/objective.py", "total = loss_matrix + assignment")
    with pytest.raises(ValueError, match="must be a file below dmtg_lite/"):
        show_line("core/none.py", "total")
