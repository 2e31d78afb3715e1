"""Data sets in the one form the library knows: `TaskData`, three splits of uint8 images.

Importing this needs torch and numpy only; what a data set needs beyond is imported when it is
loaded.
"""

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.data.celeba.load import celeba
from dmtg_lite.data.taskonomy.load import taskonomy
from dmtg_lite.data.toys.digits import digits
from dmtg_lite.data.toys.faces import toy_faces
from dmtg_lite.data.toys.rooms import toy_rooms

__all__ = ["Split", "TaskData", "celeba", "digits", "taskonomy", "toy_faces", "toy_rooms"]
