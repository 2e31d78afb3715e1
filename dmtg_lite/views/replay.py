"""One self-contained HTML page that replays a run: no network, no Python, works from a file.

It shows what the dashboard shows, with the same head graph; nothing here needs torch or plotly.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path

import numpy as np

from dmtg_lite.files import write_atomically
from dmtg_lite.runs.history import About, History, compute_entropy, compute_mean_assignment
from dmtg_lite.views.plots import decimate, running_mean

HERE = Path(__file__).parent
WIDGETS = HERE / "widgets"
_MAX_VALUES = 40_000  # bytes of one of the two films: what keeps a page of 40 tasks under 200 kB


def write_replay(history: History, path: str | Path, *, max_frames: int = 200) -> Path:
    """Write a run as one HTML page, atomically.

    What ``history.about`` says is shown, and all of it is escaped.

    Args:
        history: A run with at least one record.
        path: Where to write; ``.html``.
        max_frames: Steps kept, evenly spaced, first and last included; fewer where N x K is large.

    Returns:
        The path.

    Raises:
        ValueError: If the run is empty or the path does not end in .html.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"`path` must end in .html, got {path}.")
    return write_atomically(path, render_replay(history, max_frames=max_frames).encode())


def render_replay(history: History, *, max_frames: int = 200) -> str:
    """The page of `write_replay` as text."""
    if not len(history):
        raise ValueError("`history` has no records yet; train at least one step first.")
    about = history.about
    per_frame = history.n_tasks * history.n_groups
    rows = decimate(len(history), max(2, min(max_frames, _MAX_VALUES // per_frame)))
    probabilities, tau = history.probabilities[rows], history.tau[rows]
    mean_weights = np.stack(
        [
            compute_mean_assignment(p, float(t), n_draws=400)
            for p, t in zip(probabilities, tau, strict=True)
        ]
    )
    run = {
        "tasks": history.task_names,
        "n_groups": history.n_groups,
        "steps": history.steps[rows].tolist(),
        "tau": [float(f"{t:.3g}") for t in tau],
        "loss": running_mean(history.task_losses.mean(1), 20)[rows].round(4).tolist(),
        "entropy": compute_entropy(probabilities).round(3).tolist(),
        "p": _pack(probabilities),
        "z": _pack(mean_weights),
        "finished": about.groups is not None,
        "closings": [closing["step"] for closing in history.closings],
    }
    title = about.title or "A recorded run"
    head_graph = (WIDGETS / "head_graph.js").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(title),
        "ABOUT": _about(about),
        "GROUPS": _groups(history),
        "FONT": _font_size(history),
        "PAD": f"{5 if history.n_tasks <= 12 else 0}px {4 if history.n_groups <= 8 else 1}px",
        "CSS": (WIDGETS / "head_graph.css").read_text(encoding="utf-8"),
        # a module cannot be imported from a file, so its text becomes a function with its own names
        "HEAD_GRAPH": "const headGraph = (() => {\n"
        + head_graph.replace("export default { render };", "return { render };\n})();"),
        # "<" would let a task name end the script element
        "RUN": json.dumps(run, allow_nan=False).replace("<", "\\u003c"),
    }
    page = (HERE / "replay_template.html").read_text(encoding="utf-8")
    before, *rest = page.split(
        "@@"
    )  # text, name, text, name, ...: what is put in is not searched again
    names, texts = rest[::2], rest[1::2]
    return before + "".join(parts[name] + text for name, text in zip(names, texts, strict=True))


def _font_size(history: History) -> str:
    """Pixels of the table's letters: forty rows end where the head graph beside them does."""
    if history.n_tasks > 32:
        return "10.5"
    return "16" if history.n_tasks <= 12 and history.n_groups <= 8 else "12"


def _pack(frames: np.ndarray) -> str:
    """Probabilities as base64 of one byte each; a head that is there never rounds to 0."""
    frames = np.nan_to_num(frames)
    return base64.b64encode(
        np.maximum(np.round(frames * 255), frames > 0).astype(np.uint8)
    ).decode()


def _about(about: About) -> str:
    facts = [
        f"{name} {value}"
        for name in ("method", "data", "seed")
        if (value := getattr(about, name)) not in (None, "")
    ]
    facts = [fact.removeprefix("method ") for fact in facts]
    lines = []
    if facts:
        lines.append(f'<p class="faint">{html.escape(" · ".join(facts))}</p>')
    if about.note:
        lines.append(f"<p>{html.escape(about.note)}</p>")
    if about.config:
        lines.append(f"<p><code>{html.escape(about.config)}</code></p>")
    return "\n".join(lines)


def _groups(history: History) -> str:
    found, planted = (history.about.groups or history.groups(), history.about.planted_groups)
    same = {frozenset(group) for group in planted or []} & {frozenset(group) for group in found}

    def listing(title: str, groups: list[list[str]]) -> str:
        items = "".join(
            f"<li>{html.escape(', '.join(map(str, group)))}"
            f"{' <span title=&quot;found&quot;>&#10003;</span>' if frozenset(group) in same else ''}</li>"
            for group in groups
        ).replace("&quot;", '"')
        return f"<section><h2>{title}</h2><ol>{items}</ol></section>"

    sections = listing("Groups found", found)
    if planted:
        sections += listing(f"Planted groups: {len(same)} of {len(planted)} found", planted)
    return f'<div class="groups">{sections}{_closings(history)}</div>'


def _closings(history: History) -> str:
    """The branches that closed, what that cost, and what one more would have: the elbow in words."""
    lines = []
    for closing in history.closings:
        cost = closing["cost"]
        moved: dict[int, list[str]] = {}
        for task, branch in closing["moved"].items():
            moved.setdefault(branch, []).append(str(task))
        tasks = "; ".join(f"{', '.join(names)} to {branch}" for branch, names in moved.items())
        line = f"step {closing['step']}: branch {closing['branch']} at a cost of {cost:.2f}"
        lines.append(f"<li>{html.escape(f'{line}, {tasks}' if tasks else line)}</li>")
    elbow = history.elbow
    verdict = ""
    if elbow:
        costs = ", ".join(
            f"{n} to {n - 1}: {cost:.2f}"
            for n, cost in zip(elbow["n_branches"], elbow["costs"], strict=True)
        )
        verdict = (
            f'<p class="faint">Closing on down to one branch, as imagined: {html.escape(costs)}. '
            f"The largest rise says K = {html.escape(str(elbow['n_groups']))}.</p>"
        )
    if not lines and not verdict:
        return ""
    listing = f"<ol>{''.join(lines)}</ol>" if lines else ""
    return f"<section><h2>Branches closed: {len(lines)}</h2>{listing}{verdict}</section>"
