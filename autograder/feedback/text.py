"""Feedback as plain text, for a terminal or an editor that shows no HTML."""

from __future__ import annotations

from textwrap import indent

from autograder.engine.verdict import ERROR, FAILED, PASSED, UNJUDGED, ExerciseResult, Verdict
from autograder.feedback.outline import OUTCOMES, Case, Group, number, outline_of

SIGNS = {PASSED: "✓", FAILED: "✗", UNJUDGED: "–", ERROR: "!"}


def exercise_text(result: ExerciseResult) -> str:
    """One exercise: points, hint, note, tests with their outcomes, the student's own error."""
    outline = outline_of(result)
    lines = [f"{result.name}: {number(result.score)} of {number(result.max_score)} points"]
    lines += [f"  {told}" for told in (result.hint, result.note) if told]
    if outline.common:
        lines.append(indent(outline.common, "  "))
    for group in outline.groups:
        lines += _group_lines(group)
    if outline.error:
        lines += ["  your own error:", indent(outline.error, "    ")]
    return "\n".join(lines)


def verdict_text(verdict: Verdict) -> str:
    """A notebook: its score, and every exercise."""
    head = f"{verdict.lesson}: {number(verdict.score)} of {number(verdict.max_score)} points"
    parts = [head, *verdict.cell_errors, *(exercise_text(e) for e in verdict.exercises)]
    return "\n\n".join(parts)


def _group_lines(group: Group) -> list[str]:
    points = f"{number(group.points)}/{number(group.max_points)}"
    told = ", ".join([OUTCOMES[group.outcome], points, *group.devices])
    lines = [f"  {SIGNS[group.outcome]} {group.title} ({told})"]
    passed = [case for case in group.cases if case.outcome == PASSED]
    for case in group.cases:
        if case.outcome != PASSED:
            lines += _case_lines(case)
    if passed and len(passed) < len(group.cases):
        lines.append(f"      passed: {', '.join(case.title for case in passed)}")
    return lines


def _case_lines(case: Case) -> list[str]:
    if not case.title:
        return [indent(case.message, "      ")] if case.message else []
    head = f"    {SIGNS[case.outcome]} {case.title} ({OUTCOMES[case.outcome]})"
    return [head, indent(case.message, "        ")] if case.message else [head]
