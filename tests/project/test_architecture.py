"""The map of the house is right: its recipes run, its picture and its paths are those of today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^### (.*?)$.*?^```python\n(.*?)^```$", TEXT, re.M | re.S)


def test_there_are_four_recipes() -> None:
    """A method, an encoder, a data set, a plot; each on one screen."""
    assert [name for name, _ in RECIPES] == ["A method", "An encoder", "A data set", "A plot"]
    assert all(len(code.splitlines()) <= 30 for _, code in RECIPES)


@pytest.mark.parametrize(("name", "code"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_runs_as_it_stands(name: str, code: str) -> None:
    """Pasted into an empty file, without a warning but that a few steps teach nothing."""
    unlearned = "import warnings\nfrom dmtg_lite.methods import UnlearnedWarning\n"
    code = f"{unlearned}warnings.simplefilter('ignore', UnlearnedWarning)\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_picture_shows_the_imports() -> None:
    """Every arrow of the code is drawn, and no other."""
    script = [sys.executable, "docs/draw_house.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_the_paths_in_the_map_exist() -> None:
    """`core/step.py` is a file, `toys/` a folder, in the package or in the repository."""
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", TEXT))
    assert len(named) > 20
    places = [ROOT, ROOT / "dmtg_lite"]
    rooms = [path for path in (ROOT / "dmtg_lite").rglob("*") if path.is_dir()]
    missing = [path for path in named if not any((p / path).exists() for p in places + rooms)]
    assert not missing
