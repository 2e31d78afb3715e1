"""Drawn faces on which CelebA's attributes can be seen: pictures for a fake CelebA, not CelebA.

One call draws one face from 40 labels; 39 of them show (Attractive is a judgement and is left
out). Writing them in CelebA's file formats is `fake_celeba_files`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dmtg_lite.data.celeba.images import HEIGHT, WIDTH
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.toys.drawing import SCALE, Canvas, Colour, dark, light, mirror, mix, smooth

if TYPE_CHECKING:
    from PIL import Image

_SKIN = [
    (246, 208, 182),
    (238, 193, 162),
    (226, 176, 142),
    (206, 152, 116),
    (170, 116, 84),
    (124, 82, 60),
]
_SKIN_ODDS = [0.26, 0.28, 0.2, 0.12, 0.08, 0.06]
_PALE = (253, 238, 230)
_HAIR = {
    "Black_Hair": (34, 29, 33),
    "Brown_Hair": (92, 62, 42),
    "Blond_Hair": (232, 198, 122),
    "Gray_Hair": (172, 174, 180),
}
_OTHER_HAIR = [
    (164, 72, 42),
    (188, 100, 58),
    (136, 58, 48),
]  # none of the four colours: shades of red
_IRIS = [(84, 56, 36), (64, 44, 32), (74, 112, 138), (88, 116, 78)]
_BACKGROUND = [
    (203, 218, 230),
    (222, 214, 200),
    (196, 214, 202),
    (226, 204, 204),
    (206, 200, 222),
    (176, 190, 204),
    (236, 226, 206),
    (150, 168, 186),
]
_CLOTHES = [
    (52, 72, 110),
    (132, 52, 62),
    (66, 96, 84),
    (88, 84, 100),
    (200, 148, 80),
    (176, 96, 116),
    (58, 58, 66),
]
_LIPSTICK = [(190, 28, 52), (206, 52, 92), (164, 24, 62)]
_EYE_SHADOW = [(120, 84, 150), (84, 110, 160), (150, 92, 84)]
_HATS = [(46, 62, 98), (142, 46, 46), (60, 92, 72), (196, 160, 104), (70, 66, 74)]


def draw_face(labels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Draw one face that shows its labels: RGB, 178 x 218, eyes where CelebA has them.

    Args:
        labels: 0/1, shape (40,), in the official order; contradictions are drawn as a compromise.
        rng: Decides what the labels leave open: skin, eyes, clothes, background, proportions.

    Returns:
        A Pillow image. The same labels and generator state give the same picture.
    """
    from PIL import Image, ImageFilter

    has = dict(zip(NAMES, np.asarray(labels, bool).tolist(), strict=True))
    paper = _BACKGROUND[rng.integers(len(_BACKGROUND))]
    look = _Look(has, rng)
    canvas = Canvas(light(paper, 0.25), dark(paper, 0.22))
    _draw_back_hair(canvas, look)
    _draw_body(canvas, look)
    _draw_head(canvas, look)
    _draw_beard(canvas, look)
    _draw_mouth(canvas, look)
    _draw_nose(canvas, look)
    _draw_eyes(canvas, look)
    _draw_front_hair(canvas, look)
    _draw_extras(canvas, look)
    image = canvas.image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return image.filter(ImageFilter.GaussianBlur(2.6)) if has["Blurry"] else image


class _Look:
    """Measures and colours of one person, in final pixels from the point between the eyes."""

    def __init__(self, has: dict[str, bool], rng: np.random.Generator) -> None:
        self.has = has
        skin = _SKIN[rng.choice(len(_SKIN), p=_SKIN_ODDS)]
        self.skin = _PALE if has["Pale_Skin"] else skin
        self.shade = mix(dark(self.skin, 0.42 - 0.08 * self.skin[0] / 100), (176, 84, 60), 0.1)
        colours = [colour for name, colour in _HAIR.items() if has[name]]
        other = _OTHER_HAIR[rng.integers(len(_OTHER_HAIR))]
        base = np.mean(colours or [other], 0)
        self.hair: Colour = tuple(int(c) for c in np.clip(base + rng.normal(0, 4), 8, 250))  # type: ignore[assignment]
        self.brow = dark(self.hair, 0.35 if sum(self.hair) > 250 else 0.1)
        self.beard = dark(self.hair, 0.18)
        self.cloth = _CLOTHES[rng.integers(len(_CLOTHES))]
        self.is_long = not has["Male"]
        self.wave = 3.6 if has["Wavy_Hair"] else 0.0 if has["Straight_Hair"] else 1.2
        self.half_width = (
            43 + rng.normal(0, 1) + 6 * has["Chubby"] - 2.5 * has["Oval_Face"] + 1.5 * has["Male"]
        )
        self.chin = 66 + rng.normal(0, 1.2) + 4 * has["Oval_Face"] + 2 * has["Male"]
        self.jaw = self.half_width * (
            0.78 + 0.08 * has["Male"] + 0.1 * has["Chubby"] - 0.08 * has["Oval_Face"]
        )
        self.mouth = 41 + rng.normal(0, 0.8)
        # Chance is drawn here and in full, needed or not: one label changed changes only its own
        # marks.
        self.lipstick = _LIPSTICK[rng.integers(len(_LIPSTICK))]
        self.mouth_width = 15 + rng.normal(0, 0.6)
        self.iris = _IRIS[rng.integers(len(_IRIS))]
        self.eye_shadow = _EYE_SHADOW[rng.integers(len(_EYE_SHADOW))]
        self.hat = _HATS[rng.integers(len(_HATS))]
        self.parting = rng.choice([-14.0, 10.0])
        self.wave_start = rng.uniform(0, 6)
        self.stubble = rng.uniform((-1, 0), (1, 1), (260, 2))

    def head(self) -> np.ndarray:
        w, j, c = self.half_width, self.jaw, self.chin
        return mirror(
            [
                (0, -62),
                (w * 0.72, -58),
                (w, -26),
                (w + 1, 8),
                (w * 0.94, 30),
                (j, 48),
                (j * 0.5, c),
                (0, c + 1),
            ]
        )


def _draw_back_hair(canvas: Canvas, look: _Look) -> None:
    if not look.is_long or look.has["Bald"]:
        return
    down = np.linspace(-40, 118, 12)
    out = (
        look.half_width
        + 12
        + look.wave * 1.3 * np.sin(down / 9 + look.wave_start)
        + down.clip(0) * 0.06
    )
    side = list(zip(out.tolist(), down.tolist(), strict=True))
    canvas.shape(mirror([(6, -74), (look.half_width * 0.8, -66), *side]), dark(look.hair, 0.22))
    for x in (-50, -44, 44, 50):  # a few strands
        y = np.linspace(0, 108, 9)
        canvas.line(
            np.stack([x * (1 + y / 900) + look.wave * np.sin(y / 9 + x), y], 1),
            light(look.hair, 0.06),
            1.1,
        )


def _draw_body(canvas: Canvas, look: _Look) -> None:
    has, broad = look.has, 1.12 if look.has["Male"] else 0.94
    neck = 27 if has["Male"] else 20
    canvas.shape(
        mirror([(neck * 0.9, 30), (neck, 74), (neck * 1.7, 90), (30, 112)]), look.skin, rounds=2
    )
    canvas.shape(
        mirror(
            [(neck * 0.9, 40), (neck * 0.96, 66), (neck * 0.5, look.chin + 12), (0, look.chin + 15)]
        ),
        look.shade,
    )  # the chin's shadow
    open_at = 96 if not has["Wearing_Necktie"] else 88
    canvas.shape(
        mirror(
            [
                (neck * 0.8, open_at - 8),
                (neck * 1.5, 84),
                (58 * broad, 92),
                (84 * broad, 106),
                (110, 150),
            ]
        ),
        look.cloth,
        rounds=2,
    )
    if has["Wearing_Necktie"]:
        white, tie = (
            (240, 242, 246),
            dark((168, 36, 48) if sum(look.cloth) < 300 else (36, 48, 96), 0.05),
        )
        canvas.shape(
            mirror([(neck * 0.86, 76), (neck * 1.25, 84), (15, 112), (4, 112)]), white, rounds=0
        )
        canvas.shape([(-6, 88), (6, 88), (4, 97), (9, 125), (-9, 125), (-4, 97)], tie, rounds=0)
        canvas.line([(-4, 97), (4, 97)], dark(tie, 0.35), 1)
    else:  # an open neckline
        canvas.shape(
            mirror([(neck * 0.98, 60), (neck * 1.3, 86), (neck * 0.7, open_at), (0, open_at + 5)]),
            look.skin,
        )
        canvas.shape(
            mirror(
                [
                    (neck * 0.9, 40),
                    (neck * 0.96, 64),
                    (neck * 0.5, look.chin + 9),
                    (0, look.chin + 12),
                ]
            ),
            look.shade,
        )
    if has["Wearing_Necklace"]:
        angle = np.linspace(0.12, np.pi - 0.12, 15)
        for x, y in zip(neck * 1.22 * np.cos(angle), 80 + 15 * np.sin(angle), strict=True):
            canvas.ellipse(x, y, 2.1, 2.1, (250, 236, 180), outline=(170, 128, 40), width=0.6)


def _draw_head(canvas: Canvas, look: _Look) -> None:
    has, w = look.has, look.half_width
    for side in (-1, 1):  # ears
        canvas.ellipse(side * (w + 1), 10, 6, 11, mix(look.skin, look.shade, 0.35))
        canvas.ellipse(side * (w + 1.5), 10, 3, 7, look.shade)
    head = look.head()
    canvas.shape(head, mix(look.skin, look.shade, 0.5))
    canvas.shape(head * (0.955, 0.99) + (-1.2, -0.8), look.skin)  # lit from the left
    canvas.glow(-8, -34, 30, 22, light(look.skin, 0.45), 0.35)
    if has["High_Cheekbones"]:
        for side in (-1, 1):
            canvas.glow(side * 29, 17, 12, 7, light(look.skin, 0.55), 0.8)
            canvas.line(
                [(side * 37, 26), (side * 30, 33), (side * 26, 42)],
                mix(look.skin, look.shade, 0.75),
                1.6,
            )
    if has["Rosy_Cheeks"]:
        for side in (-1, 1):
            canvas.glow(side * 27, 24, 16, 13, (235, 72, 92), 0.85)
    if has["Double_Chin"]:
        c = look.chin
        canvas.shape(
            mirror([(22, c - 4), (16, c + 8), (0, c + 13)]), mix(look.skin, look.shade, 0.3)
        )
        canvas.line([(-23, c - 2), (-12, c + 12), (12, c + 12), (23, c - 2)], look.shade, 2.6)
        canvas.line([(-18, c - 7), (-6, c), (6, c), (18, c - 7)], look.shade, 2.4)
    if not has["Young"]:
        fold = mix(look.skin, look.shade, 0.85)
        for y in (-33, -27):
            canvas.line([(-17, y + 1), (-6, y - 1), (6, y - 1), (17, y + 1)], fold, 1)
        for side in (-1, 1):
            canvas.line([(side * 13, 25), (side * 20, 33), (side * 21, 43)], fold, 1.2)
            for y in (-3, 0, 3):
                canvas.line([(side * 31, y * 0.6), (side * 36, y * 1.5)], fold, 0.8)


def _draw_beard(canvas: Canvas, look: _Look) -> None:
    has, w, j, c, m = look.has, look.half_width, look.jaw, look.chin, look.mouth
    partly = has["Goatee"] or has["Mustache"] or has["Sideburns"] or has["5_o_Clock_Shadow"]
    if has["5_o_Clock_Shadow"]:
        stubble = mix(look.skin, mix(look.beard, (70, 78, 92), 0.6), 0.42)
        canvas.shape([*_jaw_band(w, j, c, m)], stubble)
        x, y = look.stubble[:, 0] * w * 0.85, 24 + look.stubble[:, 1] * (c - 25)
        is_jaw = (np.hypot(x / (w * 0.9), (y - 8) / (c - 8)) < 0.97) & (
            np.hypot(x / 30, (y - 22) / 22) > 0.9
        )
        for dot in zip(x[is_jaw], y[is_jaw], strict=True):
            canvas.ellipse(*dot, 0.5, 0.5, dark(stubble, 0.45))
    if not has["No_Beard"] and not partly:  # some beard, of no named kind: a full one
        canvas.shape([*_jaw_band(w + 1, j + 1, c + 4, m)], look.beard)
    if has["Goatee"]:
        canvas.shape(
            mirror([(6, m + 9), (14, m + 8), (16, m + 16), (12, c + 3), (0, c + 7)]), look.beard
        )
        for side in (-1, 1):
            canvas.line(
                [(side * 15, m - 7), (side * 18.5, m + 2), (side * 14, m + 15)], look.beard, 4
            )
    if has["Sideburns"]:
        for side in (-1, 1):
            canvas.shape(
                np.array(
                    [
                        (w + 1, -16),
                        (w - 8, -14),
                        (w - 8, 14),
                        (w - 11, 32),
                        (w - 4, 33),
                        (w + 1, 10),
                    ]
                )
                * (side, 1),
                look.beard,
                rounds=1,
            )


def _jaw_band(w: float, j: float, c: float, m: float) -> np.ndarray:
    """Where a full beard grows: along the jaw, with the mouth left free."""
    outer = [(w, 6), (w * 0.96, 30), (j, 49), (j * 0.5, c), (0, c + 1)]
    inner = [
        (0, m + 9),
        (15, m + 9),
        (22, m),
        (16, m - 9),
        (0, m - 11),
    ]  # below and around the lips
    over = [(0, m - 13), (18, m - 14), (28, m - 12), (w - 8, 16), (w - 4, 6)]
    right = np.array([*outer, *inner, *over], float)
    left = right * (-1, 1)
    # two halves that meet in the middle, walked as one outline
    return np.concatenate(
        [right[:5], left[:5][::-1], left[10:][::-1], left[5:10][::-1], right[5:10], right[10:]]
    )


def _draw_mouth(canvas: Canvas, look: _Look) -> None:
    has, m = look.has, look.mouth
    natural = mix(mix(look.skin, (196, 92, 92), 0.5), (60, 20, 20), 0.08)
    lips = look.lipstick if has["Wearing_Lipstick"] else natural
    wide = look.mouth_width + 4.5 * has["Smiling"]
    thick = (1.75 if has["Big_Lips"] else 1.0) * (1.1 if has["Wearing_Lipstick"] else 0.9)
    up = -4.0 if has["Smiling"] else 0.8  # the corners
    gap = 5.5 if has["Mouth_Slightly_Open"] else 0.0
    low = m + (2.5 if has["Smiling"] else 0)
    corner_r, corner_l = (wide, m + up), (-wide, m + up)
    lower = [
        corner_r,
        (wide * 0.6, low + gap + 4.6 * thick),
        (-wide * 0.6, low + gap + 4.6 * thick),
        corner_l,
    ]
    upper = [
        (-wide * 0.35, m - 4.2 * thick),
        (-3, m - 3.9 * thick),
        (0, m - 2.6 * thick),
        (3, m - 3.9 * thick),
        (wide * 0.35, m - 4.2 * thick),
    ]
    canvas.shape(
        [
            *smooth(np.array(lower), closed=False),
            *smooth(np.array([corner_l, *upper, corner_r]), closed=False),
        ],
        lips,
        rounds=0,
    )
    inner = np.array([corner_r, (wide * 0.5, low + gap), (-wide * 0.5, low + gap), corner_l])
    inner_top = np.array([corner_l, (-wide * 0.5, low - 0.6), (wide * 0.5, low - 0.6), corner_r])
    if gap:
        both = [
            *smooth(inner * (0.9, 1), closed=False),
            *smooth(inner_top * (0.9, 1), closed=False),
        ]
        canvas.shape(both, (88, 22, 30), rounds=0)
        teeth = [
            *smooth(inner_top * (0.84, 1), closed=False),
            *smooth((inner * (0.78, 1) + (0, -gap * 0.5)), closed=False),
        ]
        canvas.shape(teeth, (250, 248, 242), rounds=0)
    else:
        canvas.line(inner, dark(lips, 0.5), 1.1)
    if has["Smiling"]:
        for side in (-1, 1):
            canvas.line(
                [
                    (side * (wide + 2), m + up - 4),
                    (side * (wide + 4), m + up),
                    (side * (wide + 2), m + up + 4),
                ],
                look.shade,
                1.1,
            )
    canvas.glow(0, low + gap + 1.8 * thick, 7, 2, light(lips, 0.7), 0.6)
    if has["Mustache"] or (
        not has["No_Beard"] and not (has["Goatee"] or has["Sideburns"] or has["5_o_Clock_Shadow"])
    ):
        size = 1.0 if has["Mustache"] else 0.75
        canvas.shape(
            mirror(
                [
                    (1, m - 12 * size),
                    (10, m - 11 * size),
                    (wide + 4, m - 1),
                    (wide + 3, m + 3.5 * size),
                    (9, m - 3.2),
                    (1, m - 4),
                ]
            ),
            look.beard,
            rounds=2,
        )


def _draw_nose(canvas: Canvas, look: _Look) -> None:
    has = look.has
    wide = 8.5 + 4.5 * has["Big_Nose"] - 2.2 * has["Pointy_Nose"]
    tip = 25 + 1.5 * has["Big_Nose"] + 1.5 * has["Pointy_Nose"]
    tone = mix(look.skin, look.shade, 0.55)
    canvas.shape(
        [
            (2, -2),
            (4.5, 10),
            (wide * 0.85, tip - 3),
            (wide * 0.5, tip + 2),
            (1, tip + 1),
            (2.4, 12),
        ],
        tone,
    )
    if has["Pointy_Nose"]:
        canvas.shape([(0, 4), (8, tip - 1), (1, tip + 6), (1, 8)], look.shade, rounds=1)
        canvas.line([(-5.5, tip - 2), (0, tip + 6), (6, tip - 2)], dark(look.shade, 0.2), 1.6)
    else:
        canvas.line(
            [
                (-wide, tip - 3),
                (-wide * 0.7, tip + 2),
                (0, tip + 3),
                (wide * 0.7, tip + 2),
                (wide, tip - 3),
            ],
            look.shade,
            1.5,
        )
    if has["Big_Nose"]:
        for side in (-1, 1):
            canvas.line(
                [
                    (side * wide, tip - 8),
                    (side * (wide + 2.5), tip - 3),
                    (side * wide * 0.9, tip + 1.5),
                ],
                look.shade,
                1.4,
            )
            canvas.ellipse(side * wide * 0.5, tip + 0.2, 2, 1.3, dark(look.shade, 0.3))
    canvas.glow(-1.5, tip - 7, 4, 6, light(look.skin, 0.6), 0.7)


def _draw_eyes(canvas: Canvas, look: _Look) -> None:
    has = look.has
    tall = 2.3 if has["Narrow_Eyes"] else 5.2
    for side in (-1, 1):
        x = side * 19.5
        if has["Bags_Under_Eyes"]:
            canvas.glow(x, 10, 11, 5, dark(mix(look.skin, (120, 80, 120), 0.45), 0.3), 0.95)
            canvas.line(
                [(x - 8, 8.5), (x - 3, 12), (x + 3, 12), (x + 8, 8.5)],
                mix(look.skin, look.shade, 0.9),
                1.1,
            )
        if has["Heavy_Makeup"]:
            canvas.glow(x + side, -4, 14, 9, look.eye_shadow, 0.95)
        almond = [
            (x - 10, 0.8),
            (x - 4, -tall * 1.25),
            (x + 4, -tall * 1.25),
            (x + 10, 0.2),
            (x + 4, tall),
            (x - 4, tall),
        ]
        canvas.shape(almond, (250, 249, 247))
        visible = min(4.7, tall * 0.98)
        canvas.ellipse(x, -0.3, 4.7 if tall > 4 else 3.6, visible, look.iris)
        canvas.ellipse(x, -0.3, 2.2, min(2.2, visible), (14, 12, 14))
        canvas.ellipse(x - 1.6, -min(2, visible * 0.5), 1.1, 1.1, (255, 255, 255))
        lash = 2.3 if has["Heavy_Makeup"] else 1.5 if not has["Male"] else 1.0
        canvas.line(
            [(x - 10, 0.8), (x - 4, -tall * 1.25), (x + 4, -tall * 1.25), (x + 10, 0.4)],
            (40, 28, 28),
            lash,
        )
        if not has["Male"]:
            canvas.line(
                [(x + side * 9, 0), (x + side * 12, -2.4), (x + side * 13, -3.4)],
                (40, 28, 28),
                lash * 0.8,
            )
        arch, bushy = (5.5 if has["Arched_Eyebrows"] else 1.4), has["Bushy_Eyebrows"]
        inner, outer = x - side * 10, x + side * 12
        brow = [
            (inner, -12.4),
            (x - side * 2, -13.4 - arch * 0.7),
            (x + side * 5, -13.4 - arch),
            (outer, -9.5),
        ]
        canvas.line(brow, look.brow, 4.6 if bushy else 2.3 if has["Male"] else 1.8)
        if bushy:
            canvas.ellipse(inner, -12.4, 2.3, 2.3, look.brow)
    if has["Eyeglasses"]:
        frame = (36, 32, 38)
        for side in (-1, 1):
            canvas.glow(side * 19.5, 1, 14, 11, (214, 234, 246), 0.45)
            canvas.pen.rounded_rectangle(
                canvas.place(np.array([[side * 19.5 - 15, -10], [side * 19.5 + 15, 13]])),
                8 * SCALE,
                outline=frame,
                width=round(2.3 * SCALE),
            )
            canvas.line([(side * 34, -3), (side * (look.half_width + 3), -4)], frame, 2.2)
        canvas.line([(-5, -2), (0, -4), (5, -2)], frame, 2.2)


def _draw_front_hair(canvas: Canvas, look: _Look) -> None:
    has, w, hair = look.has, look.half_width, look.hair
    if has["Bald"]:
        canvas.glow(-10, -46, 14, 7, (255, 255, 255), 0.55)
        if not has["Wearing_Hat"]:
            for side in (-1, 1):  # what is left, above the ears
                canvas.shape(
                    np.array([(w - 1, -28), (w + 4, -20), (w + 4, 2), (w - 2, 2)]) * (side, 1),
                    hair,
                    rounds=2,
                )
        return
    line = -46.0 if has["Receding_Hairline"] else -33.0
    notch = 16 if has["Receding_Hairline"] else 0  # the temples give way first
    top, shine = -76 if look.is_long else -73, light(hair, 0.16)
    part = look.parting
    angle = np.linspace(np.pi, 0, 9)
    bump = look.wave * 0.7 * np.where(np.arange(9) % 2, 1, -1)
    crown = np.stack([(w + 8 + bump) * np.cos(angle), -14 + (top + 14 - bump) * np.sin(angle)], 1)
    foot = 26.0 if look.is_long else 0.0
    if look.is_long:
        edge = [
            (w + 6, foot),
            (w - 2, foot - 2),
            (w - 6, -6),
            (w * 0.62, line + 8),
            (part + 6, line - 14),
        ]
        back = [
            (part - 6, line - 14),
            (-w * 0.62, line + 8),
            (-w + 6, -6),
            (-w + 2, foot - 2),
            (-w - 6, foot),
        ]
    else:
        edge = [
            (w + 4, foot),
            (w - 3, foot - 2),
            (w - 5, -20),
            (w * 0.7, line - notch * 0.9),
            (w * 0.3, line + 1),
        ]
        back = [
            (-w * 0.3, line),
            (-w * 0.7, line - notch * 0.9),
            (-w + 5, -20),
            (-w + 3, foot - 2),
            (-w - 4, foot),
        ]
    canvas.shape([*crown, *edge, *back], hair, rounds=2)
    if has["Bangs"]:
        x = np.linspace(-w + 3, w - 3, 9)
        fringe = np.stack([x, np.where(np.arange(9) % 2, -15.0, -19.5) - 0.004 * x**2], 1)
        canvas.shape(
            [(-w + 1, -20), *fringe, (w - 1, -20), (w * 0.7, -60), (-w * 0.7, -60)], hair, rounds=1
        )
        for start, (x_end, y_end) in zip(np.linspace(-24, 24, 9), fringe, strict=True):
            canvas.line(
                [(start * 0.7, -58), (start, -42), (x_end, y_end - 3)], dark(hair, 0.22), 0.8
            )
    for k in range(7):  # strands that catch the light
        start = np.array([part + (k - 3) * 2.2, top + 8])
        end = np.array([(k - 3) * w * 0.32, -50 - 2 * abs(k - 3) + (34 if abs(k - 3) == 3 else 0)])
        middle = (start + end) / 2 + (np.sign(k - 3) * 4 + look.wave * 1.5, -4)
        canvas.line([start, middle, end], shine if k % 2 else dark(hair, 0.2), 1.2)
    if look.wave > 3 and not look.is_long:
        for turn in np.linspace(0.25, np.pi - 0.25, 9):  # curls along the crown
            x, y = (w + 3) * np.cos(turn), -14 + (top + 16) * np.sin(turn)
            canvas.ellipse(x, y, 8.5, 8, hair)
            canvas.line(
                [(x - 5, y + 2), (x - 3, y - 5), (x + 4, y - 4), (x + 3, y + 2)], shine, 0.9
            )


def _draw_extras(canvas: Canvas, look: _Look) -> None:
    has, w = look.has, look.half_width
    if has["Wearing_Earrings"]:
        for side in (-1, 1):
            canvas.ellipse(
                side * (w + 3), 24, 3, 3, (252, 222, 120), outline=(150, 108, 30), width=0.7
            )
            canvas.ellipse(
                side * (w + 3), 32, 3.6, 5.4, (250, 212, 96), outline=(150, 108, 30), width=0.7
            )
    if has["Wearing_Hat"]:
        hat, r = look.hat, w + 10
        canvas.shape(
            [
                (-r, -34),
                (-r * 0.97, -62),
                (-r * 0.6, -92),
                (r * 0.6, -92),
                (r * 0.97, -62),
                (r, -34),
            ],
            hat,
        )
        canvas.shape(
            [(-r * 0.9, -44), (-r * 0.85, -64), (-r * 0.5, -84), (-r * 0.2, -84), (-r * 0.6, -50)],
            light(hat, 0.14),
        )
        canvas.shape(
            [(-r * 1.28, -30), (-r, -42), (0, -48), (r, -42), (r * 1.28, -30), (0, -36)],
            dark(hat, 0.3),
        )
        canvas.line([(-r * 0.95, -46), (0, -52), (r * 0.95, -46)], dark(hat, 0.55), 4.5)
