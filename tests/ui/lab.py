"""A JupyterLab of its own on a free port with nothing of the user's in it, and a visit to it."""

from __future__ import annotations

import ast
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

from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
CELLS = ".dmtg-heat tbody tr"


class Visit:
    """One notebook open in Lab, and the few things a person does with it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.state = page.locator("b.dmtg-state")

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.wait_for_kernel()

    def reload(self) -> None:
        """F5; the question whether to leave an unsaved page is answered with yes."""
        self.page.once("dialog", lambda dialog: dialog.accept())
        self.page.reload()
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
        self.page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=90_000,
        )

    def button(self, text: str) -> Locator:
        return self.page.locator("button.widget-button", has_text=text)

    def handle(self, label: str) -> Locator:
        """The part of a slider that takes the keyboard."""
        return self.page.get_by_role("slider", name=label)

    def words(self, text: str) -> Locator:
        """Words above the pictures; the still that the notebook keeps says them too, unseen."""
        return self.page.locator(".widget-html-content", has_text=text)

    def heat_map(self) -> list[list[str]]:
        """The numbers in the matrix, as they stand on the page."""
        return self.page.evaluate(
            f"[...document.querySelectorAll('{CELLS}')].map(row =>"
            " [...row.querySelectorAll('td')].map(cell => cell.textContent))"
        )

    def wait_for_heat_map(self, expression: str, seconds: float = 30) -> None:
        """Until the page's numbers are those of a Python expression in the kernel."""
        end = time.monotonic() + seconds
        text = f"[[f'{{p:.2f}}' for p in row] for row in {expression}]"
        while (there := self.heat_map()) != (here := self.ask(text)):
            assert time.monotonic() < end, (there, here)
            time.sleep(0.2)

    def ask(self, expression: str) -> object:
        """The value of a Python expression in the notebook's kernel."""
        reply = self.page.evaluate(
            """async (code) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const request = {code: "pass", user_expressions: {value: code}};
                const reply = await kernel.requestExecute(request).done;
                return reply.content.user_expressions.value;
            }""",
            f"__import__('json').dumps({expression})",
        )
        assert reply["status"] == "ok", reply
        return json.loads(ast.literal_eval(reply["data"]["text/plain"]))

    def ask_until(self, expression: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.1)

    def occupy(self, seconds: float) -> None:
        """Keep the kernel busy with a cell; ``is_over`` says there whether it came to its end."""
        self.page.evaluate(
            """(code) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                kernel.requestExecute({code});
            }""",
            f"import time\nis_over = False\ntime.sleep({seconds})\nis_over = True",
        )

    def interrupt(self) -> None:
        """End the cell that runs."""
        self.page.evaluate(
            "jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
        )

    def run_cells(self, containing: tuple[str, ...]) -> None:
        self.page.evaluate(
            """async (texts) => {
                const notebook = jupyterapp.shell.currentWidget.content;
                for (const [i, cell] of notebook.widgets.entries()) {
                    const source = cell.model.sharedModel.getSource();
                    const isWanted = texts.some((text) => source.includes(text));
                    if (cell.model.type !== "code" || !isWanted) continue;
                    notebook.activeCellIndex = i;
                    await jupyterapp.commands.execute("notebook:run-cell");
                }
            }""",
            list(containing),
        )


@contextmanager
def run_lab(
    home: Path, *, theme: str = "JupyterLab Light", app: str = "jupyterlab"
) -> Iterator[str]:
    """Start JupyterLab on ``home / "work"``, or Notebook 7 with the ``app`` "notebook", and give
    its address, token included."""
    trait, place = {
        "jupyterlab": ("LabApp", "lab/tree"),
        "notebook": ("JupyterNotebookApp", "notebooks"),
    }[app]
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
            for name in (
                "JUPYTER_CONFIG",
                "JUPYTER_DATA",
                "JUPYTER_RUNTIME",
                "JUPYTERLAB_WORKSPACES",
            )
        },
    }
    env.pop("DMTG_HEADLESS", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", app, "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", f"--ServerApp.root_dir={work}", "--IdentityProvider.token=test",
        f"--{trait}.expose_app_in_browser=True",  # lets a test run cells and ask about the kernel
    ]  # fmt: skip
    with open(home / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        for _ in range(1200):  # minutes, on a machine that others keep busy
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=test", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None:
                    raise RuntimeError((home / "lab.log").read_text()[-2000:]) from None
                time.sleep(0.25)
        else:
            raise RuntimeError(f"no answer from {app}: {(home / 'lab.log').read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/{place}/{{}}?token=test"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
