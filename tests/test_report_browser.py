"""The class report in a real browser: sorting by mouse and by keyboard, a phone's width."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from chromium import Browser, browse, needs_chromium

from autograder.engine.verdict import FAILED, PASSED, ExerciseResult, Verdict
from autograder.engine.verdict import TestResult as Outcome
from autograder.gradebook.journal import Record
from autograder.report.page import render
from autograder.report.record import ClassRecord

SCORES = {"ann": 3.0, "bob": 10.0, "cyd": 0.0, "dot": 5.5}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

pytestmark = needs_chromium


def verdict(score: float) -> Verdict:
    outcome = Outcome("whole", PASSED if score == 10 else FAILED, score, 10.0, "", "cpu")
    result = ExerciseResult("long_exercise_name", score, 10.0, [outcome])
    return Verdict("ch99/it", score, 10.0, ["cpu"], {"in force": [], "missing": {}}, [result])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = tuple(Record("k", s, "ch99/it", verdict(points)) for s, points in SCORES.items())
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(ClassRecord("ch99", records), datetime.now(UTC)), encoding="utf-8")
    return path


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Browser]:
    with browse(page.as_uri(), tmp_path / "profile") as driven:
        driven.wait_for("document.readyState === 'complete' && document.title !== ''")
        yield driven


def names(browser: Browser) -> list[str]:
    rows = "[...document.querySelectorAll('#students tbody tr')]"
    return list(browser.evaluate(f"{rows}.map(row => row.cells[0].textContent.trim())"))


SCORE = "#students thead th:nth-child(2)"


def test_sorts_by_mouse_and_keyboard_and_says_so(browser: Browser) -> None:
    assert names(browser) == ["ann", "bob", "cyd", "dot"]
    browser.click(f"{SCORE} button")
    assert names(browser) == ["bob", "dot", "ann", "cyd"]  # as numbers: 10 above 5.5
    heading = f"document.querySelector({SCORE!r})"
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser.evaluate(f"{heading}.querySelector('button').focus()")
    browser.press("Enter", "\r")
    assert names(browser) == ["cyd", "ann", "dot", "bob"]
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"
    status = browser.evaluate("document.getElementById('sort-status').textContent")
    assert status == "Sorted by Score, ascending"


def test_a_name_leads_to_the_students_tests(browser: Browser) -> None:
    browser.click("#students tbody a")
    browser.wait_for("location.hash !== '' && document.querySelector(location.hash).open")


def test_fits_a_phone_without_scrolling_sideways(browser: Browser) -> None:
    browser.ask("Emulation.setDeviceMetricsOverride", **PHONE)
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    width = browser.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
