"""What the yeast genes promise: the table of the literature, rare class and all."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from dmtg_lite import data

pytest.importorskip("pandas", reason="pandas reads the table")
if importlib.util.find_spec("river") is None:
    pytest.skip("river carries the table", allow_module_level=True)

YEAST = data.yeast()
PARTS = (YEAST.train, YEAST.val, YEAST.test)


def test_it_is_the_table_of_the_literature() -> None:
    """2,417 genes, 103 features, 14 tasks; 4.237 classes a gene, as MULAN states it."""
    assert sum(map(len, PARTS)) == 2417
    assert YEAST.feature_shape == (103,)
    assert YEAST.task_names == [f"Class{n}" for n in range(1, 15)]
    labels = torch.cat([torch.stack(list(part.targets.values()), 1) for part in PARTS])
    assert float(labels.sum()) / 2417 == pytest.approx(4.237, abs=5e-4)
    assert int(labels[:, 13].sum()) == 34
    assert "Elisseeff and Weston 2001" in YEAST.note
    assert "river" not in sys.modules


def test_features_are_standardised_by_the_training_split() -> None:
    features = YEAST.train.features
    torch.testing.assert_close(features.mean(0), torch.zeros(103), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(103), atol=1e-5, rtol=0)
    assert not torch.allclose(YEAST.test.features.mean(0), torch.zeros(103), atol=1e-2)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_split_has_its_share_of_the_rare_class(seed: int) -> None:
    """34 genes: 20, 7 and 7, whatever the seed, and not the same ones."""
    other = data.yeast(seed=seed)
    counts = [int(part.targets["Class14"].sum()) for part in (other.train, other.val, other.test)]
    assert counts == [20, 7, 7]
    assert not torch.equal(other.train.features, YEAST.train.features)
    assert torch.equal(data.yeast(seed=seed).test.features, other.test.features)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No river, one without the file, or another table in its place: the next step by name."""
    module = sys.modules["dmtg_lite.data.yeast"]
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "dmtg-lite\[data,yeast\]"'):
        data.yeast()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(module, "find_spec", lambda name: found)
    with pytest.raises(ImportError, match="is missing: river"):
        data.yeast()
    (tmp_path / "datasets").mkdir()
    import pandas

    pandas.DataFrame({"Att1": [1], "Class1": [0]}).to_csv(tmp_path / "datasets" / "yeast.csv.gz")
    with pytest.raises(ValueError, match=r"must be a table of \(2417, 117\), got \(1, 3\)"):
        data.yeast()
