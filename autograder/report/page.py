"""The report as one self-contained HTML page: no network, no files beside it."""

from __future__ import annotations

import base64
import hashlib
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from autograder.engine.verdict import PASSED, TestResult
from autograder.report.concerns import concerns_of
from autograder.report.figures import (
    Bin,
    bins_of,
    exercises_of,
    mistakes_of,
    students_of,
    tests_of,
)
from autograder.report.record import ClassRecord

TEMPLATES = Path(__file__).with_name("templates")
CHART_WIDTH, CHART_HEIGHT, BASELINE, HEADROOM = 840, 248, 212, 36
GAP, MARGIN = 8, 40


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram, in the drawing's units."""

    bin: Bin
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def render(record: ClassRecord, written: datetime) -> str:
    """The page for a class's work.

    Everything that a student could have written passes through the template's escaping; a
    content security policy allows this page's own script and no other.

    Args:
        record: what is known.
        written: shown as the page's date.
    """
    students = students_of(record)
    graded = [s for s in students if s.graded]
    exercises = exercises_of(students)
    tests = tests_of(students)
    verdicts = [e.verdict for e in record.entries if e.verdict]
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    missing: Counter[str] = Counter()
    for verdict in verdicts:
        missing.update(f"{layer} ({why})" for layer, why in verdict.sandbox["missing"].items())
    here = {s.id for s in students} | set(record.waiting)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            assignment=record.assignment,
            written=written,
            students=students,
            graded=graded,
            mean=statistics.fmean(s.score for s in graded) if graded else None,
            median=statistics.median(s.score for s in graded) if graded else None,
            max_score=max((s.max_score for s in graded), default=0.0),
            bars=bars_of(bins_of(graded)),
            exercises=exercises,
            mistakes=mistakes_of(students),
            tests=tests,
            concerns=concerns_of(students, exercises, tests, record.waiting),
            enrolled=record.enrolled,
            absent=[e for e in record.enrolled or () if not e.handed_in and e.student not in here],
            waiting=record.waiting,
            devices=Counter(device for verdict in verdicts for device in verdict.devices),
            layers=Counter(layer for verdict in verdicts for layer in verdict.sandbox["in force"]),
            missing_layers=missing,
            notebooks=len(verdicts),
            passed=PASSED,
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            chart={
                "width": CHART_WIDTH,
                "height": CHART_HEIGHT,
                "baseline": BASELINE,
                "margin": MARGIN,
            },
        )
    )
    return page + "\n"


def bars_of(bins: list[Bin]) -> list[Bar]:
    """Lay the histogram out."""
    most = max((len(b.students) for b in bins), default=0) or 1
    step = CHART_WIDTH / len(bins)
    bars = []
    for i, one in enumerate(bins):
        height = (BASELINE - HEADROOM) * len(one.students) / most
        bars.append(Bar(one, i * step + GAP / 2, BASELINE - height, step - GAP, height))
    return bars


def by_message(tests: Iterable[TestResult]) -> list[tuple[str, list[TestResult]]]:
    """Tests with the messages that they share, in the order in which the messages come up."""
    found: dict[str, list[TestResult]] = {}
    for test in tests:
        found.setdefault(test.message, []).append(test)
    return list(found.items())


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["points"] = lambda value: f"{round(value, 2):g}"
    environment.filters["by_message"] = by_message
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    environment.filters["earned"] = lambda value: "–" if value is None else f"{round(value, 2):g}"
    environment.filters["minute"] = lambda when: when[:16].replace("T", " ")
    environment.filters["signed"] = lambda value: f"{value:+.2f}".replace("-", "−")
    return environment
