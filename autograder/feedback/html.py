"""Feedback as HTML fragments that stand by themselves in a notebook or a feedback page.

Only inline styles and no script, so that they look the same in nbgrader's pages and, after
its sanitizer, in JupyterLab. Everything is escaped by the templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from autograder.engine.verdict import ExerciseResult, Verdict
from autograder.feedback.outline import DEVICES, OUTCOMES, code_spans, number, outline_of

CODE_STYLE = (
    "font-family:monospace; font-size:0.94em; color:inherit; background-color:#eef1f4; "
    "padding:1px 4px; border-radius:4px"
)


def exercise_html(result: ExerciseResult) -> str:
    """One exercise: points, hint, note, tests with their outcomes, the student's own error."""
    return _template("exercise.html.j2").render(outline=outline_of(result))


def summary_html(verdict: Verdict, notes: Sequence[str] = ()) -> str:
    """The notebook's first cell: the score, each exercise's share, what was put right.

    Args:
        verdict: of the notebook.
        notes: what became of the notebook's cells, one sentence each.
    """
    devices = [DEVICES.get(device, device) for device in verdict.devices]
    return _one_block(
        _template("summary.html.j2").render(verdict=verdict, notes=notes, devices=devices)
    )


def problem_html(title: str, reason: str) -> str:
    """A notebook or an exercise that could not be graded, and why."""
    return _one_block(_template("problem.html.j2").render(title=title, reason=reason))


def with_code(text: str) -> Markup:
    """Escape a text and set what stands between backticks as code."""
    parts = [
        Markup("<code style='{}'>{}</code>").format(CODE_STYLE, part) if code else escape(part)
        for code, part in code_spans(text)
    ]
    return Markup("").join(parts)


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["with_code"] = with_code
    environment.globals["outcomes"] = OUTCOMES
    return environment.get_template(name)


def _one_block(html: str) -> str:
    """Without empty lines, at which Markdown would end the HTML block."""
    return "\n".join(line.strip() for line in html.split("\n") if line.strip())
