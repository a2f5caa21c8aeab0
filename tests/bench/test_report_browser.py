"""How a browser shows the report of a suite: on a phone, in the dark, in print, and with the keyboard."""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from test_report import METHODS, broken, page_of, suite

from bo_suite.bench.reporting import SCRIPT

get_plotlyjs = pytest.importorskip("plotly.offline").get_plotlyjs

PROGRAM = next(
    (found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), ""
)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PROGRAM, reason="needs Chromium or Chrome on the path"),
]

# The browser reads from descriptor 3 and writes to 4.
START = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 100); os.dup2(w, 101); "
    "os.dup2(100, 3); os.dup2(101, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
SECONDS = 60
CONTRASTS = """
(() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255);
    const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const words = 'p, a:not(.skip), caption, th, td, dd, figcaption, .chart text';
  const inks = [...document.querySelectorAll(words)].map(e => [e, getComputedStyle(e)])
    .map(([e, style]) => e.closest('.chart') ? style.fill : style.color);
  return [...new Set(inks)].map(ink => {
    const [low, high] = [light(ink), paper].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
})()
"""


class Browser:
    """A headless browser with one page, spoken to over the pipe of its DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()
        arguments = [*OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(theirs_in), str(theirs_out), PROGRAM, *arguments],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.numbers, self.rest, self.session = count(1), b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.ours_in], [], [], SECONDS)
            part = os.read(self.ours_in, 1 << 16) if ready else b""
            assert part, "the browser does not answer"
            self.rest += part
        text, self.rest = self.rest.split(b"\0", 1)
        return dict(json.loads(text))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        while (answer := self.message()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def value(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"]["value"]

    def show(self, path: Path, *, width: int, scheme: str = "light", media: str = "screen") -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not self.happened("Page.loadEventFired"):
            self.events.append(self.message())

    def happened(self, *methods: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("method") in methods]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)
        os.close(self.ours_in)
        os.close(self.ours_out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    names = ("<script>alert(1)</script>", "one of a long name of many words (with more)", *METHODS)
    path.write_text(page_of(broken(suite(problems=3, methods=names, budget=20))), encoding="utf-8")
    (path.parent / SCRIPT).write_text(get_plotlyjs(), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [360, 1280])
def test_every_figure_is_drawn_within_the_page_and_only_wide_tables_scroll(
    browser: Browser, page: Path, width: int
) -> None:
    browser.show(page, width=width)
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    drawn = "[...document.querySelectorAll('figure')].map(e => e.querySelector('.chart svg text') !== null)"
    assert browser.value(drawn) == [True] * (4 + 1 + 3 + 1)
    right = (
        "Math.max(...[...document.querySelectorAll('.chart svg')].map(e => e.getBoundingClientRect().right))"
    )
    assert browser.value(right) <= width
    wide = "[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)"
    assert browser.value(wide) or width == 1280


def test_names_are_shown_letter_by_letter(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)
    legend = "[...document.querySelectorAll('.chart .legendtext')].map(e => e.textContent)"
    assert {"<script>alert(1)</script>", "one of a long name…h more)"} <= set(browser.value(legend))


def test_nothing_is_logged_and_nothing_but_the_script_is_requested(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)
    browser.value("document.body.textContent.length")
    noise = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert browser.happened(*noise) == []
    asked = [event["params"]["request"]["url"] for event in browser.happened("Network.requestWillBeSent")]
    wanted = [page.as_uri(), (page.parent / SCRIPT).as_uri()]
    assert [address for address in asked if not address.startswith("data:")] == wanted


def test_dark_mode_differs_and_both_modes_have_contrast(browser: Browser, page: Path) -> None:
    papers = []
    for scheme in ("light", "dark"):
        browser.show(page, width=1280, scheme=scheme)
        papers.append(browser.value("getComputedStyle(document.body).backgroundColor"))
        contrasts = browser.value(CONTRASTS)
        assert len(contrasts) >= 3
        assert min(contrasts) >= 4.5
    assert papers[0] != papers[1]


def test_print_has_pages_on_which_nothing_is_cut_off(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280, scheme="dark")
    printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 3
    browser.show(page, width=700, scheme="dark", media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("document.documentElement.scrollWidth") <= 700
    beyond = "e => e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right + 1"
    assert browser.value(f"[...document.querySelectorAll('table')].filter({beyond}).length") == 0
    assert browser.value("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_the_keyboard_reaches_the_results_first_and_every_part_that_scrolls(
    browser: Browser, page: Path
) -> None:
    browser.show(page, width=360)
    focused = []
    for _ in range(60):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        name = "document.activeElement.className + ' ' + (document.activeElement.ariaLabel || '')"
        focused.append(browser.value(name))
        if len(focused) == 1:
            assert browser.value("document.activeElement.getBoundingClientRect().left >= 0")
            outline = browser.value("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
    regions = browser.value("[...document.querySelectorAll('.scroll')].map(e => 'scroll ' + e.ariaLabel)")
    assert focused[0].startswith("skip")
    assert len(regions) > 5
    assert set(regions) <= set(focused)
