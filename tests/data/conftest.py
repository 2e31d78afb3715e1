"""What the tests of data on disk share: running the scripts in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "data_scripts"


@pytest.fixture
def run_script(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a script of data_scripts: exit code, what it printed, and its last line of error."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        try:
            code = script.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        errors = said.err.split("\r")[-1].strip().splitlines()  # after the progress bar
        return code, said.out, errors[-1] if errors else ""

    return run
