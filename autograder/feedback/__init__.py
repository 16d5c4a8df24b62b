"""A verdict as a student reads it: as HTML in the notebook, and as plain text."""

from autograder.feedback.html import exercise_html, problem_html, summary_html
from autograder.feedback.text import exercise_text, verdict_text

__all__ = ["exercise_html", "exercise_text", "problem_html", "summary_html", "verdict_text"]
