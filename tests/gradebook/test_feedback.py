"""What students read: all of it, escaped, and nothing that is for the instructor."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from autograder.engine.verdict import FAILED, PASSED, UNJUDGED, ExerciseResult, Verdict
from autograder.engine.verdict import TestResult as Outcome
from autograder.feedback import exercise_html, exercise_text, problem_html, summary_html

HOSTILE = "<script>alert(1)</script> & \"'`<img src=x onerror=alert(2)>`"

HARMLESS = {
    "a href style", "br", "code style", "details", "div", "div class style", "div style",
    "pre style", "span style", "span title style", "strong", "strong style", "summary style",
}  # fmt: skip


class Tags(HTMLParser):
    """The tags of an HTML fragment with the names of their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.add(" ".join([tag, *(name for name, _ in attributes)]))


def outcome(name: str, status: str, message: str = "", device: str = "cpu") -> Outcome:
    return Outcome(name, status, 0.0 if status == FAILED else 0.5, 0.5, message, device)


@pytest.fixture
def result() -> ExerciseResult:
    tests = [
        outcome("Averages: a batch", FAILED, "It differs in 3 of 4 values."),
        outcome("Averages: one example", PASSED),
        outcome("Follows the device: a batch", UNJUDGED, "Your code looks at values.", "fake"),
    ]
    return ExerciseResult(
        "batch_mean", 1.0, 1.5, tests, mistake="a sum", hint="Divide by `n`.",
        note="Judged with a correct `n`.", flags=["uses torch.mean in cell 3"],
    )  # fmt: skip


@pytest.mark.parametrize("written", [exercise_html, exercise_text])
def test_tells_points_hint_note_and_every_test(written, result: ExerciseResult) -> None:
    shown = re.sub(r"<[^>]+>|&nbsp;", " ", written(result))
    for told in (
        "batch_mean", "1 of 1.5 points", "Divide by", "Judged with a correct", "Averages",
        "a batch", "It differs in 3 of 4 values.", "one example", "CPU", "fake GPU",
        "Follows the device", "Your code looks at values.", "not judged, points given",
    ):  # fmt: skip
        assert told in shown
    assert shown.index("Divide by") < shown.index("It differs")
    assert "torch.mean" not in shown  # flags are for the instructor
    assert "a sum" not in shown


def test_what_every_test_found_is_told_once(result: ExerciseResult) -> None:
    result.tests = [
        outcome("A: x", FAILED, "`batch_mean` is not written yet."),
        outcome("A: y", FAILED, "`batch_mean` is not written yet. (float32)"),
    ]
    assert exercise_html(result).count("is not written yet") == 1
    assert exercise_text(result).count("is not written yet") == 1


def test_the_students_own_error_is_told_once(result: ExerciseResult) -> None:
    result.error = "KeyError: 'n'\n  in cell batch_mean, line 3: n = sizes['n']"
    result.tests = [
        outcome("A: x", FAILED, f"Your code stopped with {result.error}"),
        outcome("A: y", FAILED, f"Your code stopped with {result.error} (float32)"),
    ]
    assert exercise_html(result).count("line 3") == 1
    assert exercise_text(result).count("line 3") == 1


def test_everything_is_escaped_and_nothing_runs() -> None:
    result = ExerciseResult(
        HOSTILE, 0.0, 1.0, [outcome(HOSTILE, FAILED, HOSTILE), outcome("x", FAILED, "y")],
        hint=HOSTILE, note=HOSTILE, error=HOSTILE + "!",
    )  # fmt: skip
    verdict = Verdict("ch/it", 0.0, 1.0, ["cpu"], {}, [result], [HOSTILE])
    for html in (
        exercise_html(result), summary_html(verdict, [HOSTILE]), problem_html(HOSTILE, HOSTILE)
    ):  # fmt: skip
        assert "&lt;script&gt;" in html
        assert Tags(html).found <= HARMLESS


def test_a_markdown_cell_takes_the_summary_as_one_block() -> None:
    verdict = Verdict("ch/it", 0.0, 1.0, ["cpu"], {}, [], ["stopped\n\n  in line 3"])
    assert "\n\n" not in summary_html(verdict, ["a\n\nb"])
    assert "\n\n" not in problem_html("title", "why\n\nnot")
