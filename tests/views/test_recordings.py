"""Recorded tables say what they are and what made them, and hold what the notebooks read."""

from __future__ import annotations

import pytest

from dmtg_lite.views import recordings


@pytest.mark.parametrize("name", ["ablations", "baselines", "rooms"])
def test_a_recorded_table_names_its_command(name: str) -> None:
    table = recordings.load_table(name)
    assert table.attrs["command"].startswith("python ")
    assert table.attrs["about"]
    assert len(table)
    if name != "rooms":  # a row a run, each setting with every seed
        assert not table.duplicated(["method", "seed"]).any()
        assert len(table) == table.method.nunique() * table.seed.nunique()
        assert (table.encoder_cost[table.method.isin(["naive", "Naive MTL"])] == 1).all()
