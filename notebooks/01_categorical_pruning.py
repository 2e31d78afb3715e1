# %% [markdown]
# # 1 · Choosing a group, with a gradient
#
# **Question.** Each task has to pick one of K groups. Picking is all or nothing, but training wants
# small steps downhill. How can you train a *choice*?
#
# *15 minutes · CPU · no download · helps to have seen notebook 0*

# %% [markdown] tags=["picture"]
# ![What it shows: 1 · Choosing a group, with a gradient](img/01_categorical_pruning.png)
#
# *From a real run. [How it looks when run](img/README.md)*

# %% tags=["setup"]
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from dmtg_lite import TrainConfig, branch_out, data, pretrain, sample_assignment, train_steps, views
from dmtg_lite.course import check, show_line

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
# Now the trick, the paper's equation 5. Add **Gumbel noise** g to the logits: the largest sum then
# falls on group k exactly as often as softmax(S) says. Taking the largest would kill the gradient,
# so a softmax with **temperature** tau takes a soft version of it:
#
# $$z_{ik} = \frac{\exp((s_{ik} + g_{ik})/\tau)}{\sum_m \exp((s_{im} + g_{im})/\tau)}$$
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
# The library does the same in `sample_assignment`. Same noise, same matrix, and the line that is
# the equation:

# %%
from_library = sample_assignment(logits, tau, generator=torch.Generator().manual_seed(0))
print("largest difference:", (from_library - assignment).abs().max().item())
show_line("core/assignment.py", "relaxed = ((logits + ", equation=5)

# %% [markdown]
# A picky reader wants a choice with nothing soft about it. Equation 2 says what that is: each row
# of Z has a single 1, $\sum_k z_{ik} = 1$ with $z_{ik} \in \{0, 1\}$. Equation 3 says how often
# group k gets it: $z_{ik} \sim \mathrm{Categorical}(s_{ik})$.
#
# (There the paper calls S a probability, in equation 5 it uses S as logits. The library's S are
# logits; softmax(S) are the probabilities.)

# %%
show_line("core/assignment.py", "one_hot = torch.zeros_like(relaxed)", equation=2)
show_line("core/assignment.py", "return self.masked_logits().detach().softmax(-1)", equation=3)
sample_assignment(logits, tau, estimator="straight_through", generator=rng)  # rounded draws

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
views.TauExplorer(logits, seed=0)

# %% [markdown]
# ### Exercise 1.1 · read
#
# No cell has tried tau = 7. Which share of its draws will *group 1* win for task 0 there? A number
# above says it already. Give it as a share between 0 and 1, with two decimals.

# %% tags=["exercise", "read"]
share = None  # your turn: a number

# %% tags=["check"]
check("1.1", share, sealed="number:14bf49eab0", digits=2)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
share = logits.softmax(-1)[0, 1]  # tau does not matter

# %% [markdown]
# ## 1.3 Where the gradient pushes
#
# Suppose group 0 serves task 0 badly and group 2 serves it well. The loss of every task in every
# group is the **loss matrix** L. Multiply it by the draw, entry by entry, and add up. That is the
# whole objective of DMTG, equation 6: $L(\theta) \odot \tilde Z(S)$.
#
# Leave out the noise for a moment, so that you can check the numbers by hand.

# %%
loss_matrix = torch.tensor([[0.9, 0.6, 0.3], [0.5, 0.5, 0.5]])  # L, (N, K)
free = torch.zeros(2, 3, requires_grad=True)  # S, no preference yet
total = (loss_matrix * sample_assignment(free, tau=1.0, estimator="softmax")).sum()
total.backward()
show_line("core/objective.py", "total = (loss_matrix * assignment)", equation=6)
free.grad

# %% [markdown]
# **What to notice.** Training steps *against* the gradient. Task 0 moves away from group 0
# (positive gradient) and towards group 2 (negative). Task 1 is served equally well everywhere and
# feels nothing.
#
# ### Exercise 1.2 · invent
#
# Write this gradient without autograd. Start from one entry: what does S[n, k] do to the
# probabilities of row n? You need the probability, the loss, and the task's *mean* loss under its
# probabilities.


# %% tags=["exercise", "invent"]
def gradient_by_hand(probabilities, loss_matrix):
    return None  # your turn: shapes are (N, K) in, (N, K) out


# %% tags=["check"]
def test(gradient_by_hand):
    pushed = torch.randn(4, 3, generator=rng).requires_grad_()
    losses = torch.rand(4, 3, generator=rng)
    (losses * pushed.softmax(-1)).sum().backward()  # autograd
    found = gradient_by_hand(pushed.detach().softmax(-1), losses)
    assert found.shape == (4, 3), "a number for every task and group is asked for"
    assert found.sum(-1).abs().max() < 1e-5, "adding 1 to a whole row of S changes nothing: sums?"
    assert torch.allclose(found, pushed.grad, atol=1e-5), "rows sum to 0, but autograd differs"


check("1.2", gradient_by_hand, test)


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def gradient_by_hand(probabilities, loss_matrix):
    mean_loss = (probabilities * loss_matrix).sum(-1, keepdim=True)  # (N, 1)
    return probabilities * (loss_matrix - mean_loss)


# hidden test
even = torch.full((1, 2), 0.5)
assert gradient_by_hand(even, torch.tensor([[1.0, 0.0]])).tolist() == [[0.25, -0.25]]

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
# Watch a real, small network: nine tasks on drawn faces, trained for 120 steps.

# %%
faces = data.toy_faces(n_tasks=9, n_groups=3, size=16, seed=0)
config = TrainConfig(encoder="toy", tau=2.5, lr=3e-3, lr_assignment=3e-2, pretrain=100, steps=120)
naive, _ = pretrain(faces, config)  # Naive MTL: one encoder for all nine tasks


# %%
def watch(estimator):
    """Distance of the two branches furthest apart, and spread of S, by step: shape (steps, 2)."""
    settings = TrainConfig(
        encoder="toy", estimator=estimator, lr=3e-3, lr_assignment=3e-2, steps=120
    )
    network, rows = branch_out(naive, 3, settings), []
    for _ in train_steps(network, faces, settings):
        weights = [torch.cat([p.flatten() for p in b.parameters()]) for b in network.branches]
        apart = torch.pdist(torch.stack(weights)).max()  # any two: one alone may leave the others
        spread = network.assignment.logits.std(-1).max()
        rows.append([apart.item(), spread.item()])
    return np.array(rows)


# %%
seen = {estimator: watch(estimator) for estimator in ("softmax", "gumbel")}
fig = go.Figure()
for (estimator, rows), dash in zip(seen.items(), ("dash", "solid"), strict=True):
    for step in (1, 2, 120):
        apart, spread = rows[step - 1]
        print(f"{estimator:8} step {step:3}: branches apart by {apart:.4f}, S by {spread:.4f}")
    fig.add_scatter(y=rows[:, 0], name=estimator, line={"dash": dash, "width": 3})
fig.update_layout(xaxis_title="step", yaxis_title="largest distance of branches")
views.plots.apply_style(fig, height=320)

# %% [markdown]
# **What to notice.** With noise the branches differ after step 1, so their losses differ at step 2,
# and S has something to follow. Without noise they stay equal for a dozen steps or more; in exact
# numbers, for ever. They part after all by rounding: Adam divides a gradient by its own size, and
# so blows up even the last bit. That is luck.
#
# The noise that breaks the tie also decides *which* branch gets which tasks.

# %% [markdown]
# ## 1.5 Settled is not pruned
#
# At the end of training a task may have probability 0.99 for its group. Does the group then carry
# 99 % of the task's loss? Average many draws: that is E[Z].
#
# **Predict:** at tau = 2.5, is the winner's mean weight above or below its probability?


# %%
def mean_weight(lead, tau):
    """E[Z] of a winner that leads by so much in S, over 20,000 draws."""
    row, same = torch.tensor([[lead, 0.0, 0.0]]), torch.Generator().manual_seed(0)
    return sample_assignment(row.repeat(20_000, 1), tau, generator=same)[:, 0].mean().item()


leads = pd.Index([3, 5, 10], name="lead of the winner in S")
table = pd.DataFrame({"softmax(S)": [np.exp(x) / (np.exp(x) + 2) for x in leads]}, index=leads)
for tau in (1.0, 2.5, 4.0):
    table[f"E[Z], tau {tau}"] = [mean_weight(lead, tau) for lead in leads]
table.round(2)

# %% [markdown]
# **What to notice.** A lead of 5 means probability 0.99, but at tau 2.5 only about three quarters
# of the weight: the rest still trains the other branches. Softmax(S) says who *wins* a draw, E[Z]
# who gets *trained*. The live view shows either.
#
# ### Exercise 1.3 · change
#
# Alter the first line and run: which is the smallest whole-number lead that gives the winner 0.9 of
# the weight at tau = 2.5?

# %% tags=["exercise", "change"]
lead = 5  # your turn: alter this number
print(f"the winner has {mean_weight(lead, tau=2.5):.3f} of the weight")


# %% tags=["check"]
def test(lead):
    assert lead == int(lead), "a whole number is asked for"
    assert mean_weight(lead, 2.5) >= 0.9, f"a lead of {lead} is not enough"
    assert mean_weight(lead - 1, 2.5) < 0.9, f"a lead of {lead} is enough, and so is a smaller one"


check("1.3", lead, test, given=5)

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
# **What to notice.** Even with losses that never waver, the paper's rate needs thousands of steps:
# in 900, S cannot settle. So the small presets give S its own rate, `lr_assignment`.
#
# **The budget rule:** learning rate of S times steps must be far above ln((K-1) p / (1-p)).
#
# ### Exercise 1.4 · read
#
# The paper trains 100 epochs over 162,770 images in batches of 256. What is its budget, to the
# nearest whole number?

# %% tags=["exercise", "read"]
budget = None  # your turn: a number

# %% tags=["check"]
check("1.4", budget, sealed="number:0711bab3ef", note="Compare it with the lead.")

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
