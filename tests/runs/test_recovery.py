"""The default call finds planted groups; how often, and against what, benchmarks/recovery.py measures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dmtg_lite import data, methods
from dmtg_lite.experiments import TOY


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_call_finds_the_planted_groups(seed: int) -> None:
    """One run from one seed, exactly; other processors may round otherwise, so three seeds are not
    one.

    The closing costs must say K too. How often that succeeds on other seeds: docs/measurements.md.
    """
    faces = data.toy_faces(seed=seed)
    result = methods.dmtg(faces, n_groups=3, config=replace(TOY["faces"], seed=seed))
    assert result.agreement == 1, result.groups
    assert result.elbow["n_groups"] == 3
    assert [closing["step"] for closing in result.closings] == [400, 450, 500]
