"""The README's table of lessons is the list of lessons."""

import re

from autograder.lesson import ROOT, all_lessons


def test_the_readme_lists_every_lesson():
    rows = re.findall(r"^\| (ch\w+) \| (\w+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(rows) == {(lesson.chapter, lesson.name) for lesson in all_lessons()}
