"""What stands behind the "?" beside each control and picture: what it is, and what to try with it.

At most 25 words each, for somebody who has not read the paper.
"""

from __future__ import annotations

import html

WORDS = {
    "start": "Trains until paused or finished; first one encoder for all tasks, then its copies. "
    "Try: guess which row leaves 1/K first.",
    "pause": "Rests after the step in progress. Try: pause while rows change, and scrub back.",
    "step": "Takes exactly one training step. Try: step while everything is undecided, arrows on.",
    "reset": "Back to step 0, with the K, spare branches and seed chosen. Try: another seed.",
    "tau": "Temperature: how evenly a draw spreads a task over the groups; not who wins. "
    "Try: 10, then 0.25.",
    "lr_assignment": "How fast S, the scores of tasks for groups, is moved by the losses. "
    "Try: ten times faster; is it as right?",
    "n_groups": "How many groups, each with an encoder of its own; acts at Reset. "
    "Try: one less than the data needs.",
    "spare": "Branches opened beyond K and closed again while training; acts at Reset. "
    "Try: as many as K, on a seed that failed.",
    "seed": "Starts all random numbers; acts at Reset. Try: five seeds; how often are the groups "
    "the same?",
    "speed": "Training steps a second, so that eyes can follow. Try: 2 while rows are deciding.",
    "matrix": "Rows are tasks, columns groups. Probabilities: softmax of S, who wins a draw. "
    "E[Z]: the mean draw at this tau. Loss: of each head.",
    "sorted": "Settled rows move next to their group, as in the head graph. "
    "Off: rows stay in the order of the data.",
    "arrows": "Where S moved in the last 20 records: up or down, larger is faster. "
    "With plain SGD: its gradient, downhill, times its rate.",
    "head_graph": "Stem: what all share. Branch: one encoder a group. A line is as thick as its "
    "weight and gone when its head is pruned.",
    "triangle": "Each task's path: a corner is a group, the middle 1/3 each. "
    "Try: which tasks turn round on the way?",
    "task": "Whose probabilities and loss the curves and the bold path show. "
    "Try: one that changed its group.",
    "curves": "Probabilities of one task, losses, and entropy: 1 is undecided, 0 settled. The axis "
    "grows with the run.",
    "play": "Plays what is recorded, slowly where rows decide and fast where nothing moves. "
    "Try: guess each winner early.",
    "scrub": "The step in view; training goes on meanwhile. Try: back to where one row changed "
    "its winner.",
    "present": "The whole screen in large type, for a projector; Escape ends it. "
    "Try: matrix first, then ask the class.",
}  # fmt: skip


def draw_help(name: str, label: str, key: str) -> str:
    """A "?" that opens its words with no program, as HTML: a button that the keyboard reaches.

    Args:
        name: Of the control, as in `WORDS`.
        label: What people call it.
        key: Makes the element's name its own on the page.
    """
    target, label = html.escape(f"{key}-{name}"), html.escape(label)
    return (
        f'<button type="button" class="dmtg-ask" popovertarget="{target}" '
        f'aria-label="what is {label}?">?</button>'
        f'<div popover id="{target}" class="dmtg-told">'
        f"<b>{label}</b> {html.escape(WORDS[name])}</div>"
    )
