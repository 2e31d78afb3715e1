"""Seeded ways to damage what a program reads: bytes of a file, the values of a JSON document, or
named arrays."""

import copy
import random

import numpy as np

WRONG_VALUES = [
    None,
    True,
    -1,
    0,
    1e300,
    10**30,
    float("nan"),
    "",
    "7",
    "=1+1",
    "\udc80",
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
]


def mutate_bytes(content: bytes, seed: int) -> bytes:
    """The same bytes: a bit flipped, cut, a stretch zeroed, doubled or dropped, or extended."""
    rng = random.Random(seed)
    at = rng.randrange(len(content)) if content else 0
    width = rng.choice([1, 4, 64, 1024])
    return [
        lambda: content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :],
        lambda: content[:at],
        lambda: content[:at] + bytes(len(content[at : at + width])) + content[at + width :],
        lambda: content[:at] + content[at : at + width] + content[at:],
        lambda: content[:at] + content[at + width :],
        lambda: content + rng.randbytes(width),
    ][rng.randrange(6) if content else 5]()


def mutate_json(document, seed: int):
    """A copy with one value, anywhere in it, retyped, dropped, renamed, doubled or nested."""
    rng = random.Random(seed)
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places or rng.random() < 0.05:
        return rng.choice(WRONG_VALUES)
    holder, key = rng.choice(places)
    kind = rng.choice(["retype", "retype", "drop", "rename", "double", "nest"])
    if kind == "drop":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)
    elif kind == "double" and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif kind == "nest":
        for _ in range(rng.choice([1, 3, 400])):
            holder[key] = [holder[key]]
    else:
        holder[key] = rng.choice(WRONG_VALUES)
    return document


def mutate_arrays(arrays: dict, seed: int) -> dict:
    """A copy with one array dropped, renamed, retyped, reshaped, cut, emptied or lied about."""
    rng = random.Random(seed)
    arrays = dict(arrays)
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    kind = rng.choice(["retype", "retype", "reshape", "cut", "empty", "drop", "rename", "lie"])
    if kind == "rename":
        arrays[f"{name}_"] = array
    elif kind == "retype":
        types = [np.int8, np.uint8, np.float16, np.float64, np.int64, np.bool_]
        with np.errstate(all="ignore"):
            array = array.astype(rng.choice([t for t in types if t != array.dtype]))
    elif kind == "reshape":
        flat = array.reshape(-1)
        array = rng.choice([flat, array[None], flat[:1].reshape(()) if flat.size else flat])
    elif kind == "cut":
        array = array[: len(array) // 2] if array.ndim else array.reshape(1, 1)
    elif kind == "empty":
        array = np.empty(0, array.dtype)
    elif kind == "lie":
        lies = [np.nan, np.inf, -1, 1e30] if array.dtype.kind == "f" else [0, 1, 255]
        array = np.full(array.shape, rng.choice(lies)).astype(array.dtype)
    if kind not in ("drop", "rename"):
        arrays[name] = array
    return arrays


def _places(document):
    """Every (container, key or index) at which a value stands."""
    keys = (
        list(document)
        if isinstance(document, dict)
        else range(len(document))
        if isinstance(document, list)
        else []
    )
    for key in keys:
        yield document, key
        yield from _places(document[key])
