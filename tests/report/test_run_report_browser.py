"""How a browser shows the report of a run: every figure is drawn, nothing overflows, nothing is asked for."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_report_browser import CONTRASTS, PROGRAM, Browser

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.report import report_run

pytest.importorskip("plotly.offline")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PROGRAM, reason="needs Chromium or Chrome on the path"),
]

SPACE = Space(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "a long <b>name</b> of many words": Int(1, 12),
        "act": Choice(["relu", "tanh", "gelu"]),
    }
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.db"
    with closing(Optimizer(SPACE, storage=path, seed=0)) as optimizer:
        for number in range(12):
            trial = optimizer.ask()
            if number == 3:
                optimizer.fail(trial, "out of memory")
            else:
                optimizer.tell(trial, trial.params["lr"] + (trial.params["act"] == "tanh"))
    return report_run(path)


@pytest.mark.parametrize("width", [360, 1280])
def test_every_figure_is_drawn_within_the_page(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    drawn = "[...document.querySelectorAll('figure')].map(e => e.querySelector('.chart svg text') !== null)"
    assert browser.value(drawn) == [True] * (1 + 1 + 3 + 1 + 1 + 1)
    right = (
        "Math.max(...[...document.querySelectorAll('.chart svg')].map(e => e.getBoundingClientRect().right))"
    )
    assert browser.value(right) <= width


def test_names_are_shown_letter_by_letter(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)
    titles = browser.value("[...document.querySelectorAll('.chart .xtitle')].map(e => e.textContent)")
    assert "a long <b>name</b> of …y words" in titles


def test_nothing_is_logged_and_nothing_is_requested(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)
    browser.value("document.body.textContent.length")
    noise = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert browser.happened(*noise) == []
    asked = [event["params"]["request"]["url"] for event in browser.happened("Network.requestWillBeSent")]
    assert [address for address in asked if not address.startswith(("data:", "blob:"))] == [page.as_uri()]


def test_both_modes_have_contrast(browser: Browser, page: Path) -> None:
    for scheme in ("light", "dark"):
        browser.show(page, width=1280, scheme=scheme)
        assert min(browser.value(CONTRASTS)) >= 4.5
