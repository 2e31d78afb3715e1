# %% [markdown]
# # 8 · Musical chairs: one run that finds the groups
#
# **Question.** A single run often settles on wrong groups. Do you have to train again and again, or
# can one run do better?
#
# *15 minutes · CPU · no download · needs notebooks 0 to 2*

# %% [markdown] tags=["picture"]
# ![What it shows: 8 · Musical chairs: one run that finds the groups](img/08_finding_groups.png)
#
# *From a real run. [How it looks when run](img/README.md)*

# %% tags=["setup"]
from dataclasses import replace

import pandas as pd
import torch

from dmtg_lite import Spare, compute_closing_costs, data, experiments, imagine_closings, views
from dmtg_lite.course import check

# %% [markdown]
# ## 8.1 What went wrong
#
# Two recorded runs of the same recipe: nine tasks about three parts of a face, K = 3. For each task
# its group and its training loss at the end.
#
# **Predict:** which tasks pay for the failure?

# %%
runs = {name: views.recordings.load(name) for name in ("good", "failed")}
table = pd.DataFrame(index=runs["good"].task_names)
for name, run in runs.items():
    table[f"{name}: group"] = run.probabilities[-1].argmax(-1)
    table[f"{name}: loss"] = run.task_losses[-100:].mean(0)
table.round(2)

# %% [markdown]
# **What to notice.** In the failed run two parts of the face squeeze into one branch, and one of
# them pays. The third part sits on two. Why does nobody go there? That branch knows only its own
# part: each newcomer would be worse off *today*. A state that every small step makes worse is a
# **local optimum**.
#
# It is a game of musical chairs: who is slow finds the chair taken. **Predict:** what if there were
# twice as many?

# %% [markdown]
# ## 8.2 The rule, by hand
#
# Open 2K branches and train. Then close one after another, each time the one that is *missed
# least*, until K are left. We call the extra ones **spare branches**.
#
# Who is missed least stands in the loss matrix. Five tasks, four branches, and where each task
# sits now:

# %%
names = ["dark_hair", "light_hair", "thin_moustache", "full_moustache", "tall_hat"]
loss_matrix = torch.tensor([  # L, (N=5, K=4)
    [0.10, 0.15, 0.70, 0.70],
    [0.25, 0.10, 0.70, 0.70],
    [0.70, 0.70, 0.10, 0.70],
    [0.70, 0.70, 0.20, 0.70],
    [0.95, 0.90, 0.85, 0.10],
])  # fmt: skip
group_of = torch.tensor([0, 1, 2, 2, 3])  # branch of each task
table = pd.DataFrame(loss_matrix.numpy().round(2), index=names).add_prefix("branch ")
table.assign(sits_in=group_of)

# %% [markdown]
# If a task's branch closes, the task goes to its next best branch. It then pays the loss there
# minus the loss it has now. The **closing cost** of a branch is the sum over the tasks that sit in
# it.
#
# **Predict:** which branch closes first, and which one last?
#
# ### Exercise 8.1 · invent
#
# Write `closing_costs`: a list of K numbers. A branch where nobody sits has one too.


# %% tags=["exercise", "invent"]
def closing_costs(loss_matrix, group_of):
    return None  # your turn: for each task, the smallest loss elsewhere minus its own


# %% tags=["check"]
def test(closing_costs):
    rng = torch.Generator().manual_seed(0)
    groups = torch.tensor([0, 0, 1, 2, 2, 2, 3, 5, 5])  # nobody sits in branch 4
    for matrix, sits in ((loss_matrix, group_of), (torch.rand(9, 6, generator=rng), groups)):
        yours = torch.as_tensor(closing_costs(matrix, sits), dtype=torch.float32)
        assert yours.shape == matrix[0].shape, "a number for every branch is asked for"
        expected = compute_closing_costs(matrix, sits)
        assert ((yours == 0) == (expected == 0)).all(), "what does an empty branch cost?"
        assert torch.allclose(yours, expected, atol=1e-5), "next best, for each who sits there?"


check("8.1", closing_costs, test)


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def closing_costs(loss_matrix, group_of):
    costs = [0.0] * loss_matrix.shape[1]
    for row, branch in zip(loss_matrix.tolist(), group_of.tolist(), strict=True):
        own = row.pop(branch)
        costs[branch] += min(row) - own
    return costs


# %% [markdown]
# Branches 0 and 1 are twins: what one can do, the other can almost do. So closing branch 0 costs
# next to nothing: 0.05.
#
# ### Exercise 8.2 · read
#
# Branch 0 closes, and `dark_hair` moves in with its twin. What does closing branch 1 cost *now*?
# Two decimals, from the table above.

# %% tags=["exercise", "read"]
cost_of_the_twin = None  # your turn: a number

# %% tags=["check"]
note = "A spare twin is cheap, the last of its kind is dear."
check("8.2", cost_of_the_twin, sealed="number:52c824c061", digits=2, note=note)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
cost_of_the_twin = (0.70 - 0.15) + (0.70 - 0.10)

# %% [markdown]
# So the costs must be computed anew after each closing. Go on, on paper, down to a single branch:

# %%
costs = compute_closing_costs(loss_matrix, group_of)  # (K,)
print("costs at first:", [round(cost, 2) for cost in costs.tolist()])
elbow = imagine_closings(loss_matrix, group_of)
for n, branch, cost in zip(elbow["n_branches"], elbow["branches"], elbow["costs"], strict=True):
    print(f"{n} branches -> {n - 1}: branch {branch} closes, cost {cost:.2f}")

# %% [markdown]
# **What to notice.** A twin is almost free, and an empty branch costs nothing. Branch 3 serves a
# single task, but nobody else can serve it. After the first closing all are dear: there are three
# kinds of task.
#
# ### Exercise 8.3 · change
#
# Alter one entry of the loss matrix so that the hat's branch, number 3, is the first to close.

# %% tags=["exercise", "change"]
task, branch, loss = entry = (4, 0, 0.95)  # your turn: another entry, another loss
altered = loss_matrix.clone()
altered[task, branch] = loss
print("costs:", [round(cost, 2) for cost in compute_closing_costs(altered, group_of).tolist()])


# %% tags=["check"]
def test(entry):
    task, branch, loss = entry
    assert branch != group_of[task], "leave the task's own loss alone: how well do others serve it?"
    assert loss > loss_matrix[task, group_of[task]], "then it would not sit where it sits"
    altered = loss_matrix.clone()
    altered[task, branch] = loss
    first = int(compute_closing_costs(altered, group_of).argmin())
    assert first == 3, f"branch {first} still closes first: who needs branch 3, and where else?"


check("8.3", entry, test, given=(4, 0, 0.95), note="Dear is who cannot be replaced.")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
entry = (4, 2, 0.12)

# %% [markdown]
# ## 8.3 Watch branches close
#
# K = 3, six branches. From step 400 on a branch closes every 100 steps.
#
# **Predict:** what sits in the six branches before that? Then press **Start**.

# %%
faces = data.toy_faces(n_tasks=9, n_groups=3, size=16, seed=0)
slowly = Spare(branches="double", close_from=400, close_every=100)
config = replace(experiments.TOY["faces"], spare=slowly, steps=700, seed=1)
session = views.LiveSession(faces, n_groups=3, config=config)
views.Dashboard(session)

# %% [markdown]
# **What to notice.** When a branch closes, its column of S and its encoder are gone. Its tasks sit
# in another branch at once, with the wish they had before. The line above the picture counts the
# open branches.
#
# When it has finished, run the next cell.


# %%
def tell(history):
    if not history.closings:
        return print("press Start above first")
    just_before = list(history.steps).index(history.closings[0]["step"]) - 1
    print("before:", *history.groups(just_before), sep="\n  ")
    for event in history.closings:
        print("step {step}: branch {branch} closes, cost {cost:.2f},".format(**event), end=" ")
        print("moved:", event["moved"] or "nobody")
    print("now:", *history.groups(), sep="\n  ")


tell(session.history)

# %% [markdown]
# **What to notice.** Before the first closing, most branches hold tasks about *one* part of the
# face, and some hold nobody. A group in two halves is a harmless mistake, since closing repairs it.
# A branch that mixes two groups is the costly kind, and with chairs to spare it is rarer.

# %% [markdown]
# Now choose **spare branches: none**, press Reset and Start. Then try seed 2, with and without: can
# you catch a mixed branch that closes?
#
# You saw a single run, and a seed that we chose. Whether the rule or only the effort does it, and
# what to do when nobody knows K, is in the second half.

# %% [markdown]
# ## You can now
#
# - say what a local optimum is, and why spare branches help;
# - compute what closing a branch costs, from the loss matrix alone;
# - follow a run from six branches to three, and say who moved where.
#
# **Next:** [8b · How many groups, and at what price?](08b_how_many_groups.ipynb)
