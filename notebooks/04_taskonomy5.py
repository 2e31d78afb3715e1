# %% [markdown]
# # 4 · Five pictures from one photograph
#
# **Question.** Depth, surface normals, segmentation, keypoints and edges, all from one photograph
# of a room: which of the five should share an encoder, and how would we know?
#
# *30 minutes · CPU is enough; a GPU and Taskonomy for the paper's setting · needs notebook 2*

# %% [markdown] tags=["picture"]
# ![What it shows: 4 · Five pictures from one photograph](img/04_taskonomy5.png)
#
# *From a real run; rooms are drawn, NOT TASKONOMY. [How it looks when run](img/README.md)*

# %% tags=["setup"]
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
import torch.nn.functional as F

# %% tags=["setup"]
from dmtg_lite import GroupedNetwork, compute_agreement, count_macs, data, decode, sum_loss, views
from dmtg_lite.course import check
from dmtg_lite.encoders import xception, xception_small
from dmtg_lite.experiments import PAPER, TOY
from dmtg_lite.views import plots

# %% [markdown]
# ## 4.1 Five tasks of another kind
#
# The paper uses Taskonomy: millions of indoor photographs, for non-commercial research, not to be
# passed on. So this notebook *draws* furnished rooms with the same five tasks, units and classes.
# What is true of drawn rooms need not be true of photographs. (Ten seconds.)

# %%
rooms = data.toy_rooms(n_train=200, n_val=20, n_test=60, size=32, seed=0)
print("DRAWN ROOMS, NOT TASKONOMY: no number below can be compared with the paper's.")
print(rooms.note)
print({split: len(getattr(rooms, split)) for split in ("train", "val", "test")}, "rooms")

# %% [markdown]
# Each task's **truth** is a picture. Beside it, as *predicted*, stands an answer that never looks:
# pixel by pixel the median of the training rooms, or their most frequent class.
#
# **Predict:** for which task is this *average room* a fair guess, for which is it useless?


# %%
def answer_without_looking(task, train):
    """(C, H, W): medians, the best constants for an l1 loss; or logits of the class frequencies."""
    target = decode(task, train.targets[task.name])  # nan or -1: no label
    if task.loss == "l1":
        return target.nanmedian(0).values
    return torch.stack([(target == k).sum(0) + 1 for k in range(task.n_outputs)]).log()


average_room = {task.name: answer_without_looking(task, rooms.train) for task in rooms.tasks}
three = rooms.test.subset(slice(3))
same = {name: answer.expand(3, -1, -1, -1) for name, answer in average_room.items()}
plots.plot_predictions(three.images, three.targets, same, rooms.tasks)

# %% [markdown]
# **What to notice.** Where there is a window the geometry is grey: nobody knows how far the sky is,
# so there is no label, and neither loss nor metric counts the pixel. Segmentation has *uncertain*
# pixels too, left out the same way.
#
# Next the units. An l1 loss sees (target - center) / spread.

# %%
rows = {}
for task in rooms.tasks:
    target = decode(task, rooms.train.targets[task.name])
    has_label = target >= 0 if task.loss == "cross_entropy" else ~target.isnan()
    known = target[has_label].float()
    seen = ((known - task.center) / task.spread).std().item() if task.loss == "l1" else float("nan")
    limits = (known.min().item(), known.median().item(), known.max().item())
    rows[task.name] = (*limits, 100 * (1 - has_label.float().mean()).item(), task.loss, seen)
columns = ["lowest", "median", "highest", "no label, %", "loss", "std the loss sees"]
units = pd.DataFrame(rows, index=columns).T.infer_objects()
units.insert(0, "unit", ["m", "unit vector", "class number", "of 65535", "of 65535"])
units.round(4)

# %% [markdown]
# **What to notice.** Every target varies, as the last column says. Keep it in mind: it is the
# cheapest check there is, and worth making *before* training.
#
# Class numbers are names, not amounts. Now a row of pixels, three bottles (2) beside three vases
# (17), is resized to half its width: by nearest, and by blending.
#
# ### Exercise 4.1 · change
#
# Alter the pair: which two classes, neither of them a bottle, invent a *bottle* (2) between them?

# %% tags=["exercise", "change"]
pair = (2, 17)  # your turn: two other class numbers
pixels = torch.tensor([[[*pair[:1] * 3, *pair[1:] * 3]]], dtype=torch.float32)  # (1, 1, W)
for way in ("nearest", "linear"):
    resized = F.interpolate(pixels, size=3, mode=way).round().int().flatten().tolist()
    print(f"{way:8}", resized, [list(plots.CLASS_COLOURS)[number] for number in resized])


# %% tags=["check"]
def test(pair):
    assert 2 not in pair, "neither of the two may be a bottle"
    assert all(k in range(len(plots.CLASS_COLOURS)) for k in pair), "there are classes 0 to 17"
    assert round(sum(pair) / 2) == 2, "look at what stands in the middle"


check("4.1", pair, test, given=(2, 17), note="Resize class numbers by nearest, always.")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
pair = (1, 3)

# %% [markdown]
# **What to notice.** Blending *invents* a class that is neither thing. The same happens between
# depths and "no geometry".
#
# Second trap: 16-bit pictures. Depth comes as counts of 1/512 m from 0 to 65535. Suppose a
# conversion takes them for 32-bit integers and scales them by the largest one. **Predict:** how
# many different targets are left for the network to learn?

# %%
counts = torch.arange(65536, dtype=torch.int32)  # every code a 16-bit picture can hold
scaled = counts.float() / (2**31 - 1)
for name, center, spread in (("depth", 1500, 1000), ("keypoints", 50, 100), ("edges", 718, 1070)):
    right, wrong = (counts.float() - center) / spread, (scaled - center) / spread
    n_right, n_wrong = len(right.unique()), len(wrong.unique())
    print(f"{name:9} as numbers: {n_right} targets; scaled: {n_wrong},", end=" ")
    print(f"from {wrong.min():.6f} to {wrong.max():.6f}")

# %% [markdown]
# **What to notice.** Depth and edges become *one* number. No error, no warning, and a loss that
# falls to nothing, since a bias answers it. Remember this for section 4.8.
#
# ### Exercise 4.2 · invent
#
# Look at your targets' spread *before* training: write `is_constant`, which says whether one and
# the same number would answer all pixels that have a label.


# %% tags=["exercise", "invent"]
def is_constant(target):
    return None  # your turn: float tensor in, nan where there is no label; True or False out


# %% tags=["check"]
def test(is_constant):
    depth = (torch.arange(0, 65536, 97.0) - 1500) / 1000
    holes = torch.where(torch.arange(len(depth)) % 5 > 0, depth, torch.nan)
    scaled = (holes + 1.5) * 1000 / (2**31 - 1) - 1.5
    assert not is_constant(depth), "these targets span 60 spreads"
    assert not is_constant(holes), "the same with holes: what does nan do to your comparison?"
    assert is_constant(scaled), "here every known pixel is the same, to float32's last digits"


check("4.2", is_constant, test, note="Two lines, and they would have saved days of training.")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def is_constant(target):
    known = target[~target.isnan()]
    return bool(known.max() - known.min() < 1e-4)


# %% [markdown]
# ## 4.2 Heavy heads
#
# A head is now a decoder: it draws a picture from a map of features. Sharing m stages is a slice of
# the encoder's list: `stages[:m]` become the stem, the rest a branch.

# %%
rows = {}
for build, size, m in [(xception_small, 64, m) for m in (0, 2, 4, 6)] + [(xception, 256, 6)]:
    network = GroupedNetwork.naive(rooms.tasks, build((3, size, size)), shared=m)
    macs = count_macs(network, (3, size, size))
    row = f"{build.__name__}, {size} pixels, {m} shared"
    rows[row] = [macs[part] / 1e6 for part in ("stem", "branches", "heads")]
columns = ["stem", "one branch", "its 5 decoders"]
costs = pd.DataFrame(rows, index=columns).T  # million multiply-adds of one image
costs["decoders, % of all"] = 100 * costs["its 5 decoders"] / costs.sum(axis=1)
costs.round(1)

# %% [markdown]
# **What to notice.** The linear heads of notebook 2 cost next to nothing. Five decoders are 43 % of
# the paper's network and 62 % of the small one. While groups are learned there are K x 5 of them,
# at the end 5.

# %% [markdown]
# ## 4.3 Watch it
#
# The preset for rooms takes minutes a run. This one is short, to be watched: 32 pixels, batches of
# 8, few steps, and a larger rate for S, so that it settles in time.
#
# Press **Start**, then try K and tau. **Predict:** which two tasks meet first?

# %%
preset = TOY["rooms"]
config = replace(preset, batch_size=8, pretrain=60, steps=120, lr_assignment=0.1)
print(config)
session = views.LiveSession(rooms, n_groups=3, config=config)
views.Dashboard(session)

# %% [markdown]
# **What to notice.** Rows settle at different times. The five losses are *added* as they are: how
# much a task weighs in an encoder that it shares depends on its spread in 4.1 too.
#
# When it has finished, look at what it sees, with each task's group:

# %%
figure = None
if session.state != "finished":
    print("nothing to look at yet: press Start above, then run this cell again")
else:
    with torch.no_grad():
        predicted = session.network.eval()(three.images)
    groups = session.history.groups()
    shown = (three.images, three.targets, predicted, rooms.tasks)
    figure = plots.plot_predictions(*shown, groups=groups)
figure

# %% [markdown]
# **What to notice.** Compare with the average room above: what did each task learn to see in so
# short a run, and what is still blurred? Tasks with one colour share an encoder.
#
# ## 4.4 Does sharing wisely help?
#
# That takes more than one short run. Here are four seeds of the full preset, recorded: **Naive
# MTL**, **STL**, **random** groups and **DMTG**, each ± half of its 95 % interval.

# %%
recorded = views.recordings.load_table("rooms")
print(recorded.attrs["about"], recorded.attrs["command"], sep="\n")
means = recorded.set_index(["task", "what"])
means.map("{0[0]:g} ± {0[1]:g}".format)

# %%
for task in rooms.tasks:
    guess = average_room[task.name].expand(len(rooms.test), -1, -1, -1)
    total, count = sum_loss(task, guess, decode(task, rooms.test.targets[task.name]))
    print(f"{task.name:12} average room: loss {total / count:.3f}")
loss = means.xs("loss", level="what").map(lambda told: told[0])
gains = 100 * (1 - loss.div(loss.naive, axis=0))  # percent
plots.plot_task_gains(gains.to_dict(), title="drawn rooms, mean of four seeds: gain in loss")

# %% [markdown]
# **What to notice.** Near the average room's loss (of smaller pictures: roughly) a network has
# hardly begun to look. Then the ±: DMTG and random groups overlap in every row. *Which* tasks share
# made no difference that four seeds could show.
#
# ## 4.5 Groups without a truth
#
# Nobody planted groups here: no agreement says that a grouping is *right*. But seeds can be
# compared. **Predict:** in how many ways can five tasks form at most three groups? Do seeds agree?

# %%
labelings = np.ndindex(3, 3, 3, 3, 3)  # a group for each task; the groups' numbers mean nothing
ways = {tuple(group_of.index(k) for k in group_of) for group_of in labelings}
print(len(ways), "ways")
found = recorded.attrs["groups"]  # of the four seeds
for groups in found:
    print(" | ".join(", ".join(group) for group in groups))
pd.DataFrame([[compute_agreement(a, b) for b in found] for a in found]).round(2)  # 0 is chance

# %% [markdown]
# Four runs, four groupings that agree little. Few enough ways to try them all, given a
# GPU. **What would count as evidence:**
#
# - other seeds, with other rooms and weights, end in the same groups more often than chance;
# - these groups beat *random groups of the same sizes* by more than seeds differ;
# - `methods.train_groups` with any better grouping would refute us.
#
# A settled row is none of these.

# %% [markdown]
# ## 4.6 Prune while training?
#
# The paper trains all 15 decoders to the end and prunes once. With `Pruning(below=...)` a decoder
# leaves for good as soon as its probability falls below a threshold. What would have left in the
# run you watched? **Predict:** how many are left at the end, and may a task lose its final winner?

# %%
_, branch, decoders = costs.iloc[0, :3]  # nothing shared
p, fig = session.history.probabilities, go.Figure()  # (T, N, K); empty before Start
winner = p.max(-1, keepdims=True) == p
for threshold, dash in ((0.01, "solid"), (0.05, "dash"), (0.2, "dot")) if len(p) else ():
    stays = np.logical_and.accumulate((p >= threshold) | winner)  # once gone, gone for good
    left, lost = stays[-1].sum(), int((~stays[-1] & winner[-1]).sum())
    work = (3 * branch + left * decoders / 5) / (3 * branch + 3 * decoders)
    name = f"below {threshold}: {left} left, {work:.0%} of the work, {lost} final winners lost"
    fig.add_scatter(y=stays.sum((1, 2)), name=name, line={"shape": "hv", "dash": dash})
fig.update_layout(xaxis_title="step", yaxis={"title": "decoders", "rangemode": "tozero"})
plots.apply_style(fig, height=360).update_layout(legend_orientation="v")

# %% [markdown]
# **What to notice.** The more tasks have settled, the more is saved. A hasty threshold cuts
# decisions that would have been reversed, so it is off by default. To try it: `replace(config,
# pruning=Pruning(below=0.05))`.
#
# ## 4.7 The paper's setting
#
# Prepared Taskonomy (`docs/taskonomy.md`) is shown next. Training never starts by itself: with
# `in_earnest = True` it runs in the background, for days; the same cell follows or resumes it.

# %%
places = [os.environ.get("DMTG_TASKONOMY"), "prepared/taskonomy", "../prepared/taskonomy"]
prepared = next((Path(p) for p in places if p and (Path(p) / "manifest.json").is_file()), None)
figure = None
if prepared is None:
    print("no prepared Taskonomy here: nothing to look at")
else:
    few = data.taskonomy(prepared, limit=60)
    print("REAL Taskonomy." if few.name == "taskonomy5" else "FAKE, NOT Taskonomy.", few.note)
    blind = {t.name: answer_without_looking(t, few.train).expand(2, -1, -1, -1) for t in few.tasks}
    two = few.test.subset(slice(2))
    figure = plots.plot_predictions(two.images, two.targets, blind, few.tasks)
figure

# %%
in_earnest = False  # True: days of training, where there are a GPU and prepared data
preset, out, view = PAPER["taskonomy5"], "runs/taskonomy", None
n_views = len(data.taskonomy(prepared).train) if prepared else 10_000
print(preset)
print("{:,} steps of Naive MTL, then {:,} with K = 3".format(*preset.count_steps(n_views)))
print(f"for {n_views:,} training views" + ("" if prepared else " (an example)"))
if in_earnest and prepared and torch.cuda.is_available():
    how = ("taskonomy5", "--groups", "3", "--device", "cuda", "--data", str(prepared))
    print(views.train_in_background(out, *how))
    view = views.Dashboard.follow(out, name="in earnest")
view

# %% [markdown]
# ## 4.8 What the paper reports
#
# Table 1 gives DMTG with K = 3 a NormGain_L of 63.85 %. It is the mean of five relative gains,
# which follow from Table 2. **Predict:** do all five tasks gain about as much?

# %%
table2 = pd.DataFrame(index=rooms.task_names)
table2["Naive MTL, Table 2"] = [8.67e-3, 0.107, 0.0828, 1.19e-2, 1.31e-2]
table2["DMTG K = 3, Table 2"] = [1.19e-7, 0.107, 0.0665, 4.3e-5, 3.58e-7]
table2["gain, %"] = 100 * (1 - table2["DMTG K = 3, Table 2"] / table2["Naive MTL, Table 2"])
print(f"mean gain {table2['gain, %'].mean():.2f} %")
gap = np.spacing(np.float32(1))
print(f"from 1 to 2, float32 numbers are {gap:.2e} apart, half as much below 1")
table2.style.format("{:.3g}")

# %% [markdown]
# **What to notice.** Three tasks gain all there is to gain; depth and edges end at float32's last
# places, as *constant* targets would, like those of 4.1. And Table A2's depth RMSE repeats Table
# 2's l1. **This is an inference** from printed digits; the authors do not state it. Tables 1 and 2
# are no target for us.
#
# ### Exercise 4.3 · read
#
# What NormGain_L is left over normals and segmentation alone, in percent? Two decimals, from
# `table2`.

# %% tags=["exercise", "read"]
gain_of_two = None  # your turn: a number

# %% tags=["check"]
note = "Still a gain, and a size that one can believe."
check("4.3", gain_of_two, sealed="number:4f15f33a9a", digits=2, note=note)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
gain_of_two = table2.loc[["normal", "segmentation"], "gain, %"].mean()

# %% [markdown]
# ## You can now
#
# - check dense targets before training: units, missing labels, spread, and what the average room
#   scores;
# - count what K x N decoders cost, share stages, and say when decoders may be dropped;
# - say what would count as evidence for groups that nobody planted, and read a table of tiny losses
#   twice.
#
# **Next:** [5 · Forty tasks](05_celeba40.ipynb)
