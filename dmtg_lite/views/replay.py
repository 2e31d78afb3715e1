"""One self-contained HTML page that replays a run: no network, no Python, works from a file.

It shows what the dashboard shows, with the same head graph; nothing here needs torch or plotly.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dmtg_lite.files import write_atomically
from dmtg_lite.runs.history import About, History, compute_entropy
from dmtg_lite.views.page import fill_page
from dmtg_lite.views.plots.curves import check_records, decimate, pace, running_mean
from dmtg_lite.views.plots.matrix import compute_loss_range, compute_matrix, find_changed

TEMPLATE = Path(__file__).with_name("replay_template.html")
_MAX_BYTES = 80_000  # of all films: what keeps a page of 40 tasks under 200 kB


def write_replay(history: History, path: str | Path, *, max_frames: int = 200) -> Path:
    """Write a run as one HTML page, atomically.

    What ``history.about`` says is shown, and all of it is escaped.

    Args:
        history: A run with at least one record.
        path: Where to write; ``.html``, or it is refused.
        max_frames: Steps kept, more where rows move, first and last included; fewer where N x K is
            large.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"`path` must end in .html, got {path}.")
    page = render_replay(history, max_frames=max_frames)
    return write_atomically(path, page.encode(errors="replace"))  # half a character is "?"


def render_replay(history: History, *, max_frames: int = 200) -> str:
    """The page of `write_replay` as text."""
    is_finite = np.isfinite(history.task_losses).all(1)
    blew_up = None if is_finite.all() else int(history.steps[is_finite.argmin()])
    if blew_up is not None:  # nothing after that can be drawn
        history = history.slice(stop=int(is_finite.argmin()))
    check_records(history)
    parts = {
        "TITLE": html.escape(history.about.title or _name(history)),
        "ABOUT": _describe(history.about, blew_up),
        "GROUPS": _list_groups(history),
        # "<" would let a task name end the script element
        "RUN": json.dumps(_film(history, max_frames), allow_nan=False).replace("<", "\\u003c"),
    }
    return fill_page(TEMPLATE.read_text(encoding="utf-8"), parts)


def _film(history: History, max_frames: int) -> dict[str, Any]:
    """What the page's program reads: per frame numbers of the run, and base64 of its matrices."""
    per_frame = history.n_tasks * history.n_groups * (4 if history.has_loss_matrices else 2)
    rows = pace(history, max(2, min(max_frames, _MAX_BYTES // per_frame)))
    p, tau = history.probabilities[rows], history.tau[rows]
    mean_weights = [compute_matrix(history, row, "E[Z]") for row in rows.tolist()]
    film = {
        "tasks": history.task_names,
        "n_groups": history.n_groups,
        "steps": history.steps[rows].tolist(),
        "tau": [float(f"{t:.3g}") for t in tau],
        "changed": [find_changed(history, row) for row in rows.tolist()],
        "loss": running_mean(history.task_losses, rows=rows).mean(1).round(4).tolist(),
        "entropy": compute_entropy(p).round(3).tolist(),
        "p": _pack_weights(p),
        "z": _pack_weights(np.stack(mean_weights)),
        "finished": history.about.groups is not None,
        "closings": [closing["step"] for closing in history.closings],
    }
    if len(history.validation_steps):
        film["validation"] = _film_validation(history)
    if history.has_loss_matrices:
        losses = np.stack([compute_matrix(history, row, "loss") for row in rows.tolist()])
        most = float(np.max(losses, initial=1e-6, where=~np.isnan(losses)))
        codes = np.nan_to_num(losses / most * 65534, nan=65535).round().astype("<u2")
        film |= {"losses": base64.b64encode(codes.tobytes()).decode(), "most_loss": most}
        film["loss_range"] = compute_loss_range(history) or 1e-6
    return film


def _film_validation(history: History) -> dict[str, Any]:
    """Mean loss on the validation split, and each task's error as a share of its highest: metrics
    of several kinds have no mean."""
    rows = decimate(len(history.validation_steps), 100)
    errors = history.validation_errors[rows]
    highest = np.fmax.reduce(np.abs(errors), axis=0, initial=1e-12)
    shares = errors / highest
    return {
        "steps": history.validation_steps[rows].tolist(),
        "loss": _to_list(history.validation_losses[rows].mean(1)),
        "errors": [_to_list(line) for line in shares.T],
    }


def _to_list(values: np.ndarray) -> list[float | None]:
    """As JSON has them: None where there is no number."""
    return [float(f"{value:.3g}") if np.isfinite(value) else None for value in values]


def _pack_weights(frames: np.ndarray) -> str:
    """Probabilities as base64 of one byte each; a head that is there never rounds to 0."""
    frames = np.nan_to_num(frames)
    codes = np.maximum(np.round(frames * 255), frames > 0).astype(np.uint8)
    return base64.b64encode(codes.tobytes()).decode()


def _name(history: History) -> str:
    """What one sees, for a recording that says nothing of itself."""
    return f"A recorded run: {history.n_tasks} tasks choose among {history.n_groups} groups"


def _describe(about: About, blew_up: int | None) -> str:
    """Method, data and seed; the note; where losses ended; the pasteable line: as far as known."""
    seed = "" if about.seed is None else f"seed {about.seed}"
    facts = " · ".join(filter(None, (about.method, about.data and f"data {about.data}", seed)))
    texts = {'<p class="faint">{}</p>': facts, "<p>{}</p>": about.note}
    if blew_up is not None:
        words = f"Shown up to the step before {blew_up}, from which on a loss is not finite."
        texts['<p class="faint">{}</p>'] = words
    texts["<p><code>{}</code></p>"] = about.config
    return "\n".join(tag.format(html.escape(text)) for tag, text in texts.items() if text)


def _list_groups(history: History) -> str:
    """Groups found and planted, and the branches that closed: what needs no JavaScript."""
    about = history.about
    found, planted = about.groups or history.groups(), about.planted_groups or []
    same = {frozenset(group) for group in planted} & {frozenset(group) for group in found}

    def listing(title: str, groups: list[list[str]]) -> str:
        ticks = [' <span title="found">&#10003;</span>' * (frozenset(g) in same) for g in groups]
        texts = [html.escape(", ".join(map(str, group))) for group in groups]
        return _section(title, (text + tick for text, tick in zip(texts, ticks, strict=True)))

    sections = listing("Groups found", found)
    if planted:
        sections += listing(f"Planted groups: {len(same)} of {len(planted)} found", planted)
    return f'<div class="groups">{sections}{_list_closings(history)}</div>'


def _list_closings(history: History) -> str:
    """Who closed, what that cost, and what one more would have: the elbow in words."""
    lines, elbow = [], history.elbow
    for closing in history.closings:
        moved: dict[int, list[str]] = {}
        for task, branch in closing["moved"].items():
            moved.setdefault(branch, []).append(str(task))
        line = f"step {closing['step']}: branch {closing['branch']} at a cost of "
        tasks = "; ".join(f"{', '.join(names)} to {branch}" for branch, names in moved.items())
        lines.append(html.escape(f"{line}{closing['cost']:.2f}" + (f", {tasks}" if tasks else "")))
    verdict = ""
    if elbow:
        pairs = zip(elbow["n_branches"], elbow["costs"], strict=True)
        costs = ", ".join(f"{n} to {n - 1}: {cost:.2f}" for n, cost in pairs)
        verdict = (
            f"Closing on down to one branch, as imagined: {costs}. The largest rise says "
            f"K = {elbow['n_groups']}."
        )
        verdict = f'<p class="faint">{html.escape(verdict)}</p>'
    return _section(f"Branches closed: {len(lines)}", lines, verdict) if lines or elbow else ""


def _section(title: str, items: Iterable[str], more: str = "") -> str:
    listing = "".join(f"<li>{item}</li>" for item in items)
    return f"<section><h2>{title}</h2>{f'<ol>{listing}</ol>' if listing else ''}{more}</section>"
