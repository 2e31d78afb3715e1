"""Dashboards as browser pages of their own: voila serves them, on this machine alone.

The page of a folder is a notebook of one cell; a lecture's are notebooks without their code.
Folder, port and token reach voila by environment and a configuration file that nobody else can
read, so no word of theirs is ever part of a command.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from dmtg_lite.files import check_is_file
from dmtg_lite.views.background import NEW_GROUP

HOST = "127.0.0.1"
FOLDER = "DMTG_WATCH"  # the environment variable that carries the folder to the page's kernel
CELL = f"""import os
from dmtg_lite.views.widgets import Dashboard
Dashboard.follow(os.environ["{FOLDER}"])"""
HIDE = "DMTG_HIDE"  # and the one with the controls that dashboards leave out
START_WITHIN = 60.0  # seconds; voila takes two to ten
# all it shows comes from here: voila's own template would fetch a font from afar
ONLY_FROM_HERE = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' ws:; frame-ancestors 'self'"
)


def watch(
    folder: str | Path,
    *,
    port: int | None = None,
    open_browser: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the dashboard of a folder, on 127.0.0.1 and behind a token, until interrupted.

    Args:
        folder: Of one run or of several; there may be none yet.
        port: ``None``: a free one.
        open_browser: Open the page; its address is said in any case.
        say: Told the address, when the page is there.

    Raises:
        ImportError: If voila is not installed.
        ValueError: If the folder is a file or the port is taken.
        OSError: If voila does not start.
    """
    _check_installed("watching")
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, where a folder of runs is due.")
    words = f"watching {folder}", "Ctrl-C ends this page; the run goes on."
    with TemporaryDirectory(prefix="dmtg-watch-", ignore_cleanup_errors=True) as home:
        cell = {"cell_type": "code", "source": CELL, "metadata": {}, "outputs": []}
        notebook = {
            "cells": [cell | {"execution_count": None, "id": "watch"}],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (Path(home) / "watch.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        env = {FOLDER: str(folder)}
        _serve_pages(Path(home), "watch.ipynb", env, words, port, open_browser, say)


def present(
    notebooks: Sequence[str | Path],
    *,
    hide: Sequence[str] = (),
    port: int | None = None,
    open_browser: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Serve notebooks as pages without their code, each visit with a kernel of its own.

    They are copied first: what is done on a page changes no file.

    Args:
        notebooks: ``.ipynb`` files; the pictures in ``img`` beside the first one come along.
        hide: Controls that every dashboard leaves out, as in `Dashboard`.
        port, open_browser, say: As in `watch`.

    Raises:
        ImportError: If voila is not installed.
        ValueError: If a notebook is none, a control is unknown or the port is taken.
        OSError: If voila does not start, or a notebook is missing.
    """
    _check_installed("presenting")
    from dmtg_lite.views.widgets.dashboard import check_hidden

    check_hidden(hide)
    paths = [check_is_file(path, "notebook") for path in notebooks]
    if wrong := [str(path) for path in paths if path.suffix != ".ipynb"]:
        raise ValueError(f"{wrong[0]} is no notebook: give .ipynb files.")
    names = ", ".join(path.stem for path in paths)
    words = f"presenting {names}", "Ctrl-C ends the pages and their kernels."
    with TemporaryDirectory(prefix="dmtg-present-", ignore_cleanup_errors=True) as home:
        for path in paths:
            shutil.copy(path, home)
        if (pictures := paths[0].parent / "img").is_dir():
            shutil.copytree(pictures, Path(home) / "img")
        _serve_pages(Path(home), ".", {HIDE: ",".join(hide)}, words, port, open_browser, say)


def _check_installed(what: str) -> None:
    missing = [name for name in ("voila", "ipywidgets", "anywidget") if find_spec(name) is None]
    if missing:
        raise ImportError(f'{what} needs {missing[0]}: pip install "dmtg-lite[notebook,watch]"')


def _serve_pages(
    home: Path,
    target: str,
    env: dict[str, str],
    words: tuple[str, str],
    port: int | None,
    open_browser: bool,
    say: Callable[[str], object],
) -> None:
    """Serve what lies in ``home``; between ``words`` the address is said."""
    port, token = _find_port(port), secrets.token_urlsafe(24)
    page = f"http://{HOST}:{port}/"
    with _serve(home, target, env, port, token) as server:
        _wait_for(page, server, home / "log.txt")
        address = f"{page}?token={token}"
        say(f"{words[0]} at\n{address}\n{words[1]}")
        if open_browser:
            webbrowser.open(address)
        server.wait()
        raise OSError(f"the page has ended by itself: {_read_end(home / 'log.txt')}")


def _find_port(port: int | None) -> int:
    with socket.socket() as free:
        try:
            free.bind((HOST, port or 0))
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} cannot be had ({error}): give another.") from None
        return free.getsockname()[1]


@contextmanager
def _serve(
    home: Path, target: str, env: dict[str, str], port: int, token: str
) -> Iterator[subprocess.Popen[bytes]]:
    """voila in a process of its own, which ends with the block, also at SIGTERM."""
    voila = {"ip": HOST, "port": port, "port_retries": 0, "token": token, "open_browser": False}
    voila["tornado_settings"] = {"headers": {"Content-Security-Policy": ONLY_FROM_HERE}}
    config = {"Voila": voila}
    config["VoilaConfiguration"] = {"show_tracebacks": True, "classic_tree": True}
    (home / "voila.json").write_text(json.dumps(config), encoding="utf-8")
    package = str(Path(__file__).parents[2])  # the kernel stands in another folder than we do
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    env = {**os.environ, **env, "PYTHONPATH": path}
    command = [sys.executable, "-m", "voila", target]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with open(home / "log.txt", "wb") as log:
        # in a session of its own: Ctrl-C is for us, and we end it
        server = subprocess.Popen(
            command,
            cwd=home,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
            creationflags=NEW_GROUP,
        )
    try:
        yield server
    finally:
        server.terminate()  # it shuts its kernels down
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        signal.signal(signal.SIGTERM, before)


def _wait_for(page: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers, and asks for the token."""
    end = time.monotonic() + START_WITHIN
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(page, timeout=5) as answer:
                if "/login" in answer.url:
                    return
            raise OSError("this voila asks for no token: pip install -U voila")
        except urllib.error.URLError:  # not there yet
            time.sleep(0.1)
    raise OSError(f"voila does not start: {_read_end(log)}")


def _read_end(log: Path) -> str:
    """The last line that a server left, which is what it died of."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
