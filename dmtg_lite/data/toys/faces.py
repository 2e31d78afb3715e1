"""Drawn faces with planted groups: each group of tasks looks at one part of the face, or at two.

A face is a handful of soft shapes painted with numpy. No photograph is involved, and the tasks are
named after what is drawn: they are not CelebA's attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.toys.drawing import Canvas, mix

SIZES = (16, 32, 64)
Labels: TypeAlias = Literal["cuts", "independent", "planes"]
CHUNK = 128  # faces painted at once: their float32 pixels stay in the cache
PerPart: TypeAlias = dict[str, np.ndarray]  # by the part's noun, (n,)
SKULL = (0, -0.04, 0.60, 0.74)
PIXEL_NOISE = 0.025  # standard deviation, in units of full brightness


@dataclass(frozen=True, slots=True)
class Part:
    """One visible thing that a latent drives; task names are e.g. ``dark_hair``, ``light_hair``."""

    noun: str
    low: str
    high: str
    rest: float  # how much of it a face shows when no group uses the part, 0 to 1


# Latent p drives part p. Sizes and contrasts in `_paint` are set so that moving u changes the
# picture about equally for every part: otherwise a shared encoder serves the most visible group
# every time.
PARTS = (
    Part("hair", "dark", "light", rest=0.3),
    Part("moustache", "thin", "full", rest=0.0),
    Part("cheeks", "pale", "red", rest=0.15),
    Part("hat", "flat", "tall", rest=0.0),
    Part("shirt", "dark", "bright", rest=0.6),
    Part("mouth", "closed", "open", rest=0.1),
    Part("glasses", "fine", "bold", rest=0.0),
    Part("eyebrows", "fine", "thick", rest=0.4),
    Part("earrings", "small", "big", rest=0.0),
    Part("bow_tie", "narrow", "broad", rest=0.0),
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A binary task on the group's latent u: is u above the cut (``is_above``) or below it?

    With several thresholds the answer changes at each of them. With several ``weights`` the group
    has as many latents, and u stands for their weighted sum.
    """

    name: str
    group: int
    thresholds: tuple[float, ...]
    is_above: bool
    weights: tuple[float, ...] = (1.0,)


@sealed()
def toy_faces(
    n_tasks: int = 9,
    n_groups: int = 3,
    *,
    size: int = 32,
    n_train: int = 2000,
    n_val: int = 300,
    n_test: int = 600,
    labels: Labels = "cuts",
    labels_per_image: int | None = None,
    label_noise: float = 0.02,
    seed: int = 0,
) -> TaskData:
    """Draw N binary tasks about faces, in G planted groups.

    All tasks of a group ask about ONE number u ~ N(0, 1), say how light the hair is, each at its
    own cut; groups are independent. So an encoder that passes on a single number serves one group
    fully and two groups badly: capacity decides whether grouping pays.

    Args:
        n_tasks: N >= 1.
        n_groups: G, from 1 to the smaller of N and 10 (5 for ``"planes"``).
        size: Height and width in pixels: 16, 32 or 64. Labels do not depend on it.
        n_train, n_val, n_test: Images per split, independent draws.
        labels: ``"cuts"`` (`plan_cuts`) gives the groups away, as labels of a group are correlated;
            ``"independent"`` (`plan_bits`) does not, and needs heads that cut a number more than
            once (``HeadOptions(hidden=32)``); ``"planes"`` (`plan_planes`) plants groups that need
            TWO numbers (``TrainConfig(capacity=2)``).
        labels_per_image: A training image carries the labels of this many tasks, drawn for each
            image, and -1 for the others. With 1, no two labels are ever seen together. ``None``:
            all N, as val and test always do.
        label_noise: Share of training labels that are flipped, 0 to 0.5; val and test stay clean.
        seed: Same seed, same data; ``labels`` and ``labels_per_image`` change no image.

    Returns:
        Data with ``planted_groups``; images uint8 (n, 3, size, size), targets int64 (n,).

    Raises:
        ValueError: If an argument is out of range, or a task has no label left.

    Example:
        >>> toy_faces(n_tasks=3, n_groups=3, n_train=10, n_val=1, n_test=1).planted_groups
        [['light_hair'], ['thin_moustache'], ['red_cheeks']]
    """
    if labels not in get_args(Labels):
        raise ValueError(f"`labels` must be one of {get_args(Labels)}, got {labels!r}.")
    plan = {"cuts": plan_cuts, "independent": plan_bits, "planes": plan_planes}[labels]
    cuts = plan(n_tasks, n_groups)
    n_latents = n_groups * len(cuts[0].weights)
    if labels_per_image is not None and not 1 <= labels_per_image <= n_tasks:
        raise ValueError(
            f"`labels_per_image` must be 1 to {n_tasks}, the number of tasks, or None for all of "
            f"them; got {labels_per_image}."
        )
    for name, count in {"n_train": n_train, "n_val": n_val, "n_test": n_test}.items():
        if count < 1:
            raise ValueError(f"`{name}` must be >= 1, got {count}.")
    if not 0 <= label_noise <= 0.5:  # written this way so that NaN is refused too
        raise ValueError(f"`label_noise` must be a share from 0 to 0.5, got {label_noise}.")

    splits = []
    *streams, mask_stream = np.random.default_rng(seed).spawn(4)
    for rng, n, noise in zip(streams, (n_train, n_val, n_test), (label_noise, 0, 0), strict=True):
        # Drawn before anything that depends on the size.
        latents = rng.standard_normal((n, n_latents))
        truth = apply_cuts(latents, cuts) ^ (rng.random((n, n_tasks)) < noise)  # (n, N)
        if labels_per_image is not None and not splits:  # training images only
            place = mask_stream.permuted(np.tile(np.arange(n_tasks), (n, 1)), axis=1)  # (n, N)
            truth[place >= labels_per_image] = -1
        targets = {cut.name: torch.from_numpy(truth[:, i].copy()) for i, cut in enumerate(cuts)}
        splits.append(Split(draw_faces(latents, size=size, seed=rng), targets))
    note = f"Faces drawn by a program ({size} x {size}, seed {seed}); not photographs."
    note += {
        "independent": " All labels are independent coins: only the images tell the groups.",
        "planes": " A group is about two parts of the face.",
    }.get(labels, "")
    if labels_per_image is not None:
        note += f" A training image carries {labels_per_image} of {n_tasks} labels."
    return TaskData(
        "toy_faces",
        tuple(Task(cut.name) for cut in cuts),
        *splits,
        planted_groups=[[cut.name for cut in cuts if cut.group == g] for g in range(n_groups)],
        note=note,
    )


def plan_cuts(n_tasks: int, n_groups: int) -> list[Cut]:
    """Spread N tasks over G groups, and each group's tasks over cuts of its latent.

    A group of three cuts its u ~ N(0, 1) at -0.6, 0 and 0.6. Cuts below 0 ask "less than", cuts
    above ask "more than", and the cut at 0 alternates between groups, so positives are never the
    majority and labels of one group correlate with both signs.

    Returns:
        N cuts in the order of the groups; names are unique, group sizes differ by at most one.
    """
    cuts = []
    for group, size in enumerate(_split_evenly(n_tasks, n_groups)):
        part = PARTS[group]
        reach = 0.6 if size <= 3 else 0.9
        thresholds = np.linspace(-reach, reach, size) if size > 1 else np.zeros(1)
        above = (thresholds > 1e-9) | ((np.abs(thresholds) < 1e-9) & (group % 2 == 0))
        for is_above in (False, True):
            # Strictness counts from the centre outwards: "light" before "very light".
            side = sorted(thresholds[above == is_above], key=abs)
            for level, threshold in enumerate(side):
                word = part.high if is_above else part.low
                name = f"{word}_{part.noun}"
                if len(side) == 2 and level == 1:
                    name = f"very_{name}"
                elif len(side) > 2:
                    name = f"{name}_{level + 1}"
                cuts.append(Cut(name, group, (float(threshold),), is_above))
    return cuts


def plan_bits(n_tasks: int, n_groups: int) -> list[Cut]:
    """Spread N tasks over G groups so that all N labels are independent fair coins.

    With t = Phi(u), uniform from 0 to 1, the tasks of a group are the bits of the Gray code of t:
    the first changes at 1/2 ("light"), the second at 1/4 and 3/4 ("medium": neither dark nor
    light), the third at 1/8, 3/8, 5/8 and 7/8 ("in-between": next to a cut of "medium"). A group of
    three, the largest there can be, cuts t into 8 equal bins, each with its own three bits.
    """
    sizes = _split_evenly(n_tasks, n_groups)
    if max(sizes) > 3:
        raise ValueError(
            f"groups of independent labels hold at most 3 tasks, {n_tasks} tasks in {n_groups} "
            f"groups make {max(sizes)}: a fourth would cut finer than it shows. Use more groups."
        )
    cuts = []
    for group, size in enumerate(sizes):
        for bit, word in enumerate((PARTS[group].high, "medium", "in_between")[:size], 1):
            at = [NormalDist().inv_cdf((2 * i + 1) / 2**bit) for i in range(2 ** (bit - 1))]
            cuts.append(Cut(f"{word}_{PARTS[group].noun}", group, tuple(at), True))
    return cuts


def plan_planes(n_tasks: int, n_groups: int) -> list[Cut]:
    """Spread N tasks over G groups that drive two parts each, by independent u, v ~ N(0, 1).

    A task draws a line through the origin of the plane of (u, v) and asks on which side a face
    lies: cos(a) u + sin(a) v > 0, true of half the faces. A group of m spreads its angles a over
    half a turn in steps of 180/m degrees, as far from the axes as they can be: no task is about one
    part alone. Three ask at 15, 75 ("light hair, full moustache") and 135 degrees ("dark hair, full
    moustache"). No two share a direction, so two of them need both numbers.
    """
    cuts = []
    for group, size in enumerate(_split_evenly(n_tasks, n_groups, parts_each=2)):
        first, second = PARTS[2 * group : 2 * group + 2]
        # From u's axis on, half a step to the first line. For an odd number that would put the
        # middle line on v's axis; a quarter step leaves a quarter at either axis.
        start = 1 / 4 if size % 2 else 1 / 2
        angles = (np.arange(size) + start) * np.pi / size
        sides = {first.high: angles[angles < np.pi / 2], first.low: angles[angles > np.pi / 2]}
        for word, side in sides.items():
            for level, angle in enumerate(side, 1):
                name = f"{word}_{first.noun}_{second.high}_{second.noun}"
                name += f"_{level}" if len(side) > 1 else ""
                weights = (float(np.cos(angle)), float(np.sin(angle)))
                cuts.append(Cut(name, group, (0.0,), True, weights))
    return cuts


def _split_evenly(n_tasks: int, n_groups: int, *, parts_each: int = 1) -> list[int]:
    """Sizes of G groups of N tasks; the larger ones come first."""
    if n_tasks < 1:
        raise ValueError(f"`n_tasks` must be >= 1, got {n_tasks}.")
    most = len(PARTS) // parts_each
    if not 1 <= n_groups <= most:
        raise ValueError(
            f"`n_groups` must be 1 to {most}, got {n_groups}: "
            f"a face has {len(PARTS)} parts and a group drives {parts_each}."
        )
    if n_groups > n_tasks:
        raise ValueError(
            f"`n_groups` must be at most `n_tasks`: {n_groups} groups for {n_tasks} tasks. "
            "Every group needs at least one task."
        )
    return [len(rows) for rows in np.array_split(np.arange(n_tasks), n_groups)]


def apply_cuts(latents: np.ndarray, cuts: list[Cut]) -> np.ndarray:
    """The true labels of latents (n, G or 2 G) under N cuts: int64, shape (n, N), 0 or 1."""
    columns = []
    for cut in cuts:
        by_group = latents.reshape(len(latents), -1, len(cut.weights))
        own = by_group[:, cut.group]  # (n, latents of a group)
        u = (own * cut.weights).sum(1, keepdims=True)  # (n, 1)
        passed = (u > np.array(cut.thresholds)).sum(1)  # (n,), how many lie below u
        columns.append(passed % 2 == cut.is_above)
    return np.stack(columns, 1).astype(np.int64)


def draw_faces(
    latents: np.ndarray, *, size: int = 32, seed: int | np.random.Generator = 0
) -> torch.Tensor:
    """Draw one face per row of latents, uint8 (n, 3, size, size).

    Skin, background, the style of each part (hue of the hair, goatee, colour of the hat), a shift
    of one pixel and pixel noise are nuisance: an encoder has to learn to look past them.

    Args:
        latents: Shape (n, P), P at most ``len(PARTS)``; useful from about -2 to 2. Column p drives
            part p, and parts beyond P rest.
        size: Height and width in pixels: 16, 32 or 64.
        seed: Seed or generator of the nuisance.
    """
    latents = np.asarray(latents, dtype=np.float32)
    if latents.ndim != 2 or not 1 <= latents.shape[1] <= len(PARTS):
        raise ValueError(f"`latents` must have shape (n, 1 to {len(PARTS)}), got {latents.shape}.")
    if size not in SIZES:
        raise ValueError(f"`size` must be one of {SIZES} pixels, got {size}.")
    rng = np.random.default_rng(seed)
    n, n_latents = latents.shape
    amounts = np.tile(np.array([part.rest for part in PARTS], np.float32), (n, 1))  # (n, parts)
    amounts[:, :n_latents] = 1 / (1 + np.exp(-1.7 * latents))  # near the normal CDF: about uniform
    styles = rng.random((n, len(PARTS)), dtype=np.float32)
    scenery = rng.random((n, 4), dtype=np.float32)
    step = max(1, size // 32)  # one pixel at 32, the same distance at 64
    shifts = step * rng.integers(0, 3, (n, 2))  # 0 to 2 steps into a canvas that is 2 steps larger
    faces = np.empty((n, 3, size, size), np.uint8)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        canvas = _paint(amounts[rows], styles[rows], scenery[rows], size, step)
        for face, picture, (top, left) in zip(faces[rows], canvas, shifts[rows], strict=True):
            noise = rng.standard_normal(face.shape, dtype=np.float32) * PIXEL_NOISE
            pixels = picture[:, top : top + size, left : left + size] + noise
            face[...] = (pixels * 255 + 0.5).clip(0, 255)
    return torch.from_numpy(faces)


def _paint(
    amounts: np.ndarray, styles: np.ndarray, scenery: np.ndarray, size: int, margin: int
) -> np.ndarray:
    """Paint faces from back to front: float32, shape (n, 3, size + 2 margin, size + 2 margin)."""
    pixel = 2 / size
    axis = ((np.arange(-margin, size + margin) + 0.5) * pixel - 1).astype(np.float32)
    # A pastel hue, a little darker towards the bottom; the face fills -1 to 1.
    hue = scenery[:, :1] * 2 * np.pi + np.array([0, 2.1, 4.2], np.float32)
    pastel = 0.66 + 0.16 * np.cos(hue) + 0.12 * (scenery[:, 1:2] - 0.5)
    pixels = pastel[:, :, None, None] * (0.97 - 0.07 * axis[:, None]) * np.ones_like(axis)
    canvas = Canvas(axis, axis, np.ascontiguousarray(pixels, np.float32), pixel=pixel)
    amount = {part.noun: own for part, own in zip(PARTS, amounts.T, strict=True)}
    style = {part.noun: own for part, own in zip(PARTS, styles.T, strict=True)}
    skin = mix((0.98, 0.84, 0.73), (0.68, 0.48, 0.37), scenery[:, 2])
    light = mix((0.98, 0.87, 0.58), (0.95, 0.70, 0.48), style["hair"])  # blond to strawberry
    hair = mix((0.13, 0.09, 0.08), light, 0.18 + 0.42 * amount["hair"])
    _paint_head(canvas, amount, style, skin, hair)
    _paint_features(canvas, amount, style, scenery[:, 3], hair)
    return canvas.pixels


def _paint_head(
    canvas: Canvas, amount: PerPart, style: PerPart, skin: np.ndarray, hair: np.ndarray
) -> None:
    """Hair behind, body, ears, and a face without features but cheeks and nose."""
    paint, ellipse, y, side = canvas.paint, canvas.ellipse, canvas.y, canvas.side
    shade = skin * np.array([0.86, 0.80, 0.78], np.float32)[:, None, None]
    silk = mix((0.55, 0.10, 0.20), (0.12, 0.12, 0.15), style["bow_tie"])
    metal = mix((0.98, 0.80, 0.20), (0.85, 0.90, 0.98), style["earrings"])
    cloth = mix((0.80, 0.92, 0.98), (0.98, 0.90, 0.78), style["shirt"])
    shirt = mix((0.13, 0.18, 0.34), cloth, 0.2 + 0.5 * amount["shirt"])
    paint(hair, 1, (ellipse(*SKULL), 0), (y - 0.10, 0), _under_hat(canvas, amount))
    paint(shade, 1, (np.maximum(side - 0.20, np.abs(y - 0.75) - 0.25), 0))  # neck
    paint(shirt, 1, (ellipse(0, 1.34, 0.92, 0.62), 0))
    paint(shade, 1, (ellipse(0.55, 0.12, 0.09, 0.14), 0))  # ears
    rings = (canvas.pill(0.61, 0.36, 0), 0.01 + 0.145 * amount["earrings"])
    paint(metal, amount["earrings"] > 0, rings)
    width = 0.04 + 0.30 * amount["bow_tie"]
    paint(silk, amount["bow_tie"] > 0, (side, width), (np.abs(y - 0.86) - 0.05 - 0.25 * side, 0))
    paint(skin, 1, (ellipse(0, 0.14, 0.53, 0.66), 0))
    blush = mix((0.90, 0.12, 0.16), (0.92, 0.18, 0.34), style["cheeks"])
    paint(blush, amount["cheeks"], (ellipse(0.31, 0.32, 0.20, 0.18), 0), blur=0.12)
    paint(shade, 0.9, (ellipse(0, 0.24, 0.075, 0.11), 0))  # nose


def _paint_features(
    canvas: Canvas, amount: PerPart, style: PerPart, eyes: np.ndarray, hair: np.ndarray
) -> None:
    """Mouth, beard, eyes, glasses, the fringe and the hat."""
    paint, ellipse, pill, y, side = canvas.paint, canvas.ellipse, canvas.pill, canvas.y, canvas.side
    dark = mix((0.11, 0.07, 0.07), (0.30, 0.15, 0.10), style["moustache"])
    felt = mix((0.20, 0.32, 0.60), (0.66, 0.18, 0.24), style["hat"])
    frame = mix((0.10, 0.10, 0.12), (0.50, 0.12, 0.16), style["glasses"])
    lips = mix((0.76, 0.34, 0.34), (0.64, 0.20, 0.24), style["mouth"])
    paint(lips, 1, (pill(0, 0.59, 0.13), 0.045 + 0.09 * amount["mouth"]))
    paint(lips * 0.3, 1, (pill(0, 0.59, 0.12), 0.005 + 0.09 * amount["mouth"]))
    paint(dark, amount["moustache"], (pill(0, 0.43, 0.22), 0.085))
    has_goatee = (amount["moustache"] > 0) * (style["moustache"] > 0.5)
    paint(dark, has_goatee, (ellipse(0, 0.75, 0.11, 0.07), 0))
    paint(np.float32(1), 1, (ellipse(0.22, 0.06, 0.12, 0.085), 0))
    iris = mix((0.22, 0.38, 0.55), (0.25, 0.16, 0.10), eyes)
    paint(iris, 1, (pill(0.22, 0.06, 0), 0.062))
    paint(dark, 1, (pill(0.22, -0.15, 0.12), 0.005 + 0.09 * amount["eyebrows"]))
    rims = np.abs(ellipse(0.23, 0.07, 0.20, 0.18))
    bridge = np.maximum(np.abs(y - 0.03), side - 0.05)
    bold = 0.005 + 0.045 * amount["glasses"]
    paint(frame, amount["glasses"] > 0, (np.minimum(rims, bridge), bold))
    fringe = (y + 0.38 - 0.50 * side**2, 0)
    paint(hair, 1, (ellipse(*SKULL), 0), fringe, _under_hat(canvas, amount))
    crown = (-0.54 - y, 0.14 + 0.20 * amount["hat"])
    paint(felt, amount["hat"] > 0, (side - 0.50, 0), (y + 0.54, 0), crown)
    brim = np.maximum(side - 0.74, np.abs(y + 0.51) - 0.06)
    paint(felt * 0.75, amount["hat"] > 0, (brim, 0))


def _under_hat(canvas: Canvas, amount: PerPart) -> tuple[np.ndarray, np.ndarray]:
    """Where hair may be: nothing sticks out above the brim."""
    return -0.54 - canvas.y, np.where(amount["hat"] > 0, 0, 2)
