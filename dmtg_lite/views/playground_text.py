"""Settings of the playground as one line of Python, and as a link to the what-if page; and back.

What comes back is read, never run: a line is parsed, and only plain values and configs are taken.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, replace
from math import log
from typing import Any
from urllib.parse import parse_qsl, urlencode

from dmtg_lite.core.checks import describe
from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.runs.presets import TOY
from dmtg_lite.views.playground import CLEAN, CONTROLS, OWN, RUNS, SUITES, Settings, suit

# ---------------------------------------------------------------- one line of Python
_CONFIGS = {one.__name__: one for one in (TrainConfig, Spare, Restarts, Pruning, HeadOptions)}
_SHAPE = "methods.dmtg(data.toy_faces(...), n_groups=3, config=TrainConfig(...))"


def to_line(settings: Settings, own: TaskData | None = None) -> str:
    """The run as one line to paste; data of one's own are called ``mine`` in it."""
    if settings.data == OWN:
        call, first = "mine", own.task_names[0] if own else "first"
    else:
        suite = SUITES[settings.data]
        arguments, first = dict(suite.arguments), suite.first_task
        if settings.label_noise != CLEAN:
            arguments["label_noise"] = settings.label_noise
        if settings.config.seed:
            arguments["seed"] = settings.config.seed
        call = f"data.{suite.call}({_tell(arguments)})"
    if settings.weight != 1:
        weights = {first: settings.weight}
        call += f".weigh({weights!r})"
    return f"methods.dmtg({call}, n_groups={settings.n_groups!r}, config={settings.config!r})"


def from_line(text: str, before: Settings, own: TaskData | None = None) -> Settings:
    """Settings of a line that `to_line`, or a live view, has written. Nothing in it is run.

    Args:
        text: The line; a comment behind it is passed over.
        before: Where it names no data of the library, they stay as they are here.
        own: The reader's data.

    Raises:
        ValueError: If it is another line; the message says what in it.
    """
    try:
        (line,) = ast.parse(text.strip()).body
        call = line.value if isinstance(line, ast.Expr | ast.Assign) else None
    except (SyntaxError, ValueError):
        call = None
    if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "methods.dmtg" and call.args):
        raise ValueError(f"this is no line of a run: {_SHAPE} is one; got {describe(text)}.")
    given = _read_keywords(call)
    if unknown := sorted(given.keys() - {"n_groups", "config"}):
        raise ValueError(f"the playground has no {unknown[0]!r} of methods.dmtg.")
    first, *rest = call.args
    k = given.get("n_groups", _literal(rest[0]) if rest else before.n_groups)
    data, weight = _read_data(first, before, own)
    config = given.get("config") or suit(data["name"], k, own, data.get("seed", 0))
    if not isinstance(config, TrainConfig):
        raise ValueError(f"`config` must be TrainConfig(...), got {describe(config)}.")
    if data.get("seed", config.seed) != config.seed:
        raise ValueError(
            f"data of seed {data['seed']} and a run of seed {config.seed}: the playground has one "
            "seed for both."
        )
    noise = data.get("label_noise", CLEAN)
    return Settings(data=data["name"], n_groups=k, config=config, label_noise=noise, weight=weight)


def _read_data(
    node: ast.expr, before: Settings, own: TaskData | None
) -> tuple[dict[str, Any], float]:
    """Name of the suite, with seed and label noise; and the first task's weight."""
    weight, weighed = 1.0, None
    match node:
        case ast.Call(func=ast.Attribute(attr="weigh", value=node), args=[given]):
            weighed = _literal(given)
    if isinstance(node, ast.Name):
        found: dict[str, Any] = {
            "name": OWN if own is not None and node.id != "data" else before.data
        }
        found |= {"label_noise": before.label_noise} if found["name"] == before.data else {}
    else:
        found = _find_suite(node)
    name = found["name"]
    if weighed is not None:
        first = SUITES[name].first_task if name != OWN else own.task_names[0] if own else None
        if not isinstance(weighed, dict) or list(weighed) != [first]:
            raise ValueError(f"the playground weighs {first!r} only, got weigh({weighed!r}).")
        weight = weighed[first]
    return found, weight


def _find_suite(node: ast.expr) -> dict[str, Any]:
    words = ast.unparse(node)
    if isinstance(node, ast.Call) and not node.args:
        given = _read_keywords(node)
        free = {"seed": given.pop("seed", 0)}
        if "label_noise" in given:
            free["label_noise"] = given.pop("label_noise")
        for name, suite in SUITES.items():
            if ast.unparse(node.func) == f"data.{suite.call}" and given == suite.arguments:
                return {"name": name, **free}
    offered = [f"data.{s.call}({_tell(s.arguments)})" for s in SUITES.values()]
    raise ValueError(f"the playground has no data {words}; it has {', '.join(offered)}.")


def _tell(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _read_keywords(call: ast.Call) -> dict[str, Any]:
    return {keyword.arg or "**": _literal(keyword.value) for keyword in call.keywords}


def _literal(node: ast.expr) -> Any:
    """A number, text, tuple, dict, or one of the configs: nothing else is understood."""
    if isinstance(node, ast.Call):
        kind = _CONFIGS.get(ast.unparse(node.func))
        given = _read_keywords(node)
        known = {entry.name for entry in fields(kind)} if kind else set()
        if kind is None or node.args or not given.keys() <= known:
            raise ValueError(f"{ast.unparse(node)} is no setting that a run has.")
        return kind(**given)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{ast.unparse(node)} is no plain value.") from error


# ---------------------------------------------------------------- a link to the what-if page
PAGE = "what_if.html"
_OURS = "spare heads optimiser_assignment lr_assignment pretrain steps".split()
_SPARE_DIGITS = replace(TOY["digits"], **{name: getattr(TOY["faces"], name) for name in _OURS})
_RECIPES = {  # of data_scripts/make_what_if.py
    ("faces", "none"): TOY["faces_plain"],
    ("faces", "double"): TOY["faces"],
    ("digits", "none"): TOY["digits"],
    ("digits", "double"): _SPARE_DIGITS,
}
_KEYS: dict[str, tuple[Any, ...]] = {  # what it has recorded; the first is the default
    "data": ("faces", "digits"),
    "k": (3, 1, 2, 4, 5, 6),
    "tau": (2.5, 0.25, 0.5, 1.0, 10.0),
    "rate": (1.0, 0.1, 0.3, 3.0, 10.0),
    "spare": ("none", "double"),
}


def to_link(settings: Mapping[str, Settings]) -> tuple[str, list[str]]:
    """The page with settings as near to these as it has, and what it has not, in words."""
    query, lacking = dict[str, Any](), list[str]()
    for run, prefix in zip(RUNS, ("", "b."), strict=True):
        own, keys = settings[run], _find_keys(settings[run])
        query |= {
            prefix + name: f"{v:g}" if isinstance(v, float) else v for name, v in keys.items()
        }
        there = _on_page(keys)
        lacking += [
            f"{run}: {control.label} {control.say(value)} (there: {control.say(other)})"
            for control in CONTROLS
            if (value := own.form[control.name]) != (other := there.form[control.name])
        ]
        if there.form == own.form and there != own:
            lacking.append(f"{run}: what else its line says of the config")
    return f"{PAGE}#{urlencode(query)}", lacking


def from_link(text: str) -> dict[str, Settings]:
    """Settings of run A, and of B where the link has a second one.

    Args:
        text: The address, or what stands behind its ``#``.

    Raises:
        ValueError: If a key or a value is none of the page's; the message names it.
    """
    try:
        pairs = parse_qsl(text.strip().rpartition("#")[2], strict_parsing=True)
    except ValueError:
        pairs = []
    if not pairs:
        raise ValueError(
            f"this is no link to {PAGE}: behind its # stands k=3&tau=2.5, say; got "
            f"{describe(text)}."
        )
    first, second = dict[str, Any](), dict[str, Any]()
    for key, value in pairs:
        side, name = (second, key[2:]) if key.startswith("b.") else (first, key)
        if key != "at":  # where the page stands still
            side[name] = _read_key(key, name, value)
    found = {"A": _on_page(first)}
    return found | ({"B": _on_page(first | second)} if second else {})


def _read_key(key: str, name: str, value: str) -> Any:
    """A value as the page knows it."""
    if name == "seed" and value.isdecimal():
        return int(value)
    known = {f"{v:g}" if isinstance(v, int | float) else v: v for v in _KEYS.get(name, ())}
    if value in known:
        return known[value]
    if name in known or name == "seed" or name in _KEYS:
        offered = ", ".join(known) or "a whole number"
        raise ValueError(f"the link says {key}={value}, and {name} is one of {offered}.")
    raise ValueError(
        f"the link has a key {key!r}; {PAGE} knows {', '.join([*_KEYS, 'seed', 'at'])}, and the "
        "same with b. before."
    )


def _on_page(keys: Mapping[str, Any]) -> Settings:
    """What the page has under these keys; one that is missing has its default."""
    defaults: dict[str, Any] = {name: values[0] for name, values in _KEYS.items()} | {"seed": 0}
    keys = defaults | dict(keys)
    recipe = _RECIPES[keys["data"], keys["spare"]]
    rate = keys["rate"] * (recipe.lr_assignment or recipe.lr)
    config = replace(recipe, tau=keys["tau"], lr_assignment=rate, seed=keys["seed"])
    return Settings(data=keys["data"], n_groups=keys["k"], config=config)


def _find_keys(settings: Settings) -> dict[str, Any]:
    """The nearest that the page has."""
    form = settings.form
    keys = {
        "data": settings.data if settings.data in _KEYS["data"] else "faces",
        "k": settings.n_groups if settings.n_groups in _KEYS["k"] else 6,
        "tau": _find_nearest("tau", form["tau"]),
        "spare": "double" if form["spare"] else "none",
    }
    recipe = _RECIPES[keys["data"], keys["spare"]]
    rate = form["lr_assignment"] / (recipe.lr_assignment or recipe.lr)
    return keys | {"rate": _find_nearest("rate", rate), "seed": form["seed"]}


def _find_nearest(name: str, value: float) -> float:
    return min(_KEYS[name], key=lambda known: abs(log(known / max(value, 1e-9))))
