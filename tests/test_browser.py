"""The quick start as a user meets it: JupyterLab in a browser, all cells run, figures and the progress bar to be seen, no error.

Left out where Chromium is missing: `sudo apt-get install chromium`.
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
from collections.abc import Iterator
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
    settings = {
        key: str(tmp_path / key.lower())
        for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
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
            command,
            cwd=tmp_path,
            env={
                **{key: value for key, value in os.environ.items() if key != "IN_TEST"},
                **settings,
            },
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
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
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=5
        ) as response:
            return response.status == 200
    except OSError:
        return False


def wait_for(is_so, seconds: float, told_otherwise=lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {told_otherwise()}")
        time.sleep(0.5)


def test_quick_start_in_jupyterlab(lab, tmp_path):
    path = tmp_path / "nbs" / "tutorials" / "quickstart.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    num_code = sum(cell["cell_type"] == "code" for cell in cells)
    for cell in cells:  # so that what is seen was made here
        cell.get("outputs", []).clear()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**notebook, "cells": cells}), encoding="utf-8")
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
            """A kernel is idle, and JupyterLab has asked for none in the last seconds: what it is
            given in answer replaces the one before, and what that was to run is lost.
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
