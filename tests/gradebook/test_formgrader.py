"""The formgrader in a real browser: it lists the assignment, and its button grades."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Browser, browse, needs_chromium
from coursefolder import CourseFolder

TABLE = "document.querySelector('table').innerText"
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def course(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    course = make_course()
    course.run("nbgrader", "generate_assignment", course.assignment)
    note = {"cell_type": "markdown", "id": "note", "metadata": {}}
    notebook = course.answered(generator_loss=None)
    source = "<script>document.title = 'forged'</script><b onclick='1'>bold</b> note"
    notebook["cells"].append({**note, "source": source})
    course.hand_in("ada", notebook)
    return course


@pytest.fixture(scope="module")
def server(course: CourseFolder) -> Iterator[Callable[[str], str]]:
    """Jupyter's server in the course folder; gives the address of one of its pages."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    base = f"http://127.0.0.1:{port}"
    command = course.command("jupyter_server", "--no-browser", "--allow-root")
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={token}", "--ServerApp.open_browser=False"]
    log = course.root / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=course.root, env=course.environment, stdout=file, stderr=file
        )
        try:
            _await(f"{base}/api/status?token={token}", process, log)
            yield lambda page: f"{base}/{page}?token={token}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=30):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse("about:blank", tmp_path_factory.mktemp("profile")) as browser:
        browser.ask("Emulation.setDeviceMetricsOverride", **DESKTOP)
        yield browser


def keep(browser: Browser, course: CourseFolder, name: str) -> None:
    """Leave a screenshot for whoever wants to look, where FORWARDPASS_SCREENSHOTS says."""
    folder = os.environ.get("FORWARDPASS_SCREENSHOTS")
    browser.screenshot(Path(folder or course.root, f"{name}.png"))


def test_lists_grades_and_shows_the_feedback(
    browser: Browser, server: Callable[[str], str], course: CourseFolder
) -> None:
    browser.open(server("formgrader/manage_assignments"))
    browser.wait_for(f"document.querySelector('td') && {TABLE}.includes('{course.assignment}')")
    keep(browser, course, "assignments")

    browser.open(server(f"formgrader/manage_submissions/{course.assignment}"))
    browser.wait_for("document.querySelector('td.status')?.innerText === 'needs autograding'")
    browser.click("td.autograde a")
    browser.wait_for("document.querySelector('.modal-body')?.innerText.length > 0")
    told = browser.evaluate("document.querySelector('.modal-body').innerText")
    assert "Successfully autograded" in told, told
    browser.wait_for("document.querySelector('td.status')?.innerText === 'graded'")
    assert browser.evaluate("document.querySelector('td.score').innerText") == "18 / 20"
    assert course.score("ada") == 18
    browser.evaluate("document.querySelector('.modal-footer button').click()")
    browser.wait_for("!document.querySelector('.modal-backdrop')")
    keep(browser, course, "submissions")

    browser.open(server(course.page("ada")))
    browser.wait_for("document.querySelector('#notebook-container')")
    text = browser.evaluate("document.body.innerText")
    assert "18 of 20 points" in text
    assert "is not written yet" in text
    assert "<script>document.title = 'forged'</script>" in text
    assert browser.evaluate("document.title") != "forged"
    browser.evaluate("document.querySelector('details').scrollIntoView()")
    keep(browser, course, "submission")
