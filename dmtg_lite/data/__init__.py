"""Data sets in the one form the library knows: `TaskData`, three splits of uint8 images.

Importing this needs torch and numpy only; what a data set needs beyond is imported when it is loaded.
"""

from dmtg_lite.data.celeba import celeba
from dmtg_lite.data.digits import digits
from dmtg_lite.data.task_data import Split, TaskData
from dmtg_lite.data.taskonomy import taskonomy
from dmtg_lite.data.toy_faces import toy_faces
from dmtg_lite.data.toy_rooms import toy_rooms

__all__ = ["Split", "TaskData", "celeba", "digits", "taskonomy", "toy_faces", "toy_rooms"]
