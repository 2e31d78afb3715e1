"""Presets: what the paper states, and what works on a CPU in seconds. Nothing here trains."""

from __future__ import annotations

from dataclasses import replace

from dmtg_lite.core.config import HeadOptions, Spare, TrainConfig

_PAPER = TrainConfig(schedule="plateau", epochs=100, pretrain=100)
_CELEBA = replace(_PAPER, batch_size=256)
_TASKONOMY = replace(_PAPER, tau=4.0, lr=1e-4, batch_size=16, encoder="xception", shared=6)
PAPER = {
    "celeba9": _CELEBA,
    "celeba40": _CELEBA,
    "taskonomy5": _TASKONOMY,
    "taskonomy5_vit": replace(_TASKONOMY, encoder="vit_base", shared=7),
}
"""What the paper states (section 4.1): S = 1/K, one Gumbel draw a step, Adam on weights and S
alike, fixed tau, plateau decay by 0.5, 100 epochs from pretrained Naive MTL weights, argmax at the
end.

Where the paper is silent we had to choose: batches of 256, as in the released code; 100 epochs of
pretraining; patience 3 and any improvement counted for the plateau, in pretraining too; whole
batches only; the weights of the last step, where the released code keeps the checkpoint of the best
losses. Rates and Adam's averages start afresh after pretraining, while Naive MTL and STL train
pretraining and main steps in one go; random and planted groups start from the pretrained weights,
as DMTG does.

Where the released code differs from the paper on CelebA: it halves the rate every 15 epochs
(``schedule="multistep"``), trains Naive MTL with SGD at 5e-4, and starts its runs without Naive MTL
weights; the FLOPs of Table A1 fit ``shared=1``.

On Taskonomy the paper is silent about batches (16, within the released code's 12 to 24) and about
what its main table shares: the first 6 stages, since Table 6 gives its numbers for that, and the
released code's ViT shares as many blocks (``shared=7``: the patches come first). There the released
code has a rate of 1e-3, and SGD at 0.1 for Naive MTL; ``scale_gradients`` (with the wrong n between
branch and heads); the tolerant l1 on depth and normals (`core.tasks.make_tolerant`); and a plateau
of training loss. Its labels are not what they should be (class ids blended by resizing, 16-bit
values scaled away, missing ones replaced by the view before), so the absolute numbers of Tables 1
and 2 are no target: see the docs."""

_PLAIN = TrainConfig(
    encoder="toy", capacity=1, lr=3e-3, lr_assignment=3e-2, pretrain=300, steps=900
)
_SPARE = replace(
    _PLAIN,
    pretrain=100,
    spare=Spare(branches="double"),
    heads=HeadOptions(train_all=True),
    optimiser_assignment="sgd",
    lr_assignment=6.0,
)

TOY = {
    "faces": _SPARE,
    "independent": replace(_SPARE, heads=HeadOptions(hidden=32, train_all=True)),
    "separate": replace(_SPARE, batch_size=128),
    "planes": replace(_SPARE, capacity=2),
    "digits": replace(_PLAIN, pretrain=200, steps=600, capacity=2),
    "rooms": replace(_PLAIN, encoder="xception_small", batch_size=16, pretrain=200, steps=400),
    "faces_plain": _PLAIN,
}
"""What works on a CPU in seconds.

``"faces_plain"`` is the paper's optimiser: one Adam for weights and S. A few hundred steps are too
few for a single learning rate, since Adam moves S by at most the rate per step, so S has its own,
ten times larger. It finds the planted groups in some seeds only.

``"faces"`` opens twice as many branches and closes one after another, the one that is missed least
(see `runs.spare`). Its S moves by SGD, its heads all learn from every batch, and it
branches out after 100 steps: an encoder that has long served all tasks has settled on some of them.
All of this is ours.

``"rooms"`` is the paper's optimiser again, with the small Xception: about two minutes on one core,
most of them spent in the 15 decoders.

The others are for `toy_faces(labels="independent")`, `toy_faces(labels_per_image=1, n_train=4000)`,
`toy_faces(labels="planes")` and the digits, which do better without spare branches."""
