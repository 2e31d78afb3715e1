"""The default call finds planted groups; benchmarks/recovery.py measures how often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dmtg_lite import data, methods
from dmtg_lite.experiments import TOY


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_call_finds_the_planted_groups(seed: int) -> None:
    """One run from one seed, exactly; other processors may round otherwise: so three seeds.

    The closing costs must say K too. On other seeds: docs/measurements.md.
    """
    faces = data.toy_faces(seed=seed)
    result = methods.dmtg(faces, n_groups=3, config=replace(TOY["faces"], seed=seed))
    assert result.agreement == 1, result.groups
    assert result.elbow["n_groups"] == 3
    assert [closing["step"] for closing in result.closings] == [400, 450, 500]
