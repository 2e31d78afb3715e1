"""The dashboard of a folder as a browser page of its own: voila serves it, on this machine alone.

The page is a notebook of one cell. Folder, port and token reach voila by environment and a
configuration file that nobody else can read, so no word of theirs is ever part of a command.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

HOST = "127.0.0.1"
FOLDER = "DMTG_WATCH"  # the environment variable that carries the folder to the page's kernel
CELL = f"""import os
from dmtg_lite.views.widgets import Dashboard
Dashboard.follow(os.environ["{FOLDER}"])"""
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
    missing = [name for name in ("voila", "ipywidgets", "anywidget") if find_spec(name) is None]
    if missing:
        raise ImportError(f'watching needs {missing[0]}: pip install "dmtg-lite[notebook,watch]"')
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, where a folder of runs is due.")
    port, token = _find_port(port), secrets.token_urlsafe(24)
    with TemporaryDirectory(prefix="dmtg-watch-", ignore_cleanup_errors=True) as home:
        page = f"http://{HOST}:{port}/"
        with _serve(Path(home), folder, port, token) as server:
            _wait_for(page, server, Path(home) / "log.txt")
            address = f"{page}?token={token}"
            say(f"watching {folder} at\n{address}\nCtrl-C ends this page; the run goes on.")
            if open_browser:
                webbrowser.open(address)
            server.wait()
            raise OSError(f"the page has ended by itself: {_read_end(Path(home) / 'log.txt')}")


def _find_port(port: int | None) -> int:
    with socket.socket() as free:
        try:
            free.bind((HOST, port or 0))
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} cannot be had ({error}): give another.") from None
        return free.getsockname()[1]


@contextmanager
def _serve(home: Path, folder: Path, port: int, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """voila in a process of its own, which ends with the block, also at SIGTERM."""
    cell = {"cell_type": "code", "source": CELL, "metadata": {}, "outputs": []}
    notebook = {
        "cells": [cell | {"execution_count": None, "id": "watch"}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (home / "watch.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    voila = {"ip": HOST, "port": port, "port_retries": 0, "token": token, "open_browser": False}
    voila["tornado_settings"] = {"headers": {"Content-Security-Policy": ONLY_FROM_HERE}}
    config = {"Voila": voila, "VoilaConfiguration": {"show_tracebacks": True}}
    (home / "voila.json").write_text(json.dumps(config), encoding="utf-8")
    package = str(Path(__file__).parents[2])  # the kernel stands in another folder than we do
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    env = {**os.environ, FOLDER: str(folder), "PYTHONPATH": path}
    command = [sys.executable, "-m", "voila", "watch.ipynb"]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with open(home / "log.txt", "wb") as log:
        # in a session of its own: Ctrl-C is for us, and we end it
        server = subprocess.Popen(
            command, cwd=home, env=env, stdout=log, stderr=log, start_new_session=True
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
