"""The class report in a real browser: sorting by mouse and by keyboard, a phone's width."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autograder.engine.verdict import FAILED, PASSED, ExerciseResult, Verdict
from autograder.engine.verdict import TestResult as Outcome
from autograder.gradebook.journal import Record
from autograder.report.page import render
from autograder.report.record import ClassRecord

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip
SCORES = {"ann": 3.0, "bob": 10.0, "cyd": 0.0, "dot": 5.5}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Browser:
    """A page in Chromium, driven through its debugging protocol."""

    def __init__(self, address: str) -> None:
        websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
        self._socket = websocket.create_connection(address, timeout=30)
        self._sent = 0

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": arguments}))
        while True:
            reply: dict[str, Any] = json.loads(self._socket.recv())
            if reply.get("id") == self._sent:
                assert "error" not in reply, reply
                return dict(reply["result"])

    def evaluate(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)[
            "result"
        ].get("value")

    def wait_for(self, condition: str) -> None:
        deadline = time.monotonic() + 20
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"waited in vain for {condition}"
            time.sleep(0.02)

    def press(self, key: str, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                     windowsVirtualKeyCode=13, **typed)  # fmt: skip

    def click(self, selector: str) -> None:
        script = f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})"
        self.evaluate(script)
        box = self.evaluate(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def close(self) -> None:
        self._socket.close()


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
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        told = next(line for line in process.stderr if line.startswith("DevTools listening on"))
        port = told.split(":")[2].split("/")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            (target,) = [t for t in json.load(answer) if t["type"] == "page"]
        driven = Browser(target["webSocketDebuggerUrl"])
        driven.wait_for("document.readyState === 'complete' && document.title !== ''")
        yield driven
        driven.close()
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stderr is not None:
            process.stderr.close()


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
