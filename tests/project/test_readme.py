"""What the README shows is what a reader gets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_first_example_prints_what_the_readme_says() -> None:
    """The six lines of the first screen are run as they stand, and print the lines below them.

    In any order: which branch a group lands in may differ on another processor.
    """
    text = README.read_text(encoding="utf-8")
    code = re.search(r"```python\n(from dmtg_lite.*?)```", text, re.DOTALL).group(1)
    printed = re.search(r"```text\n(.*?)```", text, re.DOTALL).group(1)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.splitlines()) == sorted(printed.splitlines())


@pytest.mark.slow
def test_own_tasks_come_out_as_the_readme_says() -> None:
    """What was understood, the recipe, the groups and the classes, line by line; ink nearly."""
    text = README.read_text(encoding="utf-8").partition("## Your own tasks")[2]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    printed = re.search(r"```text\n(.*?)```", text, re.DOTALL).group(1).splitlines()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = run.stdout.splitlines()
    assert found[:2] == printed[:2]
    assert sorted(found[2:4]) == sorted(printed[2:4])
    for own, told in zip(found[5:], printed[5:], strict=True):
        assert own.split()[:3] == told.split()[:3]
        assert float(own.split()[3]) == pytest.approx(float(told.split()[3]), abs=20)


def test_every_file_that_the_readme_names_is_there() -> None:
    """Links and pictures of the README lead somewhere."""
    targets = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert targets
    missing = [target for target in targets if not (README.parent / target).exists()]
    assert not missing
