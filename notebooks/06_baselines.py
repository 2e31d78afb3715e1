# %% [markdown]
# # 6 · Who else could choose?
#
# **Question.** DMTG learns its groups while it trains. Older methods *measure* first and choose
# afterwards. What do they measure, what would they choose, and is it worth its price?
#
# *25 minutes · CPU · no download · needs notebook 2*

# %% [markdown] tags=["picture"]
# ![What it shows: 6 · Who else could choose?](img/06_baselines.png)
#
# *From a real run. [How it looks when run](img/README.md)*

# %% tags=["setup"]
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from dmtg_lite import GroupedNetwork, HeadOptions, Task, data, experiments, methods, views
from dmtg_lite.course import check
from dmtg_lite.encoders import Encoder
from dmtg_lite.methods import affinity, measure_pairs, meta_learner, try_groups

# %% [markdown]
# ## 6.1 Choosing, on paper
#
# Three tasks and invented losses: a row is a task, a column its only partner; on the diagonal the
# task is alone.
#
# In a group of three, a task's loss is *estimated* as the mean over its two partners. You can
# afford two encoders, that is two groups. They may overlap; a task in both is served by the better
# one.

# %%
names = ["hair", "moustache", "hat"]
values = np.array([[0.30, 0.20, 0.50], [0.60, 0.40, 0.25], [0.45, 0.35, 0.20]])
candidates = methods.pairwise_candidates(values, names, singles="diagonal")  # all 7 groups
at_first = [["hair", "moustache"], ["hat"]]  # two of them, for the exercise
pd.DataFrame(values, index=names, columns=[f"with {name}" for name in names])

# %% [markdown]
# ### Exercise 6.1 · change
#
# Alter the two groups until the sum of the three losses is as small as it gets. Hint: being good
# company need not be mutual.

# %% tags=["exercise", "change"]
my_groups = [["hair", "moustache"], ["hat"]]  # your turn: two other groups
mine = [one for one in candidates if set(one.tasks) in map(set, my_groups)]
print(f"the losses add up to {methods.select_groups(mine, budget=2).total:.2f}")


# %% tags=["check"]
def test(my_groups):
    mine = [group for group in candidates if set(group.tasks) in map(set, my_groups)]
    assert len(mine) == 2, "two different groups of hair, moustache and hat, please"
    assert set().union(*my_groups) == set(names), "somebody is served by no group"
    best = methods.select_groups(candidates, budget=2).total
    assert methods.select_groups(mine, budget=2).total < best + 1e-9, "there is better"


note = "Moustache trains twice: once for itself, once only to help hair."
check("6.1", my_groups, test, given=at_first, note=note)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
my_groups = [["hair", "moustache"], ["moustache", "hat"]]

# %% [markdown]
# `select_groups` makes this choice exactly, for any number of tasks.
#
# ## 6.2 Three ways to look before choosing
#
# Now measure: six tasks about three parts of a face. Encoders pass on *one* number, which serves
# one part. `look` draws a matrix and prints what would be chosen.
#
# **No network at all:** how closely are two labels linked, |correlation|?
#
# **Predict:** will that do? And if a task may stay alone, scored by the diagonal?


# %%
def look(faces, title, values, *, is_loss=False):
    """Print the best groups for K = 2, 3, 4 and draw the matrix."""
    singles = "diagonal" if is_loss else "never"
    candidates = methods.pairwise_candidates(values.double().numpy(), faces.task_names, singles)
    for k in (2, 3, 4):
        groups = methods.select_groups(candidates, k, maximise=not is_loss).groups
        print(f"K = {k}:", " | ".join(", ".join(group) for group in groups))
    return views.plots.plot_affinity(values, faces.task_names, title=title, is_loss=is_loss)


# %%
faces = data.toy_faces(n_tasks=6, n_groups=3, size=16, seed=0)
config = replace(experiments.TOY["faces_plain"], pretrain=100, steps=300)  # short
print("planted:", " | ".join(", ".join(group) for group in faces.planted_groups))
by_labels = affinity.label_correlation(faces)  # (N, N)
candidates = methods.pairwise_candidates(by_labels.numpy(), faces.task_names, singles="diagonal")
print("K = 4, alone if it likes:", methods.select_groups(candidates, 4, maximise=True).groups)
look(faces, "|correlation| of the labels", by_labels)

# %% [markdown]
# **What to notice.** K = 3 gives the planted groups, K = 4 no fourth: nobody would gain. A label
# correlates with itself by 1, so tasks prefer to sit alone; hence `singles="never"`: only if
# nothing else serves them.
#
# **Gradients:** train Naive MTL once; every ten steps, ask in which direction each task pulls the
# encoder. **TAG** goes on: take a step for one task, and see what it saves the others.
#
# **Predict:** will the two agree?

# %%
cosine = affinity.gradient_cosine(faces, config)
title = "cosine of two tasks' gradients: 1 same direction, -1 opposite"
look(faces, title, cosine.matrix)

# %%
tag = affinity.tag_affinity(faces, config)
title = "TAG: loss of the row saved by a step of the column, %"
look(faces, title, 100 * tag.matrix.T)

# %% [markdown]
# **What to notice.** Compare with the planted groups. Both look at one *shared* network, which here
# has one number for three parts: who wins that number decides whom a step helps. These faces are an
# extreme case.
#
# **HOA** really trains all singles and all pairs: 21 networks.
#
# **Predict:** two tasks of different parts share one number. What do their two losses look like?

# %%
pairs, _ = measure_pairs(faces, config)  # (N, N), validation losses
look(faces, "HOA: loss of the row beside the column", pairs, is_loss=True)

# %% [markdown]
# **What to notice.** Beside a stranger, often one of the two keeps a low loss and the other pays.
# Good company is not mutual, as in 6.1.
#
# ## 6.3 What HOA assumes
#
# Larger groups are never trained; the estimate is the mean of the pairs. Check it: one task of each
# part, and all six.
#
# **Predict:** a task wins every pair. Will it win the triple?

# %%
triple = ["dark_hair", "full_moustache", "pale_cheeks"]
trained, _ = try_groups(faces, [triple, faces.task_names], config)  # (N, 2)
off_diagonal = pairs.clone().fill_diagonal_(0)
rows = [faces.task_names.index(name) for name in triple]
held = pd.DataFrame(index=faces.task_names)
held.loc[triple, "triple, estimated"] = off_diagonal[rows][:, rows].sum(1).numpy() / 2
held["triple, trained"] = trained[:, 0]
held["all six, estimated"] = off_diagonal.sum(1) / 5
held["all six, trained"] = trained[:, 1]
held.round(2)

# %% [markdown]
# **What to notice.** Tasks that won most pairs now fight for one number. A mean of pairs cannot see
# that: the choice is exact, what it chooses from is not.
#
# **How bad is that on real images?** Standley et al. trained all 31 groups of five tasks of
# Taskonomy and published the losses. **Predict:** two encoders, chosen from 15 singles and pairs:
# how far from the best choice of all 31?

# %%
val, test = (methods.published_losses(split)[5:] for split in ("val", "test"))
real = list(val[-1].tasks)  # all five
loss = {frozenset(group.tasks): group.scores for group in val}
beside = np.array([[loss[frozenset({a, b})][a] for b in real] for a in real])
choices = {"pairs": methods.select_by_pairs(beside, real, 2, singles="diagonal").groups}
choices |= {f"31 groups, K={k}": methods.select_groups(val, k).groups for k in (2, 1)}
for told_by, groups in choices.items():
    trained = [group.scores for group in test if group.tasks in groups]
    total = sum(min(scores.get(task, np.inf) for scores in trained) for task in real)
    print(f"{told_by:>15}: {total:.3f} on test,", " | ".join(", ".join(g) for g in groups))

# %% [markdown]
# **What to notice.** Pairs told nearly all about these tasks.
#
# ### Exercise 6.2 · read
#
# One encoder for all five, instead of the best two: by how many percent is the sum on test larger?
# To the nearest whole number.

# %% tags=["exercise", "read"]
price_of_one = None  # your turn: a number

# %% tags=["check"]
note = "Choosing from pairs alone loses half a percent."
check("6.2", price_of_one, sealed="number:0d7a128db6", note=note)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
price_of_one = 100 * (0.503 / 0.452 - 1)

# %% [markdown]
# ## 6.4 TAG by hand
#
# The smallest network: an image of one pixel, a linear encoder to one number, two tasks. Then three
# lines: the gradient of one loss, a step on a copy, the losses after it.

# %%
torch.manual_seed(0)
tasks = (Task("is_bright"), Task("is_red"))
encoder = Encoder([torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1))], out_features=1)
tiny = GroupedNetwork.naive(tasks, encoder)
pixels = torch.rand(32, 3, 1, 1)  # (B, 3, H, W)
red, green, blue = pixels[:, :, 0, 0].T
answers = torch.stack([red + green + blue > 1.5, 2 * red > green + blue], dim=1).long()  # (B, N=2)

# %%
before, lr = tiny.compute_loss_matrix(pixels, answers)[:, 0], 0.1  # L, (N,)
gradient = torch.autograd.grad(before[0], tiny.branches.parameters())  # is_bright alone, no heads
stepped = deepcopy(tiny)
for weight, slope in zip(stepped.branches.parameters(), gradient, strict=True):
    weight.data -= lr * slope
after = stepped.compute_loss_matrix(pixels, answers)[:, 0]
print("by hand, step of is_bright:", [f"{z:+.5f}" for z in (1 - after / before).tolist()])
lookahead = affinity.compute_lookahead(tiny, pixels, answers, lr=lr)  # [i, j]: step of i, loss of j
print("library, step of is_bright:", [f"{z:+.5f}" for z in lookahead[0].tolist()])

# %% [markdown]
# **What to notice.** The same numbers; a real run averages them over many batches. For a small step
# they are its length times the product of two gradients, over a loss: TAG and the cosine are
# relatives.
#
# ## 6.5 MTG-Net: learn to predict gains
#
# Train *some* groups and let a small network predict the rest. A **gain** is the share of a task's
# loss alone that its group saves. For five tasks you can afford the truth about all 31.

# %%
five = faces.select(faces.task_names[:5])
masks = meta_learner.list_combinations(5)  # bool, (31, 5): who is in a group
groups = [[five.task_names[n] for n in mask.nonzero()[:, 0]] for mask in masks]
losses = try_groups(five, groups, config)[0].T  # (31, 5), nan where a task is not in the group
alone = losses[:5].diagonal()
truth = (alone - losses) / alone  # gains, harm is negative
median, best = truth[5:].nanmedian(), truth[masks].max()
print(f"{len(groups)} groups trained; median gain {median:.2f}, best {best:.2f}")

# %% [markdown]
# It begins with all tasks together. Then tasks take turns, and each asks for the group where it
# *expects the largest gain or harm*. After each answer the predictor is trained anew.
#
# **Predict:** will it ask for pairs, or for large groups?

# %%
row_of = {tuple(mask.nonzero()[:, 0].tolist()): row for row, mask in enumerate(masks)}
asked = []


def measure(combination):
    asked.append([five.task_names[n] for n in combination])
    return truth[row_of[combination], list(combination)].tolist()  # as if it had just been trained


table = meta_learner.learn_gains(measure, 5, n_rounds=5, seed=0)
for turn, group in enumerate(asked[1:]):
    print(f"{five.task_names[turn % 5]} asks for {', '.join(group)}")

# %%
groups_left = ~table.is_measured & (masks.sum(1) > 1)
shown = masks & groups_left[:, None]
known = truth[masks & table.is_measured[:, None]]
measured, predicted = truth[shown], table.gains[shown]
off, guess = (predicted - measured).abs().mean(), (measured - known.median()).abs().mean()
print(f"{len(asked)} groups trained, {int(groups_left.sum())} predicted; mean error {off:.2f};")
print(f"of guessing their median each time: {guess:.2f}")
fig = go.Figure(go.Scatter(x=measured, y=predicted, mode="markers", name="a task in a group"))
fig.add_scatter(x=[-3, 0.5], y=[-3, 0.5], mode="lines", name="perfect", line_color="#767676")
fig.update_xaxes(title="gain, measured").update_yaxes(title="gain, predicted")
views.plots.apply_style(fig, "gains that MTG-Net never measured", height=420)

# %% [markdown]
# **What to notice.** Hold the error against the guess.
#
# ## 6.6 Price and quality
#
# All of them with K = 3, and the label groups of 6.2; recorded, since HOA and MTG-Net train dozens
# of networks. The price is *counted*: 1 is one encoder trained as long as Naive MTL; the search is
# included. A task that was trained twice is served by the encoder that does better on *validation*
# images.
#
# **Predict:** who is cheap, who is good?

# %%
runs = views.recordings.load_table("baselines")
print("two seeds of each, by:", runs.attrs["command"])
columns = ["total_error", "agreement", "encoder_cost"]
runs.pivot(index="method", columns="seed", values=columns).round(2)

# %%
fig = go.Figure()
for n, (method, own) in enumerate(runs.groupby("method", sort=False)):
    cost, error, colour = own.encoder_cost, own.total_error, views.plots.GROUP_COLOURS[n % 8]
    ring = {"color": colour, "symbol": "circle-open"}
    fig.add_scatter(x=cost, y=error, mode="markers", marker=ring, name=method)
    dot = {"color": colour, "symbol": "diamond", "size": 13}
    mean = {"x": [cost.mean()], "y": [error.mean()], "text": [method]}
    fig.add_scatter(**mean, mode="markers+text", marker=dot, textposition="middle right")
fig.update_xaxes(title="encoder cost, counted", type="log", tickvals=[1, 2, 4, 8, 16, 32])
fig.update_xaxes(range=[-0.2, 1.6]).update_layout(showlegend=False)
fig.update_yaxes(title="total error, points", rangemode="tozero")
views.plots.apply_style(fig, "price and quality; circles: runs, diamonds: means", height=520)

# %% [markdown]
# **What to notice.** Lower left is good. Two runs of one method can lie further apart than two
# methods, even with the right groups: ten seeds are in `docs/evidence.md`. STL is good here, and
# cheaper than all pairs; searching can pay where only three encoders fit in the end.
#
# ### Exercise 6.3 · invent
#
# How many encoders does HOA train for N tasks, if it chooses K groups?


# %% tags=["exercise", "invent"]
def hoa_cost(n_tasks, n_groups):
    return None  # your turn: singles, pairs, and the groups at last


# %% tags=["check"]
def test(hoa_cost):
    for n_tasks, n_groups in ((1, 1), (2, 1), (6, 3), (9, 2)):
        pairs = sum(1 for a in range(n_tasks) for b in range(a))
        cost, where = hoa_cost(n_tasks, n_groups), f"{n_tasks} tasks in {n_groups} groups"
        assert cost != n_tasks + pairs, f"{where}: what it chose is trained, too"
        assert cost <= n_tasks + pairs + n_groups, f"{where}: too many; each pair once"
        assert cost == n_tasks + pairs + n_groups, f"{where}: {cost} are too few"


check("6.3", hoa_cost, test, note="Now ask it for forty tasks in five groups; STL trains 40.")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def hoa_cost(n_tasks, n_groups):
    return n_tasks + n_tasks * (n_tasks - 1) // 2 + n_groups


# %% [markdown]
# DMTG looks *while* it trains: K encoders, and one for the pretraining. Here is one such run. A
# single run may settle on wrong groups; notebook 8 is about that.
#
# **Predict:** from the table above, does seed 1 end with the planted groups?

# %%
seen = methods.dmtg(faces, 3, replace(config, seed=1))
views.Dashboard(seen.history)

# %% [markdown]
# ## 6.7 Where labels cannot tell
#
# Here the correlation of labels is the best bargain. That says something about the *data*: these
# labels give the groups away. With `labels="independent"` every label is a fair coin, and tasks
# share only what they need from the image.
#
# **Predict:** what do the labels choose now, and what do HOA's pairs choose?

# %%
hidden = data.toy_faces(n_tasks=6, n_groups=3, labels="independent", size=16, seed=0)
print("planted:", " | ".join(", ".join(group) for group in hidden.planted_groups))
by_labels = affinity.label_correlation(hidden)
look(hidden, "|correlation| of independent labels", by_labels)

# %%
bent = replace(config, heads=HeadOptions(hidden=32))  # "medium" is no straight cut
hidden_pairs, _ = measure_pairs(hidden, bent)
title = "HOA: loss of the row beside the column"
look(hidden, title, hidden_pairs, is_loss=True)

# %% [markdown]
# **What to notice.** Off the diagonal only noise is left, and the labels' choice is arbitrary.
# Trained pairs have seen images; compare their K = 3 with the planted groups. (One seed.)
#
# ## You can now
#
# - say what HOA, TAG, the cosine and MTG-Net measure, and choose groups from such a matrix;
# - test a method's assumption by training what it only estimates;
# - weigh a method by price and quality, beside a free baseline.
#
# **Next:** [7 · Take one thing away](07_ablations.ipynb)
