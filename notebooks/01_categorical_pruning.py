# %% [markdown]
# # 1 · Choosing a group, with a gradient
#
# **Question.** Each task has to pick one of K groups. Picking is all or nothing, but training wants
# small steps downhill. How can one train a *choice*?
#
# *15 minutes · CPU · no download · helps to have seen notebook 0*

# %% tags=["setup"]
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from dmtg_lite import TrainConfig, data, sample_assignment, train_steps
from dmtg_lite.runs.fit import branch_out
from dmtg_lite.runs.history import compute_mean_assignment
from dmtg_lite.runs.run import pretrain
from dmtg_lite.views import plots
from dmtg_lite.views.widgets import TauExplorer

# %% [markdown]
# ## 1.1 A draw
#
# DMTG gives every task one number per group, the **logits** S. Rows are tasks, columns are groups.
# Softmax turns a row into **assignment probabilities**.
#
# Below, task 0 leans towards group 0 and task 1 has no opinion.

# %%
logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])  # S, (N=2 tasks, K=3 groups)
logits.softmax(-1)

# %% [markdown]
# Now the trick, in three lines. Add **Gumbel noise** to the logits: the largest sum then falls on
# group k exactly as often as softmax(S) says. Taking that largest entry would kill the gradient, so
# a softmax with **temperature** tau takes a soft version of it.
#
# **Predict:** will the second row be uniform?

# %%
rng = torch.Generator().manual_seed(0)
tau = 1.0
gumbel = -torch.empty(2, 3).exponential_(generator=rng).log()  # (N, K)
assignment = ((logits + gumbel) / tau).softmax(-1)  # Z, (N, K)
assignment

# %% [markdown]
# **What to notice.** Both rows sum to 1, and the second row is *not* uniform. Its probabilities
# are; this one draw took a side. That restlessness will turn out to be useful.
#
# The library does the same in `sample_assignment`. Same noise, same matrix:

# %%
from_library = sample_assignment(logits, tau, generator=torch.Generator().manual_seed(0))
print("largest difference:", (from_library - assignment).abs().max().item())

# %% [markdown]
# ## 1.2 What tau changes, and what it leaves alone
#
# **Predict before you run:** does task 0 choose group 0 *more often* at tau = 0.1 than at 10?

# %%
for tau in (0.1, 1.0, 10.0):
    draws = sample_assignment(logits.repeat(5_000, 1), tau, generator=rng).reshape(-1, 2, 3)
    wins = (draws.argmax(-1)[:, 0] == 0).float().mean()  # task 0
    largest = draws.amax(-1).mean()
    print(f"tau = {tau:4}:  group 0 wins {wins:.0%} of the draws,  largest entry {largest:.2f}")

# %% [markdown]
# **What to notice.** How *often* group 0 wins hardly moves. How *sharp* a draw is changes
# completely: nearly one-hot at 0.1, nearly uniform at 10. The paper trains CelebA at tau = 2.5.
#
# Try it by hand. Move the slider with the mouse or the arrow keys: the noise stays the same, only
# tau changes.

# %%
TauExplorer(logits, seed=0)

# %%
# the same as a still picture, at the paper's temperature
plots.plot_temperature(logits, 2.5, seed=0)

# %% [markdown]
# ### Exercise 1.1
#
# Write `win_rate(row)`: the share of draws that each group wins, without drawing anything.


# %% tags=["exercise"]
def win_rate(row):
    return None  # your turn: one line


# %% tags=["check"]
if win_rate(logits[0]) is None:
    print("1.1 is still open; the rest of the notebook runs without it")
else:
    expected = torch.tensor([0.8438, 0.1142, 0.0420])  # so that the answer is not given away
    torch.testing.assert_close(win_rate(logits[0]), expected, atol=1e-3, rtol=0)
    print("1.1 correct")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def win_rate(row):
    return row.softmax(-1)


# %% [markdown]
# ## 1.3 Where the gradient pushes
#
# Suppose group 0 serves task 0 badly and group 2 serves it well. The loss of every task in every
# group is the **loss matrix**. Multiply it by the assignment, add everything up: that is the whole
# objective of DMTG.
#
# We leave out the noise for a moment, so that the numbers can be checked by hand.

# %%
loss_matrix = torch.tensor([[0.9, 0.6, 0.3], [0.5, 0.5, 0.5]])  # L, (N, K)
free = torch.zeros(2, 3, requires_grad=True)  # S, no preference yet
total = (loss_matrix * sample_assignment(free, tau=1.0, estimator="softmax")).sum()
total.backward()
free.grad

# %% [markdown]
# **What to notice.** Training steps *against* the gradient. Task 0 moves away from group 0
# (positive gradient) and towards group 2 (negative). Task 1 is served equally well everywhere and
# feels nothing.
#
# ### Exercise 1.2
#
# The gradient has a closed form: probability times (own loss minus the task's mean loss under the
# probabilities). Write it.


# %% tags=["exercise"]
def gradient_by_hand(probabilities, loss_matrix):
    return None  # your turn: shapes are (N, K) in, (N, K) out


# %% tags=["check"]
if gradient_by_hand(free.detach().softmax(-1), loss_matrix) is None:
    print("1.2 is still open; the rest of the notebook runs without it")
else:
    torch.testing.assert_close(gradient_by_hand(free.detach().softmax(-1), loss_matrix), free.grad)
    print("1.2 correct")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def gradient_by_hand(probabilities, loss_matrix):
    mean_loss = (probabilities * loss_matrix).sum(-1, keepdim=True)  # (N, 1)
    return probabilities * (loss_matrix - mean_loss)


# %% [markdown]
# ## 1.4 Identical branches: who breaks the tie?
#
# DMTG starts from K *identical copies* of one trained network, so at the first step every column of
# the loss matrix is the same.
#
# **Predict:** what is the gradient of S without noise? And with Gumbel noise?

# %%
tied = torch.tensor([[0.5], [0.7]]).expand(2, 3)  # every group serves task n equally well
for estimator in ("softmax", "gumbel"):
    free = torch.zeros(2, 3, requires_grad=True)
    (tied * sample_assignment(free, 2.5, estimator=estimator, generator=rng)).sum().backward()
    print(f"{estimator:8} largest gradient of S: {free.grad.abs().max():.0e}")

# %% [markdown]
# Zero, or what rounding leaves of zero, in *both* cases. So noise does not push S directly. What
# else can it do? It hands the branches different mixtures of tasks to learn from, and so their
# **weights** part.
#
# Let us watch a real, small network: nine tasks on drawn faces, trained for 120 steps.

# %%
faces = data.toy_faces(n_tasks=9, n_groups=3, size=16, seed=0)
config = TrainConfig(encoder="toy", tau=2.5, lr=3e-3, lr_assignment=3e-2, pretrain=100, steps=120)
naive, _ = pretrain(faces, config)  # Naive MTL: one encoder for all nine tasks


# %%
def watch(estimator):
    """Distance between branch 0 and 1, and spread of S, after each step: shape (steps, 2)."""
    settings = TrainConfig(
        encoder="toy", estimator=estimator, lr=3e-3, lr_assignment=3e-2, steps=120
    )
    network, rows = branch_out(naive, 3, settings), []
    for _ in train_steps(network, faces, settings):
        weights = ([p.flatten() for p in b.parameters()] for b in network.branches[:2])
        first, second = map(torch.cat, weights)
        spread = network.assignment.logits.detach().std(-1).max()
        rows.append([(first - second).norm().item(), spread.item()])
    return np.array(rows)


# %%
seen = {estimator: watch(estimator) for estimator in ("softmax", "gumbel")}
for estimator, rows in seen.items():
    for step in (1, 2, 120):
        apart, spread = rows[step - 1]
        print(f"{estimator:8} step {step:3}: branches apart by {apart:.4f}, S by {spread:.4f}")

# %% [markdown]
# **What to notice.** Without noise nothing happens: the branches stay equal to the last bit. With
# noise they differ after step 1, so their losses differ at step 2, and S has something to follow.
# (S stirs a little at step 1 too: Adam divides a gradient by its own size, and so blows up even
# rounding errors.)
#
# The noise that breaks the tie also decides *which* branch gets which tasks.

# %%
fig = go.Figure()
for (estimator, rows), dash in zip(seen.items(), ("dash", "solid"), strict=True):
    fig.add_scatter(y=rows[:, 0], name=estimator, line={"dash": dash, "width": 3})
fig.update_layout(template="plotly_white", height=320, margin_t=30)
fig.update_layout(xaxis_title="step", yaxis_title="distance between two branches")

# %% [markdown]
# ## 1.5 Settled is not pruned
#
# At the end of training a task may have probability 0.99 for its group. Does the group then carry
# 99 % of the task's loss? `compute_mean_assignment` averages many draws.
#
# **Predict:** at tau = 2.5, is the winner's mean weight above or below its probability?

# %%
gaps, taus = (3, 5, 10), (1.0, 2.5, 4.0)
table = pd.DataFrame(index=pd.Index(gaps, name="lead of the winner in S"))
rows = torch.tensor([[[gap, 0.0, 0.0]] for gap in gaps]).softmax(-1).numpy()  # (3, N=1, K=3)
table["softmax(S)"] = rows[:, 0, 0]
for tau in taus:
    table[f"E[Z], tau {tau}"] = compute_mean_assignment(rows, tau, n_draws=20_000)[:, 0, 0]
table.round(2)

# %% [markdown]
# **What to notice.** A lead of 5 means probability 0.99, but at tau 2.5 only about three quarters
# of the weight: the rest still trains the other branches. Softmax(S) says who *wins* a draw, E[Z]
# says who gets *trained*. The live view of notebook 0 can show either.
#
# ### Exercise 1.3
#
# Which whole-number lead gives the winner at least 0.9 of the weight at tau = 2.5? Try values.

# %% tags=["exercise"]
lead = None  # your turn: a whole number


# %% tags=["check"]
def weight(lead):
    row = torch.tensor([[lead, 0.0, 0.0]]).softmax(-1).numpy()
    return compute_mean_assignment(row, 2.5, n_draws=20_000)[0, 0]


if lead is None:
    print("1.3 is still open; the rest of the notebook runs without it")
else:
    own = weight(lead)
    assert own >= 0.9 > weight(lead - 1), f"a lead of {lead} gives {own:.2f}: try on"
    print("1.3 correct")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
lead = 8

# %% [markdown]
# ## 1.6 Can S get there in time?
#
# Probability p needs a lead of ln((K-1) p / (1-p)). Adam moves an entry of S by about its learning
# rate per step, the winner up and the others down.
#
# **Predict:** how many steps does p = 0.98 take with K = 3, at learning rate 0.0008 (the paper's)
# and at 0.03?


# %%
def count_steps(lr, p=0.98):
    """Steps of Adam until group 0 has probability p, under losses that always favour group 0."""
    free, losses, steps = torch.zeros(1, 3, requires_grad=True), torch.tensor([[0.0, 1.0, 1.0]]), 0
    optimiser = torch.optim.Adam([free], lr=lr)
    while free.softmax(-1)[0, 0] < p:
        optimiser.zero_grad()
        (losses * free.softmax(-1)).sum().backward()
        optimiser.step()
        steps += 1
    return steps


# %%
needed = float(np.log(2 * 0.98 / 0.02))
print(f"lead needed: {needed:.1f}")
for lr in (8e-4, 3e-2):
    print(f"lr {lr}: at least {needed / (2 * lr):.0f} steps by the rule, {count_steps(lr)} counted")

# %% [markdown]
# **What to notice.** Even with losses that never waver, the paper's rate needs thousands of steps.
# In a run of 900 steps, S could not settle; so our small presets give S its own rate,
# `lr_assignment`.
#
# **The budget rule:** learning rate of S times steps must be far above ln((K-1) p / (1-p)).
#
# ### Exercise 1.4
#
# The paper trains 100 epochs over 162,770 images in batches of 256. Compute its lr x steps.

# %% tags=["exercise"]
budget = None  # your turn: learning rate 8e-4 times the number of steps

# %% tags=["check"]
if budget is None:
    print("1.4 is still open; the rest of the notebook runs without it")
else:
    assert abs(budget - 50.8) < 0.2, f"got {budget}; an epoch is 162,770 / 256 steps"
    print(f"1.4 correct: a budget of {budget:.0f} against a lead of {needed:.1f}")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
budget = 8e-4 * 100 * (162_770 // 256)

# %% [markdown]
# ## You can now
#
# - draw a relaxed assignment by hand, and say what tau changes (sharpness) and what not (who wins);
# - explain why identical branches need noise, and that it acts through the weights first;
# - tell softmax(S) from E[Z], and check whether a run gives S enough steps to settle.
#
# **Next:** [2 · One network, K branches](02_grouped_network.ipynb)
