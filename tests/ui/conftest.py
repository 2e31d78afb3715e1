"""A browser, and a JupyterLab of its own on a free loopback port with nothing of the user's in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
FLAGS = (  # the network flags keep Chromium from calling home, which a closed network punishes
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


def watch_errors(page: Page) -> list[str]:
    """Collects what the page complains about."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"page error: {error}"))
    page.on("console", lambda m: errors.append(f"console: {m.text}") if m.type == "error" else None)
    return errors


@contextmanager
def run_lab(home: Path, *, theme: str = "JupyterLab Light") -> Iterator[str]:
    """Start JupyterLab on ``home / "work"`` and give its address, token included."""
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True)
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        **{
            f"{name}_DIR": str(home / name.lower())
            for name in ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_WORKSPACES")
        },
    }
    env.pop("DMTG_HEADLESS", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", f"--ServerApp.root_dir={work}", "--IdentityProvider.token=test",
        "--LabApp.expose_app_in_browser=True",  # lets a test run cells and ask about the kernel
    ]  # fmt: skip
    with open(home / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=test", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None:
                    raise RuntimeError((home / "lab.log").read_text()[-2000:]) from None
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token=test"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def lab(tmp_path: Path, chromium: str) -> Iterator[tuple[str, Path]]:
    """Address of a running Lab (a format string for the notebook's name) and its folder."""
    with run_lab(tmp_path) as address:
        yield address, tmp_path / "work"
