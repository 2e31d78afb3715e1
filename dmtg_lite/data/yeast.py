"""Yeast genes: a real table with fourteen yes/no tasks, read from an installed package."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from dmtg_lite.core.data import TaskData
from dmtg_lite.data.own.from_arrays import from_arrays

_SHAPE = (2417, 103 + 14)


def yeast(*, seed: int = 0) -> TaskData:
    """Load the yeast genes: what does a gene do, from how it is expressed?

    2,417 genes with 103 numbers each (expression in micro-array experiments and phylogenetic
    profiles), standardised by the training split, and fourteen functional classes that a gene has
    or has not. The classes are as the file has them, ``Class1`` to ``Class14``: their names in
    biology are not told. ``Class14`` is rare, 34 genes. Nothing is known of true groups.

    Args:
        seed: Which 60 % of the genes train, which 20 % validate and which 20 % test, such that the
            rare class has its share in each. (The 1,500 and 917 genes of the literature leave none
            to validate on.)

    Returns:
        Features float32 (n, 103), targets int64 (n,), and a reader of new rows.

    Raises:
        ImportError: If river, whose wheel carries the file, or pandas is not installed.

    Source:
        A. Elisseeff and J. Weston, A kernel method for multi-labelled classification (NIPS 2001),
        as collected in MULAN (Tsoumakas et al., JMLR 2011) and carried by the package river.
    """
    spec = find_spec("river")  # found, not imported: that would take a second
    try:
        import pandas

        if spec is None or not spec.submodule_search_locations:
            raise ImportError("no river")
    except ImportError as error:
        raise ImportError(
            "The yeast genes come with the package river and are read by pandas, which are not "
            'both installed. Run: pip install "dmtg-lite[data,yeast]"'
        ) from error
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "yeast.csv.gz"
    if not path.is_file():
        raise ImportError(f"{path} is missing: river 0.26 has it. Run: pip install -U river")
    table = pandas.read_csv(path)
    if table.shape != _SHAPE:
        raise ValueError(f"{path} must be a table of {_SHAPE}, got {table.shape}.")
    tasks = [name for name in table.columns if name.startswith("Class")]
    made = from_arrays(table.drop(columns=tasks), table[tasks], seed=seed, name="yeast")
    return replace(made, note=f"Yeast genes (Elisseeff and Weston 2001); {made.note}")
