"""Drawn faces on which CelebA's attributes can be seen: pictures for a fake CelebA, not CelebA.

39 of 40 labels show (Attractive is a judgement and is left out). Writing them in CelebA's file
formats is `celeba_files`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from dmtg_lite.data.celeba.images import HEIGHT, WIDTH
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.toys.drawing import Canvas, mix

if TYPE_CHECKING:
    from PIL import Image

STEP = 2  # pixels of the image per painted one, scaled up smoothly: four times as fast
CENTRE = (89.0, 111.0)  # between the eyes, where CelebA's alignment puts them; lengths are pixels
SKIN = ("f6d0b6", "eec1a2", "e2b08e", "ce9874", "aa7454", "7c523c")
SKIN_ODDS = (0.26, 0.28, 0.2, 0.12, 0.08, 0.06)
HAIR = {
    "Black_Hair": "221d21",
    "Brown_Hair": "5c3e2a",
    "Blond_Hair": "e8c67a",
    "Gray_Hair": "acaeb4",
}
OTHER_HAIR = ("a4482a", "bc643a", "883a30")  # none of the four: shades of red
IRIS = ("543824", "402c20", "4a708a", "58744e")
PAPER = ("cbdae6", "ded6c8", "c4d6ca", "e2cccc", "cec8de", "b0becc", "ece2ce", "96a8ba")
CLOTH = ("34486e", "84343e", "426054", "585464", "c89450", "b06074", "3a3a42")
LIPSTICK = ("be1c34", "ce345c", "a4183e")
EYE_SHADOW = ("785496", "546ea0", "965c54")
HAT = ("2e3e62", "8e2e2e", "3c5c48", "c4a068", "46424a")


def tone(code: str) -> ndarray:
    """A colour like "ffcc00" as numbers from 0 to 1, (1, 3, 1, 1)."""
    return np.frombuffer(bytes.fromhex(code), np.uint8).reshape(1, 3, 1, 1) / np.float32(255)


def dark(colour: ndarray, share: float) -> ndarray:
    return mix(colour, tone("140c10"), share)


def light(colour: ndarray, share: float) -> ndarray:
    return mix(colour, tone("fffaf4"), share)


class Look:
    """Measures and colours of one person; ``chin`` and ``mouth`` are heights below the eyes.

    Chance is drawn in full, needed or not: one label changed changes only its own marks.
    """

    def __init__(self, has: dict[str, bool], rng: np.random.Generator) -> None:
        self.has = has
        skin = tone(rng.choice(SKIN, p=SKIN_ODDS))
        other, lipstick = tone(rng.choice(OTHER_HAIR)), tone(rng.choice(LIPSTICK))
        self.iris, self.cloth = tone(rng.choice(IRIS)), tone(rng.choice(CLOTH))
        self.eye_shadow, self.hat = tone(rng.choice(EYE_SHADOW)), tone(rng.choice(HAT))
        jitter, self.parting = rng.normal(0, 1, 4), rng.choice([-12.0, 10.0])
        self.skin = tone("fdeee6") if has["Pale_Skin"] else skin
        self.shade = mix(dark(self.skin, 0.3), tone("b0543c"), 0.12)
        self.lips = lipstick if has["Wearing_Lipstick"] else mix(self.skin, tone("a44444"), 0.6)
        named = [tone(code) for name, code in HAIR.items() if has[name]]
        self.hair = np.mean(named or [other], 0) + 0.015 * jitter[0]
        self.beard = dark(self.hair, 0.18)
        chubby, oval, male = has["Chubby"], has["Oval_Face"], has["Male"]
        self.wide = 43 + jitter[1] + 6 * chubby - 2.5 * oval + 1.5 * male  # half of the head
        self.jaw = self.wide * (0.80 + 0.08 * male + 0.1 * chubby - 0.1 * oval)
        self.chin = 66 + 1.2 * jitter[2] + 4 * oval + 2 * male
        self.mouth = 41 + 0.8 * jitter[3]


def draw_face(labels: ndarray, rng: np.random.Generator) -> Image.Image:
    """Draw one face that shows its labels: RGB, 178 x 218, eyes where CelebA has them.

    Args:
        labels: 0/1, shape (40,), in the official order; contradictions are drawn as a compromise.
        rng: Decides what the labels leave open: skin, eyes, clothes, background, proportions.

    Returns:
        A Pillow image. The same labels and generator state give the same picture.
    """
    from PIL import Image, ImageFilter

    has = dict(zip(NAMES, np.asarray(labels, bool).tolist(), strict=True))
    paper = tone(rng.choice(PAPER))
    look = Look(has, rng)
    x, y = (
        (np.arange(n // STEP, dtype=np.float32) + 0.5) * STEP - at
        for n, at in zip((WIDTH, HEIGHT), CENTRE, strict=True)
    )
    fade = np.linspace(0, 1, len(y), dtype=np.float32)[:, None]
    pixels = light(paper, 0.25) * (1 - fade) + dark(paper, 0.22) * fade * np.ones_like(x)
    canvas = Canvas(x, y, pixels, pixel=STEP)
    hair = _find_hair(canvas, look)
    _paint_body(canvas, look)
    _paint_head(canvas, look)
    _paint_beard(canvas, look)
    _paint_mouth(canvas, look)
    _paint_nose(canvas, look)
    _paint_eyes(canvas, look)
    _paint_hair(canvas, look, hair)
    _paint_extras(canvas, look)
    picture = (canvas.pixels[0] * 255 + 0.5).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(picture).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return image.filter(ImageFilter.GaussianBlur(2.6)) if has["Blurry"] else image


def _head(canvas: Canvas, look: Look) -> ndarray:
    skull = canvas.ellipse(0, -4, look.wide, 60)
    return np.minimum(skull, canvas.ellipse(0, look.chin - 46, look.jaw, 46))


def _find_hair(canvas: Canvas, look: Look) -> ndarray:
    """The shape of the hair before the face; what hangs behind the head is painted at once."""
    has, w, x, y, side = look.has, look.wide, canvas.x, canvas.y, canvas.side
    is_long, wave = not has["Male"], 3.0 if has["Wavy_Hair"] else 0.0
    ripple = wave * np.sin(y / 6 + 2 * np.sign(x))
    if is_long and not has["Bald"]:
        fall = np.maximum(side - w - 11 + ripple - y.clip(0) * 0.06, np.maximum(-14 - y, y - 110))
        back = np.minimum(fall, canvas.ellipse(0, -14, w + 11, 62))
        canvas.paint(dark(look.hair, 0.22), 1, (back, 0))
    line = -50.0 if has["Receding_Hairline"] else -34.0
    curls = wave * np.sin(10 * np.arctan2(x, -14 - y))
    cap = canvas.ellipse(0, -14, w + 8, 64 if is_long else 60) - curls
    wider = 5 if has["Receding_Hairline"] else 0
    height = 26 - line
    at = look.parting if is_long else 0
    bare = np.hypot((x - at * (10 - y) / 50) / (w - 5 + wider), (y - 26) / height) - 1
    hair = np.maximum(np.maximum(cap, -bare * min(w, height)), y - (26 if is_long else 2))
    if has["Bangs"]:
        fringe = np.maximum(cap, y + 17 + 2 * np.sin(x / 2.2))
        hair = np.minimum(hair, fringe)
    return hair


def _paint_body(canvas: Canvas, look: Look) -> None:
    has, paint, y, side = look.has, canvas.paint, canvas.y, canvas.side
    neck, broad = (27, 96) if has["Male"] else (20, 82)
    paint(look.skin, 1, (np.maximum(side - neck, np.abs(y - 70) - 40), 0))
    paint(look.cloth, 1, (canvas.ellipse(0, 150, broad, 66), 0))
    if not has["Wearing_Necktie"]:
        paint(look.skin, 1, (canvas.ellipse(0, 78, neck * 1.25, 20), 0))
    paint(look.shade, 1, (canvas.ellipse(0, look.chin, neck * 0.98, 13), 0), (side - neck, 0))
    if has["Wearing_Necktie"]:
        collar = np.maximum(np.abs(side - neck * 0.62) - 12 - (y - 96) * 0.2, np.abs(y - 94) - 13)
        paint(tone("f0f2f6"), 1, (collar, 0))
        tie = np.maximum(side - 4 - (y - 90).clip(0) * 0.25, 86 - y)
        paint(tone("a82430" if look.cloth.sum() < 1.1 else "243060"), 1, (tie, 0))
    if has["Wearing_Necklace"]:
        chain = canvas.lens(0, 97, neck * 1.2, 0, -17)
        paint(tone("aa8028"), 1, (chain, 2.6))
        paint(tone("faecb4"), 1, (chain, 1.8), (np.abs(canvas.x % 5 - 2.5) - 1.8, 0))


def _paint_head(canvas: Canvas, look: Look) -> None:
    has, paint, ellipse, line = look.has, canvas.paint, canvas.ellipse, canvas.line
    head, w, c = _head(canvas, look), look.wide, look.chin
    paint(mix(look.skin, look.shade, 0.35), 1, (ellipse(w + 1, 10, 6, 11), 0))  # ears
    paint(look.shade, 1, (ellipse(w + 1.5, 10, 2.5, 6), 0))
    paint(mix(look.skin, look.shade, 0.5), 1, (head, 0))
    paint(look.skin, 1, (head, -2), blur=5)
    if has["High_Cheekbones"]:
        paint(light(look.skin, 0.55), 0.8, (ellipse(29, 17, 12, 7), 0), blur=5)
        paint(look.shade, 0.9, (line(37, 26, 27, 40), 1))
    if has["Rosy_Cheeks"]:
        paint(tone("eb485c"), 0.85, (ellipse(28, 24, 13, 11), 0), blur=9)
    if has["Double_Chin"]:
        paint(mix(look.skin, look.shade, 0.3), 1, (canvas.lens(0, c + 4, 24, 8), 0))
        for height in (c + 12, c + 1):
            paint(dark(look.shade, 0.2), 1, (canvas.lens(0, height, 23, 0, -13), 1.9))
    if not has["Young"]:
        folds = np.minimum(line(13, 25, 20, 33), line(20, 33, 21, 43))
        for height in (-33, -26):
            folds = np.minimum(folds, canvas.lens(0, height, 18, 0, 2))
        for rise in (-4, 0, 4):
            folds = np.minimum(folds, line(32, rise * 0.6, 37, rise * 1.5) + 0.4)
        paint(dark(look.shade, 0.15), 1, (folds, 1.1))


def _paint_beard(canvas: Canvas, look: Look) -> None:
    has, paint, w, m = look.has, canvas.paint, look.wide, look.mouth
    free = -np.minimum(canvas.ellipse(0, 6, w - 6, 28), canvas.ellipse(0, m, 22, 9))
    band = ((_head(canvas, look), 1), (free, 0), (8 - canvas.y, 0))
    named = ("Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow")
    if has["5_o_Clock_Shadow"]:
        paint(mix(look.beard, tone("464e5c"), 0.6), 0.5, *band, blur=3)
    if not has["No_Beard"] and not any(has[name] for name in named):  # of no named kind: full
        paint(look.beard, 1, *band)
        paint(look.beard, 1, (canvas.lens(0, m - 9, 20, 4, 4), 0))
    if has["Goatee"]:
        ring = np.maximum(np.abs(canvas.ellipse(0, m + 4, 18, 16)) - 2, m - 5 - canvas.y)
        paint(look.beard, 1, (np.minimum(ring, canvas.ellipse(0, m + 19, 12, 11)), 0))
    if has["Sideburns"]:
        side = np.abs(canvas.side - w + 3) - 4.5 - (canvas.y - 8).clip(0) * 0.08
        paint(look.beard, 1, (np.maximum(side, np.abs(canvas.y - 8) - 25), 0))
    if has["Mustache"]:
        paint(look.beard, 1, (canvas.lens(0, m - 9.5, 22, 5.5, 7), 0))


def _paint_mouth(canvas: Canvas, look: Look) -> None:
    has, paint, lens, m = look.has, canvas.paint, canvas.lens, look.mouth
    wide, bend = (20.0, -7.0) if has["Smiling"] else (15.0, 0.8)
    low = m + 3 * has["Smiling"]
    thick, gap = 8.0 if has["Big_Lips"] else 3.8, 3.0 * has["Mouth_Slightly_Open"]
    paint(look.lips, 1, (lens(0, low, wide, thick + gap, bend), 0))
    if gap:
        opening = lens(0, low, wide * 0.88, gap + 1.5, bend)
        paint(tone("581620"), 1, (opening, 0))
        paint(tone("faf8f2"), 1, (opening, -0.5), (canvas.y - low - bend * 0.1, 0))
    else:
        paint(dark(look.lips, 0.5), 1, (lens(0, low, wide, 0, bend), 0.7))
    paint(light(look.lips, 0.6), 0.5, (lens(0, low + gap + thick * 0.55, 7, 1.2), 0), blur=2)
    if has["Smiling"]:
        paint(look.shade, 1, (canvas.line(wide + 2, low - 12, wide + 4, low - 5), 0.8))


def _paint_nose(canvas: Canvas, look: Look) -> None:
    has, paint = look.has, canvas.paint
    wide = 8.0 + 4.5 * has["Big_Nose"] - 2.2 * has["Pointy_Nose"]
    tip = 24 + 1.5 * has["Big_Nose"] + 1.5 * has["Pointy_Nose"]
    paint(look.shade, 0.5, (canvas.ellipse(0, tip - 5, wide * 0.8, 8), 0), blur=3)
    if has["Pointy_Nose"]:
        wedge = np.maximum(canvas.side - (canvas.y - 4) * 0.28, canvas.y - tip - 3)
        paint(look.shade, 1, (wedge, 0))
        paint(dark(look.shade, 0.35), 1, (canvas.line(0, tip + 5, 6, tip), 1.4))
    else:
        paint(look.shade, 1, (canvas.lens(0, tip + 3, wide, 0, -4), 1))
    if has["Big_Nose"]:
        paint(dark(look.shade, 0.35), 1, (canvas.ellipse(wide * 0.5, tip + 1, 3.2, 2), 0))
        paint(look.shade, 1, (canvas.line(wide + 1, tip - 8, wide + 2, tip), 1.8))
    paint(light(look.skin, 0.6), 0.6, (canvas.ellipse(0, tip - 7, 3, 6), 0), blur=4)


def _paint_eyes(canvas: Canvas, look: Look) -> None:
    has, paint, lens, ellipse = look.has, canvas.paint, canvas.lens, canvas.ellipse
    tall, at = 2.2 if has["Narrow_Eyes"] else 5.6, 19.5
    if has["Bags_Under_Eyes"]:
        tint = dark(mix(look.skin, tone("785078"), 0.45), 0.3)
        paint(tint, 0.9, (lens(at, 9, 11, 4, -3), 0), blur=2)
    if has["Heavy_Makeup"]:
        paint(look.eye_shadow, 0.9, (ellipse(at + 1, -4, 13, 8), 0), blur=4)
    eye = lens(at, 0, 10, tall)
    paint(tone("faf9f7"), 1, (eye, 0))
    paint(look.iris, 1, (ellipse(at, -0.3, 4.7, 4.7), 0), (eye, 0))
    paint(tone("0e0c0e"), 1, (ellipse(at, -0.3, 2.2, 2.2), 0), (eye, 0))
    lash = 1.3 if has["Heavy_Makeup"] else 0.9 if not has["Male"] else 0.6
    paint(tone("281c1c"), 1, (lens(at, -tall, 10.5, 0, tall), lash))
    if not has["Male"]:
        paint(tone("281c1c"), 1, (canvas.line(at + 9, -0.5, at + 13, -3.5), lash))
    arch = 6.0 if has["Arched_Eyebrows"] else 1.5
    bold = 2.3 if has["Bushy_Eyebrows"] else 1.0 if has["Male"] else 0.8
    paint(dark(look.hair, 0.3), 1, (lens(at + 1, -12 - arch, 12, 0.6, arch), bold))
    if has["Eyeglasses"]:
        glass = ellipse(at, 1, 15, 12)
        paint(tone("d6eaf6"), 0.35, (glass, 0))
        arms = np.minimum(canvas.line(34, -3, look.wide + 2, -4), canvas.lens(0, -4, 5, 0, 2))
        paint(tone("242026"), 1, (np.minimum(np.abs(glass), arms), 1.3))


def _paint_hair(canvas: Canvas, look: Look, hair: ndarray) -> None:
    has, paint, x, y, side = look.has, canvas.paint, canvas.x, canvas.y, canvas.side
    if has["Bald"]:
        paint(np.float32(1), 0.5, (canvas.ellipse(0, -48, 14, 6), 0), blur=6)
        tuft = np.maximum(np.abs(side - look.wide - 1) - 3, np.abs(y + 12) - 15)
        paint(look.hair, 0 if has["Wearing_Hat"] else 1, (tuft, 0))
        return
    paint(look.hair, 1, (hair, 0))
    if has["Straight_Hair"] or has["Wavy_Hair"]:
        wave = 2.2 * np.sin(y / 4) if has["Wavy_Hair"] else 0
        strand = np.abs((x * (1 - y / 300) + wave) % 7 - 3.5) - 0.9
        paint(light(look.hair, 0.3), 0.8, (hair, -1.5), (strand, 0))


def _paint_extras(canvas: Canvas, look: Look) -> None:
    has, paint, y, w = look.has, canvas.paint, canvas.y, look.wide
    if has["Wearing_Earrings"]:
        drop = np.minimum(canvas.ellipse(w + 3, 24, 3, 3), canvas.ellipse(w + 3, 32, 4, 6))
        paint(tone("966c1e"), 1, (drop, 1))
        paint(tone("fcd870"), 1, (drop, 0))
    if has["Wearing_Hat"]:
        crown = np.maximum(canvas.ellipse(0, -42, w + 10, 50), y + 40)
        paint(look.hat, 1, (crown, 0))
        paint(light(look.hat, 0.2), 0.6, (canvas.line(20, -78, 32, -64), 4), blur=6)
        paint(dark(look.hat, 0.55), 1, (crown, 0), (np.abs(y + 48) - 3.5, 0))
        paint(dark(look.hat, 0.3), 1, (canvas.lens(0, -43, (w + 10) * 1.28, 4, 6), 1))
