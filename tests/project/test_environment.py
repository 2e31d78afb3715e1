"""The files that say what to install and whom to cite agree with each other.

environment.yml (conda) must not drift from pyproject.toml (pip); constraints.txt pins it all.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import dmtg_lite

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
EVERYTHING = [text for name, extra in EXTRAS.items() if name != "all" for text in extra]
CONDA_NAME = {"torch": "pytorch"}  # the only package that conda-forge calls something else


def parse(requirements: Iterable[str]) -> dict[str, str]:
    """``{package: its bounds}`` of pip's or conda's way to write a requirement."""
    return {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, requirements)}


def test_conda_and_pip_ask_for_the_same() -> None:
    """Same packages, same bounds; the test tools come through pip in both."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = parse(line for line in listed if isinstance(line, str))
    assert conda.pop("python") == PROJECT["requires-python"]
    assert conda.pop("pip") == ""
    assert [line for line in listed if not isinstance(line, str)] == [{"pip": ["-e .[test]"]}]
    extras = [EXTRAS[name] for name in ("data", "parquet", "notebook", "watch", "tensorboard")]
    wanted = parse([*PROJECT["dependencies"], *chain(*extras)])
    assert conda == {CONDA_NAME.get(name, name): bounds for name, bounds in wanted.items()}


def test_all_is_every_extra() -> None:
    """`pip install dmtg-lite[all]` leaves nothing out."""
    assert Requirement(EXTRAS["all"][0]).extras == set(EXTRAS) - {"all"}


def test_a_package_has_the_same_bounds_in_every_extra() -> None:
    """pandas in [data] is pandas in [notebook]."""
    assert len({Requirement(text).name for text in EVERYTHING}) == len(set(EVERYTHING))


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    """constraints.txt holds exact versions and nothing else: no address, no local build."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    exact = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*")
    assert [line for line in lines if not exact.fullmatch(line)] == []
    pins = dict(line.split("==") for line in lines)
    pinned = {canonicalize_name(name): Version(version) for name, version in pins.items()}
    assert pinned["torch"] == Version("2.13.0")
    for requirement in map(Requirement, [*PROJECT["dependencies"], *EVERYTHING]):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_citation_is_the_papers() -> None:
    """A tool that reads CITATION.cff cites DMTG, with all authors and pages."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "authors", "message"} <= set(citation)
    assert paper["title"] == "DMTG: One-Shot Differentiable Multi-Task Grouping"
    authors = [person["family-names"] for person in paper["authors"]]
    assert authors == "Gao Jiang Li Yu Xia".split()
    where = (paper["year"], paper["volume"], paper["start"], paper["end"])
    assert where == (2024, 235, 14747, 14762)


def test_the_version_is_written_once() -> None:
    """The citation names the package's version, and the changelog awaits the next."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == dmtg_lite.__version__
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
