"""A history on disk as it grows: checksummed pieces of consecutive records, each a small recording.

No torch, so that readers need none.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmtg_lite.files import write_atomically
from dmtg_lite.runs.history import History

HISTORY = "history"  # the folder of the pieces in a run folder
_FULL = 512  # records; smaller pieces are merged
_PIECE = re.compile(r"(\d{8,})-(\d{8,})\.([0-9a-f]{16})\.npz")


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of ``history/``: the records after step ``after``, up to step ``last``."""

    after: int
    last: int
    name: str


def name_piece(after: int, last: int, content: bytes) -> str:
    """``00000000-00000250.<checksum>.npz``: the records after step 0, up to step 250."""
    return f"{after:08d}-{last:08d}.{_sum(content)}.npz"


def list_pieces(folder: Path) -> tuple[list[Piece], list[Piece]]:
    """The pieces in ``history/`` that follow one another from step 0 on, and all others.

    While pieces are merged, the small ones and the large one lie there together: the large counts.
    """
    try:
        names = os.listdir(folder / HISTORY)
    except FileNotFoundError:
        names = []
    found = [
        Piece(int(match[1]), int(match[2]), name)
        for name in sorted(names)
        if (match := _PIECE.fullmatch(name))
    ]
    chain: list[Piece] = []
    longest = {piece.after: piece for piece in sorted(found, key=lambda piece: piece.last)}
    while piece := longest.pop(chain[-1].last if chain else 0, None):
        chain.append(piece)
    used = {piece.name for piece in chain}
    return chain, [piece for piece in found if piece.name not in used]


def read_piece(path: Path) -> History:
    """The records of one piece.

    Raises:
        FileNotFoundError: If it has been merged into another.
        ValueError: If one bit of it, or of its name, is not what was written.
    """
    content, match = path.read_bytes(), _PIECE.fullmatch(path.name)
    is_whole = match is not None and _sum(content) == match[3]
    piece = History.read(io.BytesIO(content), str(path)) if is_whole else None
    if match and piece and len(piece):
        is_whole = piece.steps[0] > int(match[1]) and piece.steps[-1] == int(match[2])
    if piece and is_whole:
        return piece
    raise ValueError(
        f"{path} is damaged: it is not what its name says (steps and checksum). Resume the run, "
        "which writes its history anew from the checkpoint; of a finished one run.npz has all."
    )


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


class PieceWriter:
    """Writes the pieces of one history, few by merging, and none that is not whole at any moment.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: list[tuple[Piece, int]] = []  # and how many records came before each

    def begin(self, history: History | None, step: int) -> None:
        """Delete the records after a step, newest first, so that the rest is whole meanwhile; and
        what is damaged, or was left half done. The history has all that is kept."""
        chain, others = list_pieces(self._folder)
        n_kept = 0
        while n_kept < len(chain) and chain[n_kept].last <= step and self._is_whole(chain[n_kept]):
            n_kept += 1
        stale = sorted([*others, *chain[n_kept:]], key=lambda piece: (-piece.last, -piece.after))
        for piece in stale:
            self._path(piece).unlink(missing_ok=True)
        for path in (self._folder / HISTORY).glob("*.part"):
            path.unlink(missing_ok=True)
        steps = np.empty(0) if history is None else history.steps
        self._pieces = [
            (piece, int(np.searchsorted(steps, piece.after, "right"))) for piece in chain[:n_kept]
        ]

    def save(self, history: History) -> None:
        """Write the records that are new; pieces no longer than that are merged with them."""
        steps, saved = history.steps, 0  # of this moment
        if self._pieces:
            saved = int(np.searchsorted(steps, self._pieces[-1][0].last, "right"))
        while saved < len(steps):
            first, end, merged = saved, min(len(steps), saved + _FULL), []
            while self._pieces:
                piece, before = self._pieces[-1]
                if first - before > end - first or end - before > _FULL:
                    break
                self._pieces.pop()
                merged.append(piece)
                first = before
            content = history.slice(first, end).to_bytes()
            after, last = int(steps[first - 1]) if first else 0, int(steps[end - 1])
            piece = Piece(after, last, name_piece(after, last, content))
            write_atomically(self._path(piece), content, is_durable=False)
            self._pieces.append((piece, first))
            for old in merged:
                self._path(old).unlink(missing_ok=True)
            saved = end

    def _path(self, piece: Piece) -> Path:
        return self._folder / HISTORY / piece.name

    def _is_whole(self, piece: Piece) -> bool:
        try:
            read_piece(self._path(piece))
            return True
        except (ValueError, OSError):
            return False
