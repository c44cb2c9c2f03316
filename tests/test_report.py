"""The page of `write_report` as a reader meets it: in a browser, with a mouse or a keyboard.

Left out where Chromium is missing: `sudo apt-get install chromium`.
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from playwright import sync_api as playwright
from test_browser import CHROMIUM, FLAGS
from test_repository import copy_of_tree

from datarater.curation import Ratings, write_report
from datarater.curation.contents import fingerprint
from datarater.curation.ratings import COLUMNS
from datarater.data import TensorPairs

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)
NAMES = ["</td><img src=x onerror=alert(1)>", "dog", "owl"]


class Opened(NamedTuple):
    "A page, the ratings it shows, and what went wrong in it."

    page: playwright.Page
    ratings: Ratings
    troubles: list[str]  # errors, dialogs and requests


@pytest.fixture
def opened(tmp_path) -> Iterator[Opened]:
    "A report of 300 images in three classes, the first of which is rated lower than the others."
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=generator)
    dataset = TensorPairs(images, torch.arange(300) % 3, num_classes=3)
    dataset.classes = NAMES
    table = pd.DataFrame({"index": range(300), "label": np.arange(300) % 3})
    table["rating"] = np.arange(300, dtype=np.float32) + 150 * (table["label"] > 0)
    ratings = Ratings(table.reindex(columns=COLUMNS), 300, fingerprint(dataset))
    probabilities = torch.eye(3)[(torch.arange(300) + 1) % 3]
    path = write_report(ratings, dataset, tmp_path / "report.html", 0.8, probabilities)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page, troubles = browser.new_page(viewport={"width": 390, "height": 800}), []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: troubles.append(request.url))
        page.goto(path.as_uri())
        assert troubles.pop(0) == path.as_uri()  # the page itself, which asks for nothing else
        yield Opened(page, ratings, troubles)
        assert not [url for url in troubles if not url.startswith("data:")]
        browser.close()


def shares_shown(page: playwright.Page) -> dict[str, str]:
    "The table of classes: name and share kept."
    names = page.locator("#classes th").all_inner_texts()
    return dict(zip(names, page.locator("#classes .share .number").all_inner_texts(), strict=True))


def shares_of(ratings: Ratings, num_kept: int) -> dict[str, str]:
    "The same from the table of ratings."
    kept = ratings.table.nlargest(num_kept, "rating")["label"].value_counts()
    return {name: f"{kept.get(label, 0):.1f}%" for label, name in enumerate(NAMES)}


@needs_chromium
def test_slider_moves_everything(opened):
    "The number kept, the shares of the classes, the warnings, the histogram, the suspects."
    page, ratings, _ = opened
    assert page.locator("#kept").inner_text().startswith("80.0%: 240 of 300 samples, rated ")
    assert shares_shown(page) == shares_of(ratings, 240)
    assert page.locator("#warnings").inner_text() == ""
    assert set(page.locator("[data-rank]").all_inner_texts()) == {"kept", "dropped"}
    height = "bars => bars.reduce((sum, bar) => sum + Number(bar.getAttribute('height')), 0)"
    heights = page.locator("#histogram .kept").evaluate_all(height)

    page.locator("#keep").fill("50")
    assert page.locator("#kept").inner_text().startswith("50.0%: 150 of 300 samples, rated ")
    assert shares_shown(page) == shares_of(ratings, 150)
    assert page.locator("#histogram .kept").evaluate_all(height) < heights
    less = "kept less than half as often as samples overall"
    page.locator("#keep").fill("40")
    assert page.locator("#warnings").inner_text() == f"Class {NAMES[0]}: {less}."
    page.locator("#keep").fill("20")
    assert page.locator("#warnings").inner_text() == f"Class {NAMES[0]}: none is kept."

    page.locator("#keep").press("Home")  # by the keyboard alone
    assert page.locator("#kept").inner_text().startswith("0.3%: 1 of 300 samples")
    assert set(page.locator("[data-rank]").all_inner_texts()) == {"dropped"}
    page.locator("#keep").press("End")
    assert set(shares_shown(page).values()) == {"100.0%"}
    assert page.locator("#keep").get_attribute("aria-valuetext").startswith("100.0%: 300 of 300")


@needs_chromium
def test_page_fits_and_is_seen(opened):
    "All pictures are drawn, nothing is wider than a phone, in light and dark."
    page = opened.page
    drawn = "images => images.every(image => image.complete && image.naturalWidth === 8)"
    assert page.locator("img").count() == 36 + 36 + 24
    assert page.locator("img").evaluate_all(drawn)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(back)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(back) != light


@needs_chromium
def test_no_other_script_runs(opened):
    "A script that slipped into the page is refused, and so is an image from elsewhere."
    page, _, troubles = opened
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.slipped = 1'}))"
    )
    page.evaluate(
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))"
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.slipped") is None
    assert len([text for text in troubles if "Content Security Policy" in text]) == 2
    troubles.clear()  # they were asked for


def test_package_holds_the_template(tmp_path):
    "What setup.py builds has report.html beside the module that fills it."
    copy = copy_of_tree(tmp_path / "copy")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (tmp_path / "datarater" / "curation" / "report.html").is_file()
