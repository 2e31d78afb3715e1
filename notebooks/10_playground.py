# %% [markdown]
# # 10 · The playground: what happens if ...?
#
# **Question.** A run has a dozen settings. Which of them decide whether the groups are found, and
# which only change how a run looks on its way?
#
# *20 minutes · CPU · no download · helps to have seen notebooks 0 and 1*

# %% [markdown] tags=["picture"]
# ![What it shows: 10 · The playground: what happens if ...?](img/10_playground.png)
#
# *From a real run. [How it looks when run](img/README.md)*

# %% tags=["setup"]
from dataclasses import replace

import pandas as pd
import torch

from dmtg_lite import TrainConfig, data, sample_assignment, views
from dmtg_lite.course import check

# %% [markdown]
# ## 10.1 Two runs
#
# Below are two runs, A and B, on the same axes. Every row of the form is a setting; ≠ marks where
# the two differ, and **?** says what a setting is and what to try.
#
# Choose a question under **what happens if**, predict, and press **Start both**. The first one:
# three parts of the face, but K = 2 in run B.
#
# **Predict:** which tasks will share a branch, and will they pay for it?

# %%
play = views.Playground()
play

# %% [markdown]
# **What to notice.** Run B is as decided as run A: every row has its bright cell. Look at the table
# below the curves instead: the agreement with the planted groups, and the mean error on pictures
# that no run has seen. Three parts do not fit through two branches of one number each, so tasks of
# a part are torn apart.
#
# Now press another seed for both. Does the same part suffer?

# %%
pd.DataFrame(play.tell()).T  # the table of the view; after Start, run this cell again

# %% [markdown]
# ### Exercise 10.1 · read
#
# The form says K = 3 for run A, and the matrix shows more columns than that. How many branches does
# run A open before the spare ones close?

# %% tags=["exercise", "read"]
n_branches = None  # your turn: a number

# %% tags=["check"]
check("10.1", n_branches, sealed="number:0bca31780a")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
n_branches = 6

# %% [markdown]
# ## 10.2 Take it with you
#
# Below the pictures stand both runs as **Python** and as a **link**. A line gives the same run in a
# script. The link opens the what-if page, which plays recorded runs without a kernel: send it to
# somebody. What that page does not have is said.
#
# Both fields also read: paste another line or link and the form follows.

# %%
print(play.lines.value)
print(play.link.value)

# %% [markdown]
# **What to notice.** A line holds everything: data, K, and each setting that is not the default.
# The link is shorter, since it only says where its page differs from a recipe: `k`, `tau`, `rate`,
# `spare`, `seed`, and the same with `b.` for run B.
#
# ### Exercise 10.2 · change
#
# Alter the link: run A with two groups and *hot* draws, tau = 10; run B beside it with five groups,
# all else as in A.

# %% tags=["exercise", "change"]
link = "what_if.html#data=faces&k=3&spare=double&seed=1"  # your turn: alter this link
{run: one.n_groups for run, one in play.understand(link).items()}


# %% tags=["check"]
def test(link):
    both = play.understand(link)
    assert set(both) == {"A", "B"}, "a key that begins with b. makes a second run"
    k = {run: one.n_groups for run, one in both.items()}
    assert k["A"] == 2, f"run A has K = {k['A']}"
    assert k["B"] == 5, f"run B has K = {k['B']}"
    taus = {one.config.tau for one in both.values()}
    assert taus == {10}, f"tau is {sorted(taus)}: what B does not say it has from A"
    assert both["A"].config.seed == 1, "the seed was to stay"


check("10.2", link, test, given="what_if.html#data=faces&k=3&spare=double&seed=1")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
link = "what_if.html#data=faces&k=2&tau=10&spare=double&seed=1&b.k=5"

# %% [markdown]
# ## 10.3 What happens if there is no noise?
#
# All branches begin as copies of one encoder. The draw adds noise to S, so each copy is asked for
# something else. Here are the three draws of the form, for a task with no opinion.
#
# **Predict:** what does each copy learn if every draw is exactly 1/3?

# %%
undecided, rng = torch.zeros(1, 3), torch.Generator().manual_seed(0)
draws = {
    name: sample_assignment(undecided, 2.5, estimator=name, generator=rng)[0].tolist()
    for name in ("gumbel", "straight_through", "softmax")
}
pd.DataFrame(draws, index=["group 0", "group 1", "group 2"]).T.round(2)

# %% [markdown]
# **What to notice.** Soft and hard draws differ from branch to branch; the last row never does.
# Copies that are always asked alike get the same gradients, and stay copies.
#
# Choose *there is no noise* above, predict, and start. For about a hundred steps nothing moves;
# then roundings grow. Groups that come of rounding have no reason to be right.

# %% [markdown]
# ## 10.4 What happens if S is too fast?
#
# Adam moves each entry of S by about its rate per step, whatever the losses say. To be 98 % sure
# among three, a task needs a lead of about 4.6 over the others, and both sides move.
#
# **Predict:** at a rate of 3, how many steps until every task has made up its mind?

# %%
lead = torch.logit(torch.tensor(0.98)) + torch.log(torch.tensor(2.0))  # K - 1 = 2 others
rates = pd.Series([0.0008, 0.03, 3.0], name="rate of S")
pd.DataFrame({rates.name: rates, "steps at the least": (lead.item() / (2 * rates)).round(1)})

# %% [markdown]
# **What to notice.** With the largest rate one or two steps decide, when all branches are still
# alike and a batch of 64 faces is all that has been seen. Such a choice is a coin that was thrown.
#
# In the playground: *S is too fast*. Then give SGD and Adam the same rate, and say why they are not
# comparable.

# %% [markdown]
# ## 10.5 What happens if one loss is a hundred times larger?
#
# The objective is a sum. A number in grams instead of kilograms, or a task somebody cares about,
# and one row of the loss matrix outweighs the rest. `weigh` makes such data.
#
# **Predict:** at the first step all nine losses are about 0.69. Which share of the sum is the first
# task's?

# %%
faces = data.toy_faces(size=16)
loud = faces.weigh({"dark_hair": 100.0})
weights = pd.Series({task.name: task.weight for task in loud.tasks})
(100 * weights / weights.sum()).round(1)  # percent of the objective

# %% [markdown]
# **What to notice.** Eight tasks share what one leaves over. While a task is undecided its gradient
# reaches *every* branch, so all of them become experts for hair.
#
# Choose *one loss is a hundred times larger*. Afterwards set **normalise losses** in run B: each
# task is then divided by its own mean loss, and a factor cancels.

# %% [markdown]
# ## 10.6 What happens if labels are flipped?
#
# `label_noise` turns a share of the training labels round, drawn anew for each task. Test labels
# stay clean.
#
# **Predict:** with 30 % wrong labels, are the groups lost, or only some accuracy?

# %%
noisy = data.toy_faces(size=16, label_noise=0.3)
clean = data.toy_faces(size=16, label_noise=0.0)
wrong = {
    name: (noisy.train.targets[name] != clean.train.targets[name]).float().mean().item()
    for name in faces.task_names[:3]
}
pd.Series(wrong).round(3)

# %% [markdown]
# **What to notice.** Seven labels in ten are right, and the wrong ones point nowhere: over two
# thousand faces they cancel. See in the playground what that does to groups and errors.
#
# ### Exercise 10.3 · invent
#
# A question can also be asked the other way round. Write `turn_round(faces)`: the same data, but
# **every** answer of the first task is the opposite, in all three splits. All else stays.


# %% tags=["exercise", "invent"]
def turn_round(faces):
    return None  # your turn: dataclasses.replace makes a Split, and a TaskData, with other contents


# %% tags=["check"]
def test(turn_round):
    turned, first = turn_round(faces), faces.task_names[0]
    assert turned.task_names == faces.task_names, "the tasks are to stay, in their order"
    for split in ("train", "val", "test"):
        old, new = getattr(faces, split).targets, getattr(turned, split).targets
        same = [name for name in old if torch.equal(old[name], new[name])]
        assert first not in same, f"in the split {split} the answers are as they were"
        assert len(same) == 8, f"in the split {split} other tasks have changed too"
        assert ((old[first] + new[first]) == 1).all(), "yes must become no, and no become yes"


check("10.3", turn_round, test, note="Now play it: views.Playground(turn_round(faces)).")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def turn_round(faces):
    first, splits = faces.task_names[0], {}
    for name in ("train", "val", "test"):
        split = getattr(faces, name)
        turned = split.targets | {first: 1 - split.targets[first]}
        splits[name] = replace(split, targets=turned)
    return replace(faces, **splits)


# %% [markdown]
# ## 10.7 Your turn
#
# `views.Playground(mine)` in a new cell takes data of your own (see
# [9 · Your tasks](09_your_tasks.ipynb)) and puts them into the list of data. Questions worth a run:
#
# - With a task turned round: same groups?
# - Capacity 16, K = 3: what are groups good for then?
# - Independent labels: what can still tell who belongs together?
# - Two runs that differ in the seed only: how much of a difference between two settings is luck?

# %% [markdown]
# One more thing: a line is a run, so many lines are an experiment. Change one word and compare over
# seeds before you believe a picture.

# %%
config = TrainConfig(encoder="toy", steps=900, tau=(4.0, 0.25))  # tau falls over the run
[round(config.tau_at(progress), 2) for progress in (0, 0.25, 0.5, 0.75, 1)]

# %% [markdown]
# ## You can now
#
# - change one setting at a time, with a prediction before and a comparison after;
# - tell a run that is decided from one that is right;
# - hand a run on, as a line that trains it or as a link that shows it.
#
# **Next:** tasks of your own, in [9 · Your tasks](09_your_tasks.ipynb), or the paper's claims one
# by one, in [7 · Ablations](07_ablations.ipynb).
