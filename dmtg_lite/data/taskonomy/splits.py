"""Which building of Taskonomy is for training, validation or test.

The official lists divide buildings, so that a test room was never seen in training.
"""

from __future__ import annotations

from pathlib import Path

from dmtg_lite.data.foreign_files import PERHAPS_TEXT, name_content, read_file
from dmtg_lite.data.open_prepared import SPLITS

_MOST_BYTES = 1 << 20  # the official lists have 10 kB

# The official split "tiny" (StanfordVL/taskonomy, train_val_test_tiny.csv), which DMTG trains on
_TRAIN = """
allensville beechwood benevolence coffeen cosmos forkland hanson hiteman klickitat lakeville
leonardo lindenwood marstons merom mifflinburg newfields onaga pinesdale pomaria ranchester
shelbyville stockman tolstoy wainscott woodbine
"""
TINY = {
    "train": tuple(_TRAIN.split()),
    "val": ("collierville", "corozal", "darden", "markleeville", "wiconisco"),
    "test": ("ihlen", "mcdade", "muleshoe", "noxapater", "uvalda"),
}


def read_split(split: str | Path) -> dict[str, int]:
    """Buildings, in lower case, and their split: 0 train, 1 val, 2 test.

    A building with three zeros has none.

    Args:
        split: ``"tiny"``, or a CSV file as the official ones: ``id,train,val,test`` with 0 and 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no split list; says which line is wrong.
    """
    if str(split) == "tiny":
        return {building: k for k, name in enumerate(SPLITS) for building in TINY[name]}
    path = Path(split)
    if not path.is_file():
        raise FileNotFoundError(
            f"`split` must be 'tiny', 'one', 'points' or a split CSV, and there is no file {path}."
        )
    # the official files end lines with a bare CR
    data = read_file(path, _MOST_BYTES)
    lines = data.decode("utf-8-sig", errors="replace").strip().splitlines() or [""]
    header, kind = lines[0].strip(), name_content(data)
    if header.replace(" ", "") != "id,train,val,test":
        kind = f"headed {header[:60]!r}" if kind in ("empty", PERHAPS_TEXT) else kind
        raise ValueError(
            f"{path} is {kind}, expected a split CSV headed 'id,train,val,test'. Fetch it again."
        )
    flags_of: dict[str, list[str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        building, *flags = (field.strip().lower() for field in line.split(","))
        if not building or sorted(flags) not in (["0", "0", "0"], ["0", "0", "1"]):
            raise ValueError(
                f"{path} line {number} should be a building and three flags 0 or 1, at most one "
                f"of them 1, found {line[:60]!r}."
            )
        if building in flags_of:
            raise ValueError(f"{path} line {number} names {building} once more. Keep one line.")
        flags_of[building] = flags
    part_of = {b: flags.index("1") for b, flags in flags_of.items() if "1" in flags}
    if not part_of:
        raise ValueError(f"{path} puts no building into a split.")
    return part_of
