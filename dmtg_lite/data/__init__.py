"""Data sets in the one form the library knows: `TaskData`, three splits of features and targets.

Importing this needs torch and numpy only; what a data set needs beyond is imported when it is
loaded.
"""

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.data.celeba.load import celeba
from dmtg_lite.data.celeba.prepare import prepare_celeba
from dmtg_lite.data.own.from_arrays import from_arrays
from dmtg_lite.data.own.from_csv import from_csv
from dmtg_lite.data.own.from_dataset import from_dataset
from dmtg_lite.data.stand_ins.celeba_files import make_fake_celeba
from dmtg_lite.data.taskonomy.load import taskonomy
from dmtg_lite.data.toys.digits import digit_questions, digits
from dmtg_lite.data.toys.faces import apply_cuts, draw_faces, plan_bits, toy_faces
from dmtg_lite.data.toys.rooms import toy_rooms
from dmtg_lite.data.yeast import yeast

__all__ = [
    "Split", "TaskData", "apply_cuts", "celeba", "digit_questions", "digits", "draw_faces",
    "from_arrays", "from_csv", "from_dataset", "make_fake_celeba", "plan_bits", "prepare_celeba",
    "taskonomy", "toy_faces", "toy_rooms", "yeast",
]  # fmt: skip
