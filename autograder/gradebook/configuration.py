"""nbgrader's settings under which it grades through the engine."""

from __future__ import annotations

from typing import Any

SANITIZE = (
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
)
AUTOGRADE = (
    "autograder.gradebook.preprocessors.GradeByEngine",
    "nbgrader.preprocessors.SaveAutoGrades",
    "autograder.gradebook.preprocessors.FlagForReview",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
)


def grade_by_engine(c: Any) -> None:
    """Set what makes ``nbgrader autograde`` and the formgrader's button grade by the engine.

    Args:
        c: nbgrader's configuration, as ``get_config()`` gives it in ``nbgrader_config.py``.
    """
    c.Autograde.exporter_class = "autograder.gradebook.exporter.SubmissionExporter"
    c.Autograde.sanitize_preprocessors = list(SANITIZE)
    c.Autograde.autograde_preprocessors = list(AUTOGRADE)
    c.ExchangeFactory.collect = "autograder.gradebook.collect.CollectFiles"
