"""What a column of text may be: names of a few categories, but no numbers and no ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

MOST_CLASSES = 1000


def check_categories(name: str, counts: Counter[str], *, may_be_numbers: bool) -> None:
    """Refuse text that is no set of categories.

    Args:
        name: Of the column, for messages.
        counts: How often each text occurs.
        may_be_numbers: Whether it is said that these texts are names, such as those of a pandas
            column of type category, or of classes.

    Raises:
        ValueError: If most of it reads as numbers, or nearly every row has a text of its own.
    """
    n_rows, numbers = counts.total(), [text for text in counts if reads_as_number(text)]
    if not may_be_numbers and 2 * sum(counts[text] for text in numbers) > n_rows:
        others = [text for text in counts if text not in numbers]
        but = f", but for {_list(others)}" if others else ""
        raise ValueError(
            f"{name} is text where numbers are due: it reads as numbers, such as {numbers[0]!r}"
            f"{but}. Numbers: {advise_numbers(numbers[0])}. Names: column.astype('category')."
        )
    if len(counts) > min(MOST_CLASSES, max(10, n_rows // 2)):
        raise ValueError(
            f"{name} is text with {len(counts)} different values in {n_rows} rows, such as "
            f"{_list(list(counts))}: an id, or text to be read? Leave the column out, merge its "
            "values, or embed the text first (numbers that came as text: pandas.to_numeric)."
        )


def advise_numbers(text: str) -> str:
    """How texts like this one become numbers in pandas; a decimal comma would become nan."""
    if "," in text:
        return (
            "pandas.read_csv(..., decimal=','), or "
            "pandas.to_numeric(column.str.replace(',', '.'), errors='coerce')"
        )
    return "pandas.to_numeric(column, errors='coerce')"


def reads_as_number(text: str) -> bool:
    """Whether a text is a number, also one with a decimal comma."""
    with suppress(ValueError):
        float(text.replace(",", ".", 1))
        return True
    return False


def _list(texts: Sequence[str]) -> str:
    shown = ", ".join(repr(text[:30]) for text in texts[:3])
    return shown + (", ..." if len(texts) > 3 else "")
