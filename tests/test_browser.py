"""The quick start as a user meets it: JupyterLab in a browser.

All cells run, the figures and the progress bar are there, and there is no error. Left out where
Chromium is missing: `sudo apt-get install chromium`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from playwright import sync_api as playwright
from tree import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def lab(tmp_path) -> Iterator[str]:
    "The address of a JupyterLab that serves a copy of the notebooks."
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", symlinks=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "IN_TEST"}
    for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        environment[key] = str(tmp_path / key.lower())
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={tmp_path}",
    ]
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(
            lambda: answers(f"{address}/api"),
            60,
            lambda: (tmp_path / "lab.log").read_text()[-2000:],
        )
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(url: str) -> bool:
    "Whether a server is there."
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def wait_for(
    is_so: Callable[[], object],
    seconds: float,
    what_happened: Callable[[], str],  # for the message if it does not come
) -> None:
    "Wait until something is so."
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds} s: {what_happened()}")
        time.sleep(0.5)


def test_quick_start_in_jupyterlab(lab, tmp_path):
    "All its cells run; the figures, the table and the finished progress bar are shown."
    path = tmp_path / "nbs" / "tutorials" / "quickstart.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    num_code = sum(cell["cell_type"] == "code" for cell in notebook["cells"])
    for cell in notebook["cells"]:  # so that what is seen was made here
        cell.get("outputs", []).clear()
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        # tall: cells out of sight are not drawn
        page = browser.new_page(viewport={"width": 1200, "height": 9000})
        page.goto(f"{lab}/lab/tree/nbs/tutorials/quickstart.ipynb", timeout=60_000)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)

        def numbers() -> list[str]:
            page.locator(".jp-CodeCell").last.scroll_into_view_if_needed()
            return [
                text.strip()
                for text in page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
            ]

        def is_ready() -> bool:
            """Whether a kernel is idle and JupyterLab has asked for none in the last seconds.

            A new kernel would replace it, and lose what the old one was to run.
            """
            if page.locator(".jp-Dialog").count():
                page.locator(".jp-Dialog .jp-mod-accept").click(timeout=3_000)
            page.wait_for_timeout(5_000)
            return (
                not page.locator(".jp-Dialog").count()
                and page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").count() > 0
            )

        def has_begun() -> bool:
            with suppress(playwright.TimeoutError):  # of a click: a dialog came in between
                if is_ready():
                    page.get_by_role("menuitem", name="Run", exact=True).click(timeout=3_000)
                    page.get_by_text(re.compile("^Run All Cells$")).click(timeout=3_000)
                    page.wait_for_timeout(5_000)
            return set(numbers()) != {"[ ]:"}

        def what_happened() -> str:
            page.screenshot(path=str(tmp_path / "lab.png"))
            return (
                f"{numbers()}, see {tmp_path}/lab.png; {(tmp_path / 'lab.log').read_text()[-1500:]}"
            )

        errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
        wait_for(has_begun, 120, what_happened)
        wait_for(
            lambda: (
                errors.count()
                or sum(bool(re.fullmatch(r"\[\d+\]:", text)) for text in numbers()) >= num_code
            ),
            600,
            what_happened,
        )
        assert not errors.count(), errors.all_inner_texts()
        page.screenshot(path=str(tmp_path / "lab.png"), full_page=True)
        # the images, the best and worst rated, rating against damage
        assert page.locator(".jp-RenderedImage img").count() >= 3
        assert page.locator(".jp-RenderedHTMLCommon table.dataframe").count() >= 1
        # the progress bar at its end
        assert "100%" in "".join(page.locator(".jp-OutputArea-output").all_inner_texts())
        browser.close()
